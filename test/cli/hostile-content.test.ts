/** What comes from outside is shown safely: nothing of a model, a row or an argument is obeyed by a terminal. */
import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ingest } from '../../cli/ingest/ingest.ts';
import pg from 'pg';
import { createDatabase } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { FileFolder, llamaBytes, stringPair } from '../unit/gguf-writer.ts';
import { hartonomous } from './program.ts';
import { CTRL_D, ENTER, PseudoTerminal } from './pseudo-terminal.ts';

/** Sets the clipboard, makes a link, clears the screen, turns the text's direction, and a C1 control that begins a sequence. */
const HOSTILE = '\x1b]52;c;aGk=\x07\x1b]8;;http://evil/\x07\x1b[2J\u202e\u009b31m';
const SHOWN = '\\x1b]52;c;aGk=\\x07\\x1b]8;;http://evil/\\x07\\x1b[2J\\u202e\\x9b31m';
// eslint-disable-next-line no-control-regex
const OBEYED = /\x1b\]|\x07|\x1b\[2J|\u202e|\u009b|\x08/;

const folder = new FileFolder();
let database: TestDatabase;
let file: string;

/** A text as a byte-level vocabulary writes it. */
function byteLevel(text: string): string {
  const plain = (byte: number): boolean => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  const others = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !plain(byte));
  return Array.from(Buffer.from(text), (byte) =>
    String.fromCodePoint(plain(byte) ? byte : 256 + others.indexOf(byte)),
  ).join('');
}

const SHAPE = { dim: 4, hidden: 4, vocab: 3 };

beforeAll(async () => {
  database = await createDatabase();
  file = folder.write(
    llamaBytes(SHAPE, () => 0.01, undefined, {
      tokens: [byteLevel(HOSTILE), 'a', 'aa'],
      more: [
        stringPair('tokenizer.chat_template', `{{ messages[0].content }}${HOSTILE}`),
        stringPair('general.license', `free\n${HOSTILE}`),
      ],
    }),
  );
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await ingest(client, file, { name: 'hostile' });
  await client.end();
});
afterAll(async () => {
  await database.drop();
  folder.remove();
});

async function atTerminal(args: string[]): Promise<string> {
  const terminal = new PseudoTerminal(args, { url: database.url, columns: 200 });
  await terminal.end();
  expect(terminal.raw).not.toMatch(OBEYED);
  return terminal.raw;
}

const QUERY = `select E'\\x1b]52;c;aGk=\\x07' || chr(155) as "h\x1b]8;;ere", chr(8238) as b`;

describe('at a terminal', () => {
  test.each([
    ['an answer', ['run', 'hostile', 'a', '--temperature', '0', '--num-predict', '2'], SHOWN],
    [
      'an answer that is not wrapped',
      ['run', 'hostile', 'a', '--num-predict', '1', '--temperature', '0', '--nowordwrap'],
      SHOWN,
    ],
    ['a template', ['show', 'hostile', '--template'], SHOWN],
    ['a license', ['show', 'hostile'], SHOWN],
    ['a row', ['query', QUERY], '\\x1b]52;c;aGk=\\x07\\x9b'],
    ['JSON', ['--format', 'json', 'show', 'hostile'], '\\u009b31m'],
    ['a name that nothing has', ['show', HOSTILE], `model ${SHOWN} does not exist`],
    ['a path', ['ingest', `./${HOSTILE}`], SHOWN],
    ['a command that is none', [HOSTILE], SHOWN],
    ['an error of PostgreSQL', ['query', `select "${HOSTILE}"`], SHOWN],
  ])('%s is obeyed in nothing', async (_what, args, shown) => {
    expect(await atTerminal(args)).toContain(shown);
  });

  test('a conversation is obeyed in nothing', async () => {
    const terminal = new PseudoTerminal(['chat', 'hostile', '--num-predict', '1', '--temperature', '0'], {
      url: database.url,
      columns: 200,
    });
    await terminal.prompt();
    expect(await terminal.ask('a')).toContain(SHOWN);
    expect(await terminal.ask('/show template')).toContain(SHOWN);
    expect(await terminal.ask('/show messages')).toContain(SHOWN);
    terminal.type(CTRL_D + ENTER);
    await terminal.end();
    expect(terminal.raw).not.toMatch(/\x1b\]|\x1b\[2J|\u202e|\u009b/); // eslint-disable-line no-control-regex
  });
});

describe('in a pipe', () => {
  const run = (args: string[]) => hartonomous(args, { url: database.url });
  test('answers and templates are as they are', async () => {
    expect((await run(['run', 'hostile', 'a', '--num-predict', '1', '--temperature', '0'])).stdout).toBe(
      `${HOSTILE}\n`,
    );
    expect((await run(['show', 'hostile', '--template'])).stdout).toContain(HOSTILE);
  });

  test('JSON says the same, and tables and errors are for people', async () => {
    const { stdout } = await run(['--format', 'json', 'show', 'hostile']);
    expect(stdout).not.toMatch(OBEYED);
    expect((JSON.parse(stdout) as { license: string }).license).toBe(`free\n${HOSTILE}`);
    expect((await run(['query', QUERY])).stdout).not.toMatch(OBEYED);
    expect((await run(['show', HOSTILE])).stderr).not.toMatch(OBEYED);
  });
});

describe('an error quotes at most 200 characters', () => {
  const long = 'q'.repeat(3000);
  const folderOf = (config: unknown): string => {
    const path = folder.write(Buffer.from(JSON.stringify(config)));
    renameSync(path, join(mkdirAt(`${path}-folder`), 'config.json'));
    return `${path}-folder`;
  };
  const mkdirAt = (path: string): string => {
    mkdirSync(path);
    return path;
  };
  test.each<[string, () => string[]]>([
    ['of a model', () => ['show', long]],
    ['of a command', () => [long]],
    ['of an option', () => ['run', 'hostile', 'a', `--${long}`]],
    ['of a value', () => ['run', 'hostile', 'a', '--temperature', long]],
    ['of a run', () => ['explain', long]],
    ['of a path', () => ['ingest', `./${long}`]],
    [
      'of metadata',
      () => {
        const more = [stringPair('general.architecture', long)];
        return ['ingest', folder.write(llamaBytes(SHAPE, () => 0.01, undefined, { more }))];
      },
    ],
    ['of a configuration', () => ['ingest', folderOf({ model_type: long, architectures: [long] })]],
    ['of a host', () => ['--database-url', `postgres://a@${long}:1/a`, 'list']],
    ['of a connection', () => ['--database-url', `postgres://${long}@127.0.0.1:1/${long}`, 'list']],
    ['of a statement', () => ['query', `select "${long.slice(0, 60)}" from "${long}"`]],
  ])('%s', async (_what, args) => {
    const { code, stderr } = await hartonomous(args(), { url: database.url });
    expect(code).not.toBe(0);
    expect(stderr).not.toBe('');
    for (const run of stderr.match(/q+/g) ?? []) expect(run.length).toBeLessThanOrEqual(200);
  });
});

describe('names with control characters are refused', () => {
  test('by ingest: of the model, of a tensor', async () => {
    const { code, stderr } = await hartonomous(['ingest', file, '--name', `a${HOSTILE}b`], { url: database.url });
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('has control characters') as string,
    });
    const bytes = llamaBytes(SHAPE, () => 0.01);
    const at = bytes.indexOf('blk.0.attn_q.weight');
    bytes[at + 3] = 0x1b;
    const other = await hartonomous(['ingest', folder.write(bytes)], { url: database.url });
    expect(other).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/name of tensor "blk\\u001b0.* has control/) as string,
    });
  });

  test.each(['\x1b[2J', 'a\tb', 'a\nb', '\x7f', '\u009b', '\u202e', '\u2066'])('by SQL: %j', async (name) => {
    await expect(database.pool.query(`select hartonomous.copy_model('hostile', $1)`, [`a${name}b`])).rejects.toThrow(
      /model name must have .* control characters/,
    );
    await expect(
      database.pool.query(
        `insert into hartonomous.models (name, state, architecture, hyperparameters, tokenizer, source_format, source_digest, source_bytes, parameter_count, vocabulary_size)
         values ($1, 'ingesting', 'llama', '{}', '{}', 'gguf', '', 0, 0, 0)`,
        [`a${name}b`],
      ),
    ).rejects.toThrow(/violates check constraint "models_name_check"/);
  });

  test('and names in every script are not', async () => {
    await database.pool.query(`select hartonomous.copy_model('hostile', 'модель 模型 نموذج 👩‍🔬')`);
    expect((await hartonomous(['list'], { url: database.url })).stdout).toContain('модель 模型 نموذج 👩‍🔬');
  });
});

test('a weight that is no finite number is refused, and nothing of the model stays', async () => {
  for (const [i, value] of [NaN, Infinity, -Infinity].entries()) {
    const path = folder.write(llamaBytes(SHAPE, (at) => (at === 0 ? value : 0.01)));
    const { code, stderr } = await hartonomous(['ingest', path, '--name', `damaged-${i}`], { url: database.url });
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/tensor \S+ has a weight that is no finite number: the file is damaged/) as string,
    });
  }
  expect((await database.pool.query(`select from hartonomous.models where name like 'damaged%'`)).rowCount).toBe(0);
});

test('a password on the command line is warned of, once', async () => {
  for (const given of ['postgres://me:secret@127.0.0.1:1/x', 'dbname=x password=secret host=127.0.0.1 port=1']) {
    const { stderr } = await hartonomous(['--database-url', given, 'list']);
    expect(stderr.match(/a password on the command line/g)).toHaveLength(1);
    expect(stderr).not.toContain('secret');
  }
  const url = new URL(database.url);
  const env = { PGPASSWORD: decodeURIComponent(url.password) };
  url.password = '';
  expect((await hartonomous(['--database-url', url.toString(), 'list'], { env })).stderr).toBe('');
  expect((await hartonomous(['list'], { url: database.url })).stderr).toBe('');
});
