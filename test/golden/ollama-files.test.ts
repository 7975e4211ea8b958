/**
 * Every family of Ollama's library in files as Ollama's converter writes them, pulled from a registry: each computes what
 * the model computes whose weights it holds. The keys are those of ollama/convert; npm run test:long.
 */
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ingestModel } from '../../cli/ingest/ingest.ts';
import { findModel } from '../../cli/sources/find-model.ts';
import { hartonomous } from '../cli/program.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import { LONG } from '../long.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { ModelServer } from '../unit/model-server.ts';
import { modelPath } from './model-files.ts';
import type { MoreKeys } from './zoo-file.ts';
import { zooFile } from './zoo-file.ts';

/** What its converter gives to every file. */
const COMMON: MoreKeys = {
  'general.parameter_count': 200_000,
  'general.quantization_version': 2,
  'tokenizer.ggml.add_unknown_token': false,
  'tokenizer.ggml.add_padding_token': false,
};
const heads = (size: number): MoreKeys => ({
  'attention.head_dim': size,
  'attention.key_length': size,
  'attention.value_length': size,
});
const BERT: MoreKeys = { normalize_embeddings: true };
const PATTERN = [true, true, true, true, true, false, true];

/** File of the zoo, its further keys, and the one with the same weights where that is another. */
const FAMILIES: [file: string, more: MoreKeys, same?: string][] = [
  ['llama-untied-gqa-f32', heads(16)],
  ['llama32-ropefreqs-f32', heads(64)],
  ['qwen2-tiny-f32', {}],
  ['qwen3-tiny-f32', {}],
  ['phi3-tiny-f32', { 'attention.sliding_window': 512 }],
  ['phi3-longrope-f32', { 'attention.sliding_window': 262_144 }],
  ['gemma2-tiny-f32', { 'tokenizer.ggml.eot_token_id': 107, 'tokenizer.ggml.middle_token_id': 68 }],
  ['gemma3-tiny-f32', { 'rope.local.freq_base': 10_000, 'attention.sliding_window_pattern': PATTERN }],
  ['bert-tiny-f32', { ...BERT, 'tokenizer.ggml.strip_accents': false }],
  ['roberta-bpe-f32', BERT],
  ['ollama-xlm-roberta-f32', {}, 'xlm-roberta-f32'],
  ['nomic-bert-f32', { ...BERT, 'attention.head_count_kv': 3 }],
  ['nomic-bert-moe-f32', { ...BERT, 'attention.head_count_kv': 3 }],
  ['gemma-embedding-f32', { 'rope.freq_base_swa': 10_000 }],
  ['ollama-embeddinggemma-f32', {}, 'gemma-embedding-f32'],
  ['qwen3-embedding-f32', {}],
];
const EMBEDS = /bert|embedding/;
const IDS = Array.from({ length: 40 }, (_, i) => 3 + ((7 * i * i + 11 * i) % 500));
const TEXT = 'Naïve: the CAT saw a red ball on the grass.';

const folder = new FileFolder();
const server = new ModelServer();
const outer = { ...process.env };
let database: Awaited<ReturnType<typeof createDatabase>>;
let client: pg.Client;
let env: Record<string, string>;

beforeAll(async () => {
  await server.start();
  env = {
    OLLAMA_REGISTRY: server.url,
    HARTONOMOUS_MODELS: join(folder.path, 'cache'),
    OLLAMA_MODELS: join(folder.path, 'none'),
  };
  Object.assign(process.env, env);
  database = await createDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});

afterAll(async () => {
  process.env = outer;
  await client?.end();
  await database?.drop();
  await server.stop();
  folder.remove();
});

async function numbers(model: string): Promise<number[]> {
  const sql = EMBEDS.test(model) ? 'hartonomous.embed($1, $2)' : 'hartonomous.logits($1, $2)';
  const { rows } = await client.query<{ found: number[] }>(`select ${sql} as found`, [
    EMBEDS.test(model) ? TEXT : IDS,
    model,
  ]);
  return rows[0]!.found;
}

describe.runIf(LONG).each(FAMILIES)('%s as Ollama has it (npm run test:long)', (file, more, same = file) => {
  it('computes as the model whose weights it holds', async () => {
    server.addOllama(`library/${file}`, '1b', [
      { kind: 'model', bytes: zooFile(file, { ...COMMON, ...more }) },
      { kind: 'template', bytes: Buffer.from('{{ .Prompt }}') },
    ]);
    await ingestModel(client, await findModel(`${file}:1b`, 'ollama'));
    await ingestFile(database.url, modelPath(`zoo/${same}.gguf`), same);
    expect(await numbers(`${file}:1b`)).toEqual(await numbers(same));
  });
});

it.runIf(LONG)('ends an answer at every token that the file lists as an end (npm run test:long)', async () => {
  const first = async (model: string): Promise<{ done_reason: string; logprobs: { token_id: number }[] }> => {
    const options = { raw: true, temperature: 0, num_predict: 3, logprobs: true, record: false };
    const { rows } = await client.query<{ found: Awaited<ReturnType<typeof first>> }>(
      'select hartonomous.complete($1, $2, $3) as found',
      ['the cat', model, JSON.stringify(options)],
    );
    return rows[0]!.found;
  };
  const { token_id: next } = (await first('qwen2-tiny-f32')).logprobs[0]!;
  const bytes = zooFile('qwen2-tiny-f32', { 'tokenizer.ggml.eos_token_ids': [511, next, 4_000_000] });
  await ingestFile(database.url, folder.write(bytes), 'ends');
  expect(await first('ends')).toMatchObject({ done_reason: 'stop', logprobs: [] });
});

it.runIf(LONG)('is told its licenses and what of its manifest is not read (npm run test:long)', async () => {
  server.addOllama('library/licensed', '1b', [
    { kind: 'model', bytes: zooFile('qwen2-tiny-f32', COMMON) },
    { kind: 'license', bytes: Buffer.from('MIT License\n\nCopyright') },
    { kind: 'license', bytes: Buffer.from('Acceptable Use Policy') },
    { kind: 'projector', bytes: Buffer.from('of pictures') },
  ]);
  const options = { url: database.url, env };
  const ingested = await hartonomous(['ingest', 'licensed:1b'], options);
  expect(ingested.stdout).toMatch(/^ingested licensed:1b: .*, license MIT License\n/);
  expect(ingested.stdout).toContain('layers of its manifest that are not read: projector');
  const shown = await hartonomous(['show', 'licensed:1b', '--license'], options);
  expect(shown.stdout).toBe('MIT License\n\nCopyright\n\nAcceptable Use Policy\n');
  const { rows } = await client.query(`select license from hartonomous.model_list where name = 'licensed:1b'`);
  expect(rows).toEqual([{ license: 'MIT License' }]);
});
