import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import pg from 'pg';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CommandError } from '../../cli/errors.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { verify } from '../../cli/ingest/verify.ts';
import {
  FileFolder,
  arrayPair,
  ggufBytes,
  llamaBytes,
  pair,
  string,
  stringPair,
  u32,
  usualMetadata,
} from '../unit/gguf-writer.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const model = modelPath;
const Q8 = model('llama-260k/llama-260k-q8_0.gguf');
const F16 = model('llama-260k/llama-260k-f16.gguf');
const QWEN = model('zoo/qwen2-tiny-f32.gguf');

const folder = new FileFolder();
afterAll(() => folder.remove());

let database: TestDatabase;
let client: pg.Client;
beforeEach(async () => {
  database = await createDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});
afterEach(async () => {
  await client.end().catch(() => undefined);
  await database.drop();
});

async function query(sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  return (await database.pool.query(sql, values)).rows as Record<string, unknown>[];
}

/** Rows of every table that a model lives in. */
async function counts(): Promise<Record<string, unknown>> {
  const [row] = await query(
    `select (select count(*) from hartonomous.atoms)::int as atoms, (select count(*) from hartonomous.compositions)::int as compositions,
       (select count(*) from hartonomous.relations)::int as relations, (select count(*) from hartonomous.tokens)::int as tokens,
       (select count(*) from hartonomous.weight_matrices)::int as matrices, (select count(*) from hartonomous.models)::int as models`,
  );
  return row as Record<string, unknown>;
}

async function expectHealthy(): Promise<void> {
  expect(await query('select * from hartonomous.check_integrity()')).toEqual([]);
}

describe('ingest', () => {
  test('stores a model whose tensors, put together again, are the bytes of the file', async () => {
    const result = await ingest(client, Q8);
    expect(result).toMatchObject({ name: 'llama-260k-q8_0', alreadyThere: false, tensors: 47, tokens: 512 });
    expect(result.digest).toBe(createHash('sha256').update(readFileSync(Q8)).digest('hex'));
    expect(await verify(client, 'llama-260k-q8_0')).toMatchObject({ tensors: 47, file: Q8, differences: [] });
    await expectHealthy();
    const [status] = await query(
      `select tokens::int, embeddings::int, weights::int, layers::int from hartonomous.status where model is not null`,
    );
    expect(status).toEqual({ tokens: 512, embeddings: 512, weights: 47, layers: 5 });
  });

  test('keeps every token as its bytes, in order', async () => {
    await ingest(client, QWEN);
    const [row] = await query(
      `select count(*)::int as wrong from hartonomous.atoms t
       where t.kind = 'token' and t.content <> coalesce((select string_agg(b.content, '' order by c.ordinal)
         from hartonomous.compositions c join hartonomous.atoms b on b.kind = 'byte' and b.id = c.child_id
         where c.parent_kind = 'token' and c.parent_id = t.id), '')`,
    );
    expect(row).toEqual({ wrong: 0 });
  });

  test('of the same file again stores nothing', async () => {
    await ingest(client, Q8);
    const before = await counts();
    expect(await ingest(client, Q8)).toMatchObject({ alreadyThere: true, sentBytes: 0 });
    expect(await counts()).toEqual(before);
  });

  test('under a second name shares every atom', async () => {
    await ingest(client, Q8);
    const before = await counts();
    expect(await ingest(client, Q8, { name: 'twin' })).toMatchObject({ alreadyThere: false, sentBytes: 0 });
    expect(await counts()).toMatchObject({ atoms: before.atoms, compositions: before.compositions, models: 2 });
    await expectHealthy();
    await query(`select hartonomous.remove_model('llama-260k-q8_0')`);
    expect((await verify(client, 'twin')).differences).toEqual([]);
    await expectHealthy();
  });

  test('refuses another file of the same name unless told to replace', async () => {
    await ingest(client, Q8, { name: 'm' });
    const refused = ingest(client, F16, { name: 'm' });
    await expect(refused).rejects.toThrow(/model m exists/);
    await expect(refused).rejects.toBeInstanceOf(CommandError);
    const result = await ingest(client, F16, { name: 'm', replace: true });
    expect(await query('select name, digest from hartonomous.model_list')).toEqual([
      { name: 'm', digest: result.digest },
    ]);
    expect((await verify(client, 'm')).differences).toEqual([]);
    await expectHealthy();
  });

  test('removed leaves nothing but the bytes', async () => {
    await ingest(client, Q8);
    await ingest(client, QWEN);
    await query(`select hartonomous.remove_model('llama-260k-q8_0')`);
    await expectHealthy();
    await query(`select hartonomous.remove_model('qwen2-tiny-f32')`);
    expect(await counts()).toEqual({ atoms: 256, compositions: 0, relations: 0, tokens: 0, matrices: 0, models: 0 });
    await expectHealthy();
  });

  test('cut off at any moment shows no model, stays consistent, and goes on where it was', async () => {
    const total = 329_952;
    let sent = 0;
    for (const stop of [1, 60_000, 200_000]) {
      const victim = new pg.Client({ connectionString: database.url });
      await victim.connect();
      victim.on('error', () => undefined);
      const pid = (victim as pg.Client & { processID: number }).processID;
      let killed: Promise<unknown> | null = null;
      const broken = ingest(victim, Q8, {
        batchBytes: 10_000,
        onProgress: (phase, done) => {
          if (phase === 'tensors' && done >= stop)
            killed ??= database.pool.query('select pg_terminate_backend($1, 10000)', [pid]);
        },
      });
      await expect(broken).rejects.toThrow();
      await killed;
      await victim.end().catch(() => undefined);
      expect(await query('select name from hartonomous.model_list')).toEqual([]);
      await expectHealthy();
      const [row] = await query(
        `select coalesce(sum(size_bytes), 0)::int as bytes from hartonomous.atoms where kind = 'tile'`,
      );
      expect(row?.bytes).toBeGreaterThanOrEqual(sent);
      sent = row?.bytes as number;
    }
    expect(sent).toBeGreaterThan(0);
    const result = await ingest(client, Q8);
    expect(result.sentBytes).toBeLessThanOrEqual(total - sent);
    expect((await verify(client, 'llama-260k-q8_0')).differences).toEqual([]);
    await expectHealthy();
  });

  test('cut off inside a tensor does not send its committed tiles again', async () => {
    let state = 1;
    const noise = (): number => ((state = (state * 48271) % 0x7fffffff) % 1000) / 1000;
    const file = folder.write(llamaBytes({ dim: 256, hidden: 256, vocab: 8192 }, noise), 'noise.gguf');
    const stopAfter = new AbortController();
    const broken = ingest(client, file, {
      batchBytes: 1 << 20,
      signal: stopAfter.signal,
      onProgress: (phase, done) => {
        if (phase === 'tensors' && done >= 3 << 20) stopAfter.abort();
      },
    });
    await expect(broken).rejects.toThrow(/abort/);
    const [left] = await query(
      `select (select count(*) from hartonomous.ingest_tiles)::int as tiles,
         (select sum(size_bytes) from hartonomous.atoms where kind = 'tile')::int as bytes`,
    );
    expect(left).toMatchObject({ tiles: 3, bytes: 3 << 20 });
    expect(await query('select name from hartonomous.weight_matrices')).toEqual([]);
    await expectHealthy();
    const result = await ingest(client, file);
    expect(result.sentBytes).toBe(result.bytes - (3 << 20));
    expect((await verify(client, 'noise')).differences).toEqual([]);
    expect(await query('select * from hartonomous.ingest_tiles')).toEqual([]);
    await expectHealthy();
  });

  test('keeps tensors of equal bytes and other row lengths apart, though they share their tiles', async () => {
    const file = folder.write(
      llamaBytes({ dim: 768, hidden: 1000, vocab: 2 }, () => 0.01),
      'equal.gguf',
    );
    await ingest(client, file);
    const [shared] = await query(
      `select count(*)::int as matrices, count(distinct atom_id)::int as atoms from hartonomous.weight_matrices where role like 'ffn_%' and role <> 'ffn_norm'`,
    );
    expect(shared).toEqual({ matrices: 3, atoms: 1 });
    expect((await verify(client, 'equal')).differences).toEqual([]);
    const [row] = await query(`select hartonomous.logits(array[0, 1]) as logits`);
    // Every weight is 0.01 and the residual stream constant, so both tokens get the same logit.
    const logits = row?.logits as number[];
    expect(logits).toHaveLength(2);
    expect(logits[0]).toBe(logits[1]);
    expect(logits[0]).toBeGreaterThan(0);
  });

  test('stores rows longer than a tile in pieces', async () => {
    let i = 0;
    const file = folder.write(
      llamaBytes({ dim: 4, hidden: 300_000, vocab: 2 }, () => (i++ % 7) / 7000),
      'long.gguf',
    );
    await ingest(client, file);
    const [largest] = await query(`select max(size_bytes)::int as bytes from hartonomous.atoms where kind = 'tile'`);
    expect(largest?.bytes).toBeLessThanOrEqual(1 << 20);
    expect((await verify(client, 'long')).differences).toEqual([]);
    const [row] = await query(`select hartonomous.logits(array[0, 1]) as logits`);
    expect((row?.logits as number[]).every(Number.isFinite)).toBe(true);
    await expectHealthy();
  });

  test('twice at once waits for the other and finds the work done', async () => {
    let waited = 0;
    const other = new pg.Client({ connectionString: database.url });
    await other.connect();
    const results = await Promise.all([client, other].map((each) => ingest(each, Q8, { onWait: () => waited++ })));
    await other.end();
    expect(waited).toBe(1);
    expect(results.filter((result) => result.alreadyThere)).toHaveLength(1);
    await expectHealthy();
  });

  test('takes the place of an abandoned attempt with another file', async () => {
    await query(
      `insert into hartonomous.models (name, state, architecture, hyperparameters, tokenizer, source_format, source_digest, source_bytes,
         parameter_count, vocabulary_size) values ('llama-260k-q8_0', 'ingesting', 'llama', '{}', '{}', 'gguf', '\\x00', 1, 1, 1)`,
    );
    await ingest(client, Q8);
    expect(await query('select name, state from hartonomous.models')).toEqual([
      { name: 'llama-260k-q8_0', state: 'ready' },
    ]);
    await expectHealthy();
  });

  test('works for hartonomous_admin', async () => {
    await client.query('set role hartonomous_admin');
    await ingest(client, Q8);
    expect((await verify(client, 'llama-260k-q8_0')).differences).toEqual([]);
    expect((await client.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
    await client.query(`select hartonomous.remove_model('llama-260k-q8_0')`);
    await expectHealthy();
  });
});

describe('a file that is no model for us', () => {
  const withMetadata = (replaced: string, ...pairs: Buffer[]): Buffer =>
    ggufBytes({ metadata: [...usualMetadata().filter((each) => !each.includes(Buffer.from(replaced))), ...pairs] });

  test.each([
    [
      'another architecture',
      withMetadata('general.architecture', stringPair('general.architecture', 'mamba')),
      /architecture mamba is not supported/,
    ],
    ['no architecture', withMetadata('general.architecture'), /no general.architecture/],
    ['no vocabulary', withMetadata('tokenizer.ggml.tokens'), /no tokenizer.ggml.tokens/],
    [
      'a type the engine cannot compute',
      ggufBytes({ tensors: [{ name: 'token_embd.weight', shape: [256, 1], type: 16, offset: 0 }], dataBytes: 256 }),
      /tensor token_embd.weight has type IQ2_XXS/,
    ],
    [
      'scores of another length',
      withMetadata('none', arrayPair('tokenizer.ggml.scores', 6, [u32(0)])),
      /tokenizer.ggml.scores has 1 values/,
    ],
    ['a merge without a space', withMetadata('none', arrayPair('tokenizer.ggml.merges', 8, [string('ab')])), /merge 0/],
    [
      'tokens that are numbers',
      withMetadata('tokenizer.ggml.tokens', pair('tokenizer.ggml.tokens', 4, u32(1))),
      /tokenizer.ggml.tokens/,
    ],
    [
      'an unknown tokenizer',
      withMetadata('none', stringPair('tokenizer.ggml.model', 'rwkv')),
      /tokenizer.ggml.model is "?rwkv/,
    ],
    [
      'an unknown splitting of words',
      withMetadata('none', stringPair('tokenizer.ggml.model', 'gpt2'), stringPair('tokenizer.ggml.pre', 'nope')),
      /tokenizer.ggml.pre is "nope"/,
    ],
    [
      'a token type that does not exist',
      withMetadata('none', arrayPair('tokenizer.ggml.token_type', 5, [u32(1), u32(9)])),
      /token_type\[1\] is 9/,
    ],
    [
      'a tensor that is missing',
      Buffer.from(
        llamaBytes({ dim: 8, hidden: 8, vocab: 2 }, () => 0)
          .toString('latin1')
          .replace('ffn_gate', 'ffn_gaze'),
        'latin1',
      ),
      /no tensor blk.0.ffn_gate.weight/,
    ],
    [
      'a tensor of another shape',
      Buffer.from(
        llamaBytes({ dim: 8, hidden: 8, vocab: 2 }, () => 0)
          .toString('latin1')
          .replace('ffn_gate', 'ffn_xxxx')
          .replace('ffn_norm', 'ffn_gate')
          .replace('ffn_xxxx', 'ffn_norm'),
        'latin1',
      ),
      /tensor blk.0.ffn_norm.weight has shape 8 x 8, expected 8 x 1/,
    ],
  ])('with %s is refused and leaves nothing', async (_title, bytes, message) => {
    await expect(ingest(client, folder.write(bytes))).rejects.toThrow(message);
    expect(await counts()).toMatchObject({ models: 0, atoms: 256 });
    await expectHealthy();
  });

  test('that does not exist is named', async () => {
    await expect(ingest(client, '/nowhere/model.gguf')).rejects.toThrow(/\/nowhere\/model.gguf/);
  });

  test('cut short is refused by the tensor that is missing bytes', async () => {
    const bytes = readFileSync(Q8);
    await expect(ingest(client, folder.write(bytes.subarray(0, bytes.length - 1000)))).rejects.toThrow(
      /tensor \S+ needs bytes \d+ to \d+, file has \d+/,
    );
    expect(await counts()).toMatchObject({ models: 0, atoms: 256 });
  });
});

describe('check_integrity and verify', () => {
  test.each([
    [
      'a wrong reference count',
      `update hartonomous.atoms set ref_count = ref_count + 1 where kind = 'byte' and id = 97`,
      'ref_count',
    ],
    [
      'an atom nobody refers to',
      `insert into hartonomous.atoms (kind, hash, size_bytes, content) values ('tile', sha256('x'), 1, 'x')`,
      'orphan',
    ],
    [
      'content that is not its hash',
      `update hartonomous.atoms set content = set_byte(content, 0, get_byte(content, 0) # 1) where kind = 'tile' and id = (select min(id) from hartonomous.atoms where kind = 'tile')`,
      'content',
    ],
    [
      'a lost part of a token',
      `delete from hartonomous.compositions where parent_kind = 'token' and ordinal = 0 and parent_id = (select max(parent_id) from hartonomous.compositions where parent_kind = 'token')`,
      'size',
    ],
    ['a lost token', `delete from hartonomous.tokens where token_id = 5`, 'vocabulary'],
    [
      'a digest that is not the matrix',
      `update hartonomous.weight_matrices set digest = sha256('x') where name = 'output_norm.weight'`,
      'matrix',
    ],
  ])('report %s', async (_title, damage, checkName) => {
    await ingest(client, Q8);
    await query(damage);
    const found = await query('select check_name from hartonomous.check_integrity()');
    expect(found.map((row) => row.check_name)).toContain(checkName);
  });

  test('name the tensor whose bytes changed', async () => {
    await ingest(client, Q8);
    await query(
      `update hartonomous.atoms a set content = set_byte(content, 3, get_byte(content, 3) # 1)
       from hartonomous.compositions c join hartonomous.weight_matrices m on m.atom_id = c.parent_id and c.parent_kind = 'composite'
       where a.kind = 'tile' and a.id = c.child_id and m.name = 'blk.2.ffn_up.weight'`,
    );
    const { differences } = await verify(client, 'llama-260k-q8_0');
    expect(differences).toHaveLength(1);
    expect(differences[0]).toMatch(/^tensor blk.2.ffn_up.weight has SHA-256/);
  });

  test('tell a source file that has changed since', async () => {
    const bytes = readFileSync(Q8);
    const file = folder.write(bytes, 'changing.gguf');
    await ingestFile(database.url, file, 'changing');
    bytes[bytes.length - 40] = (bytes[bytes.length - 40] as number) ^ 1;
    writeFileSync(file, bytes);
    const { differences } = await verify(client, 'changing');
    expect(differences.some((line) => line.includes('the model came from'))).toBe(true);
    expect(differences.some((line) => line.startsWith('tensor '))).toBe(true);
  });
});
