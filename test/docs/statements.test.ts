/**
 * Statements and commands of README.md and docs/ do what they say: each statement runs in psql as it is printed, in the order
 * of its page, with the bundled model; what stands behind `-->` is what it prints. So do commands, and they have the options that are named.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { postgresBin } from '../../cli/cluster/cluster.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { hartonomous } from '../cli/program.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';

const ROOT = packageRoot();
const PAGES = [
  'README.md',
  ...readdirSync(join(ROOT, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : [])),
];

/** Statements that need what a test database has not, by their beginnings. */
const ELSEWHERE: readonly (readonly [page: string, beginning: string, why: string])[] = [
  ['docs/host.md', 'create extension', 'is there already; test/db/install.test.ts'],
  ['docs/reliability.md', 'create ', 'a server without our roles; test/db/backup.test.ts'],
  ['docs/reliability.md', 'grant ', 'a server without our roles; test/db/backup.test.ts'],
  ['docs/scaling.md', 'select * from hartonomous.cluster_generate', 'several servers; test/scale'],
  ['docs/bi.md', 'select count(hartonomous.', 'a minute on a quiet machine: seventy answers, 1,203 explanations'],
  ['docs/bi.md', 'select count(*) from hartonomous.run_list', 'the same: attention of five of them'],
];

/** Commands that need more than a database, or do not end, by their beginnings. */
const COMMANDS_ELSEWHERE: readonly (readonly [page: string, beginning: string, why: string])[] = [
  ['docs/bi.md', 'up', 'a private server; test/cli/cluster.test.ts'],
  ['docs/managed.md', 'ingest MODEL', 'any model; test/db/ingest.test.ts'],
  ['docs/scaling.md', 'cluster add', 'several servers; test/scale'],
  ['docs/search.md', 'work --follow', 'does not end; test/faults/search.test.ts'],
  ['docs/serve.md', 'serve', 'does not end; test/cli/serve-faults.test.ts'],
];

/** Sections whose statements need what not every server has. */
const WITH_PGVECTOR = { page: 'docs/search.md', section: 'By hand, with pgvector' };

/** Statements about roles, which the whole server has: they run, and are taken back. */
const OF_ROLES = /^(create role|alter role|select hartonomous\.grant_(usage|runs))\b/;

interface Statement {
  line: number;
  /** heading above it */
  section: string;
  sql: string;
  /** what stands behind `-->` */
  printed: string | undefined;
}

const BEGINS = /^(select|create|insert|update|delete|with|set|grant|alter|call|\\set)\b/;
const COMMAND = /^(?:npx )?hartonomous (\w+)(.*)$/;

interface Page {
  statements: Statement[];
  /** Lines that call the program. */
  commands: { line: number; command: string; rest: string }[];
}

/** Code is indented by four, or fenced; a statement ends with a semicolon or \gset, \set with its line. */
function readPage(name: string): Page {
  const page: Page = { statements: [], commands: [] };
  let fenced = false;
  let open: string[] = [];
  let section = '';
  readFileSync(join(ROOT, name), 'utf8')
    .split('\n')
    .forEach((text, i) => {
      if (text.startsWith('```')) {
        fenced = !fenced;
        return;
      }
      if (!fenced) section = /^#+ (.*)/.exec(text)?.[1] ?? section;
      if (!fenced && !text.startsWith('    ')) return;
      const code = text.trim();
      const command = COMMAND.exec(code);
      if (open.length === 0 && command !== null) {
        page.commands.push({ line: i + 1, command: command[1]!, rest: command[2]! });
        return;
      }
      if (open.length === 0 && !BEGINS.test(code)) return;
      const [sql, comment] = code.split(/\s+--(?=[ >])/, 2) as [string, string | undefined];
      open.push(sql);
      // A function's body has statements of its own.
      if (open.join('\n').split('$$').length % 2 === 0) return;
      if (!/(;|\\gset)$/.test(sql) && !sql.startsWith('\\set')) return;
      const printed = comment?.startsWith('> ') === true ? comment.slice(2) : undefined;
      page.statements.push({ line: i + 1, section, sql: open.join('\n'), printed });
      open = [];
    });
  if (open.length > 0) throw new Error(`${name}: a statement does not end: ${open.join(' ')}`);
  return page;
}

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, join(ROOT, 'models/tiny/hartonomous-tiny-q8_0.gguf'), 'tiny');
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'minilm');
  await database.pool.query(`
    select hartonomous.set_default_model('tiny');
    create table docs (id integer, body text);
    insert into docs values (1, 'Rabbits are quiet. They live in the ground.');
    create table mails (id integer, body text);
    insert into mails values (1, 'You won.'), (2, 'See you at noon.');
    select hartonomous.chat('[{"role": "user", "content": "how are you?"}]', options => '{"temperature": 0}');
  `);
});

afterAll(() => database.drop());

/** What psql prints for each of some statements; the first that fails ends it with its message. */
function printed(statements: readonly Statement[]): string[] {
  const script = statements.map(({ sql }, i) => {
    const [before, here, after] = [i - 1, i, i + 1].map((at) => OF_ROLES.test(statements[at]?.sql ?? ''));
    return `\\echo @@@\n${here && !before ? 'begin;\n' : ''}${sql}\n${here && !after ? 'rollback;\n' : ''}`;
  });
  const psql = join(postgresBin(), 'psql');
  const args = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', database.url];
  const out = execFileSync(psql, args, {
    input: script.join(''),
    encoding: 'utf8',
    cwd: ROOT,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return out
    .split('@@@\n')
    .slice(1)
    .map((rows) => rows.trimEnd().split('\n').join('; '));
}

const needsPgvector = (page: string, { section }: Statement): boolean =>
  page === WITH_PGVECTOR.page && section === WITH_PGVECTOR.section;

const pages = PAGES.map((name) => {
  const { statements, commands } = readPage(name);
  const elsewhere = ELSEWHERE.filter(([page]) => page === name);
  const here = statements.filter(
    (each) => !needsPgvector(name, each) && !elsewhere.some(([, beginning]) => each.sql.startsWith(beginning)),
  );
  return { name, statements: here, commands };
});

function expectAsPrinted(statements: readonly Statement[]): void {
  const found = printed(statements);
  expect(found).toHaveLength(statements.length);
  statements.forEach(({ line, printed: expected }, i) => {
    if (expected !== undefined) expect(found[i], `line ${line}`).toBe(expected);
  });
}

test.each(pages.filter(({ statements }) => statements.length > 0))(
  'statements of $name run as printed',
  ({ statements }) => expectAsPrinted(statements),
);

test('statements of the recipe with pgvector in docs/search.md run as printed', async (context) => {
  const statements = readPage(WITH_PGVECTOR.page).statements.filter((each) => needsPgvector(WITH_PGVECTOR.page, each));
  expect(statements.length).toBeGreaterThan(5);
  const { rowCount } = await database.pool.query(`select from pg_available_extensions where name = 'vector'`);
  if (rowCount === 0) return context.skip('this PostgreSQL has no extension vector');
  const dimensions = `select cardinality(hartonomous.embed('a', 'minilm')) as n`;
  const { rows } = await database.pool.query<{ n: number }>(dimensions);
  expectAsPrinted(
    statements.map((each) => ({ ...each, sql: each.sql.replace('vector(384)', `vector(${rows[0]!.n})`) })),
  );
});

test.each(pages.filter(({ commands }) => commands.length > 0))(
  'commands of $name and their options are there, and run as printed',
  async ({ name, commands }) => {
    const folder = mkdtempSync(join(tmpdir(), 'hartonomous-docs-'));
    symlinkSync(join(ROOT, 'models'), join(folder, 'models'));
    const { rows } = await database.pool.query<{ run: string }>('select max(id) as run from hartonomous.run_list');
    for (const { line, command, rest } of commands) {
      const { stdout, code } = await hartonomous([command, '--help']);
      expect(code, `line ${line}`).toBe(0);
      for (const option of rest.match(/--[a-z-]+/g) ?? []) expect(stdout, `line ${line}: ${command}`).toContain(option);
      const words = `${command}${rest}`;
      if (COMMANDS_ELSEWHERE.some(([page, beginning]) => page === name && words.startsWith(beginning))) continue;
      const program = `'${process.execPath}' '${join(ROOT, 'dist/cli/main.js')}'`;
      const env = { ...process.env, DATABASE_URL: database.url };
      execFileSync('sh', ['-c', `${program} ${words.replace('--run 12', `--run ${rows[0]!.run}`)}`], {
        cwd: folder,
        env,
        stdio: 'pipe',
      });
    }
    rmSync(folder, { recursive: true });
  },
);

test('README has statements that say what they print, and each page says something', () => {
  expect(readPage('README.md').statements.filter(({ printed: said }) => said !== undefined)).toHaveLength(6);
  for (const [page, beginning] of ELSEWHERE) {
    expect(
      readPage(page).statements.some(({ sql }) => sql.startsWith(beginning)),
      `${page}: ${beginning}`,
    ).toBe(true);
  }
  for (const [page, beginning] of COMMANDS_ELSEWHERE) {
    const found = readPage(page).commands.some(({ command, rest }) => `${command}${rest}`.startsWith(beginning));
    expect(found, `${page}: ${beginning}`).toBe(true);
  }
});

test('docs/README.md leads to every page', () => {
  const map = readFileSync(join(ROOT, 'docs/README.md'), 'utf8');
  for (const page of PAGES.slice(1))
    if (page !== 'docs/README.md') expect(map).toContain(`(${page.slice('docs/'.length)})`);
});
