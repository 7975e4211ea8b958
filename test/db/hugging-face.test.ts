import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exportModel } from '../../cli/ingest/export.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { verify } from '../../cli/ingest/verify.ts';
import { modelPath } from '../golden/model-files.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { writeHuggingFaceFolder } from '../unit/hugging-face-writer.ts';
import { createDatabase } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const LLAMA = modelPath('zoo/llama-untied-gqa-f32.gguf');
const QWEN = modelPath('zoo/qwen2-tiny-f32.gguf');
const TEXTS = ['Once upon a time, there was a', ' two  spaces', 'It\'s 1234 "quoted"\n\nlines', 'a', ''];

const folder = new FileFolder();
let database: TestDatabase;
let client: pg.Client;
beforeAll(async () => {
  database = await createDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  writeHuggingFaceFolder(LLAMA, join(folder.path, 'llama'));
  await ingest(client, LLAMA, { name: 'llama-gguf' });
  await ingest(client, join(folder.path, 'llama'), { name: 'llama-hf' });
  await ingest(client, QWEN, { name: 'qwen-gguf' });
});
afterAll(async () => {
  await client.end();
  await database.drop();
  folder.remove();
});

async function sameTexts(one: string, other: string): Promise<void> {
  for (const text of TEXTS) {
    const { rows } = await client.query('select hartonomous.tokenize($1, $2) as a, hartonomous.tokenize($1, $3) as b', [
      text,
      one,
      other,
    ]);
    expect(rows[0].b, text).toEqual(rows[0].a);
  }
}

async function logits(model: string, ids: number[]): Promise<number[]> {
  const { rows } = await client.query<{ logits: number[] }>('select hartonomous.logits($1, $2) as logits', [
    ids,
    model,
  ]);
  return rows[0]!.logits;
}

function expectClose(found: number[], expected: number[]): void {
  const scale = Math.max(...expected.map(Math.abs));
  expect(found).toHaveLength(expected.length);
  expect(Math.max(...found.map((value, i) => Math.abs(value - expected[i]!))) / scale).toBeLessThan(1e-4);
}

test('a llama gives the same ids and logits from SafeTensors as from GGUF, though its rows are not permuted', async () => {
  await sameTexts('llama-gguf', 'llama-hf');
  const ids = [1, 147, 300, 45, 412, 90, 7, 200];
  expectClose(await logits('llama-hf', ids), await logits('llama-gguf', ids));
  expect((await verify(client, 'llama-hf')).differences).toEqual([]);
});

test('its tensors are stored as they are in the file, those that GGUF does not permute only once', async () => {
  const { rows } = await client.query<{ shared: number }>(
    `select count(*)::int as shared from hartonomous.weight_matrices a join hartonomous.weight_matrices b using (name)
     join hartonomous.models m on m.id = a.model_id and m.name = 'llama-hf'
     join hartonomous.models n on n.id = b.model_id and n.name = 'llama-gguf'
     where a.atom_id = b.atom_id`,
  );
  expect(rows[0]!.shared).toBe(3 + 2 * 7);
});

test.each([
  ['one file and tokenizer.json', 1, true],
  ['three files and an index', 3, true],
  ['vocab.json and merges.txt', 1, false],
])('a qwen2 of %s is the model of the GGUF file', async (title, shards, withTokenizerJson) => {
  const path = join(folder.path, title.replaceAll(' ', '-'));
  writeHuggingFaceFolder(QWEN, path, { shards, separateVocabulary: !withTokenizerJson });
  const result = await ingest(client, path);
  expect(result.sentBytes).toBe(0);
  await sameTexts('qwen-gguf', result.name);
  expect(await logits(result.name, [5, 6, 7, 100])).toEqual(await logits('qwen-gguf', [5, 6, 7, 100]));
  const { rows } = await client.query(
    'select source_format, default_options, chat_template from hartonomous.models where name = $1',
    [result.name],
  );
  expect(rows[0]).toEqual({
    source_format: 'safetensors',
    default_options: { temperature: 0.5, top_k: 7, repeat_penalty: 1.5 },
    chat_template: '{{ messages }}',
  });
  const out = join(folder.path, `out-${shards}-${withTokenizerJson}`);
  await exportModel(client, result.name, out);
  expect(readdirSync(out)).toEqual(readdirSync(path));
  for (const name of readdirSync(path))
    expect(readFileSync(join(out, name)).equals(readFileSync(join(path, name)))).toBe(true);
  expect((await verify(client, result.name)).differences).toEqual([]);
  expect((await ingest(client, path)).alreadyThere).toBe(true);
});

test.each(['qwen3', 'phi3', 'gemma2', 'gemma3', 'gpt2', 'bert'])(
  'a %s is the same model from SafeTensors as from GGUF, and comes out again as it was',
  async (architecture) => {
    const gguf = modelPath(`zoo/${architecture}-tiny-f32.gguf`);
    const path = join(folder.path, `${architecture}-hf`);
    writeHuggingFaceFolder(gguf, path);
    await ingest(client, gguf, { name: `${architecture}-gguf` });
    await ingest(client, path, { name: `${architecture}-hf` });
    await sameTexts(`${architecture}-gguf`, `${architecture}-hf`);
    // Longer than the windows of the gemmas.
    const text = 'Once upon a time there was a little girl who liked to play in the park with a big red ball.';
    if (architecture === 'bert') {
      const embedding = async (model: string): Promise<number[]> =>
        (await client.query<{ e: number[] }>('select hartonomous.embed($1, $2) as e', [text, model])).rows[0]!.e;
      expectClose(await embedding('bert-hf'), await embedding('bert-gguf'));
    } else {
      const { rows } = await client.query<{ ids: number[] }>('select hartonomous.tokenize($1, $2) as ids', [
        text,
        `${architecture}-gguf`,
      ]);
      expectClose(await logits(`${architecture}-hf`, rows[0]!.ids), await logits(`${architecture}-gguf`, rows[0]!.ids));
    }
    const out = join(folder.path, `${architecture}-out`);
    await exportModel(client, `${architecture}-hf`, out);
    for (const name of readdirSync(path))
      expect(readFileSync(join(out, name)).equals(readFileSync(join(path, name))), name).toBe(true);
    expect((await verify(client, `${architecture}-hf`)).differences).toEqual([]);
  },
);

test('WordPiece is the same from vocab.txt, and a Sentence Transformers folder says how texts are embedded', async () => {
  const path = join(folder.path, 'sentence-transformer');
  writeHuggingFaceFolder(modelPath('zoo/bert-tiny-f32.gguf'), path, { separateVocabulary: true });
  const write = (name: string, value: unknown): void => writeFileSync(join(path, name), JSON.stringify(value));
  mkdirSync(join(path, '1_Pooling'));
  const type = (name: string): { type: string } => ({ type: `sentence_transformers.models.${name}` });
  write('modules.json', [type('Transformer'), type('Pooling')]);
  write('1_Pooling/config.json', { pooling_mode_cls_token: true, pooling_mode_mean_tokens: false });
  write('sentence_bert_config.json', { max_seq_length: 16 });
  await ingest(client, path, { name: 'sentences' });
  await sameTexts('bert-gguf', 'sentences');
  const { rows } = await client.query(
    `select hartonomous.embed('Hello world', 'sentences') = hartonomous.embed('Hello world', 'bert-gguf', '{"pooling": "cls", "normalize": false}') as same,
       hartonomous.embed(repeat('a ', 40), 'sentences') = hartonomous.embed(repeat('a ', 14), 'sentences') as cut`,
  );
  expect(rows[0]).toEqual({ same: true, cut: true });
  const out = join(folder.path, 'sentences-out');
  await exportModel(client, 'sentences', out);
  expect(readFileSync(join(out, '1_Pooling/config.json'))).toEqual(readFileSync(join(path, '1_Pooling/config.json')));
  write('modules.json', [type('Transformer'), type('Pooling'), type('Dense')]);
  await expect(ingest(client, path, { name: 'dense' })).rejects.toThrow(
    'modules.json has a module "Dense", which is not supported',
  );
});

test('a Sentence Transformers folder says what goes before queries, documents and other texts', async () => {
  const path = join(folder.path, 'prompts');
  writeHuggingFaceFolder(modelPath('zoo/bert-tiny-f32.gguf'), path);
  const write = (name: string, value: unknown): void => writeFileSync(join(path, name), JSON.stringify(value));
  const said = (prompts: object, more: object = {}): void =>
    write('config_sentence_transformers.json', { prompts, default_prompt_name: null, ...more });
  mkdirSync(join(path, '1_Pooling'));
  write('modules.json', [{ type: 'sentence_transformers.models.Transformer' }]);
  write('1_Pooling/config.json', { pooling_mode: 'mean' });
  const same = async (model: string, kind: string | null, text: string): Promise<boolean> => {
    const { rows } = await client.query<{ same: boolean }>(
      `select hartonomous.embed('the cat', $1, $2) = hartonomous.embed($3, 'bert-gguf', '{"normalize": false}') as same`,
      [model, JSON.stringify({ kind }), text],
    );
    return rows[0]!.same;
  };
  said({ query: 'find: ', passage: 'text: ' });
  await ingest(client, path, { name: 'asks' });
  expect(await same('asks', 'query', 'find: the cat')).toBe(true);
  expect(await same('asks', 'document', 'text: the cat')).toBe(true);
  expect(await same('asks', null, 'the cat')).toBe(true);
  said({ query: 'find: ', text: 'say: ' }, { default_prompt_name: 'text' });
  await ingest(client, path, { name: 'says' });
  expect(await same('says', 'document', 'the cat')).toBe(true);
  expect(await same('says', null, 'say: the cat')).toBe(true);
  // What a folder has whose maker said nothing: then nobody knows.
  said({ query: '', document: '' });
  await ingest(client, path, { name: 'silent' });
  await expect(same('silent', 'query', 'the cat')).rejects.toThrow('does not say what goes before a query');
  said({}, { default_prompt_name: 'text' });
  await expect(ingest(client, path, { name: 'none' })).rejects.toThrow(
    'config_sentence_transformers.json: default_prompt_name "text" is none of its prompts',
  );
  write('1_Pooling/config.json', { pooling_mode_mean_tokens: true, include_prompt: false });
  await expect(ingest(client, path, { name: 'none' })).rejects.toThrow('include_prompt false is not supported');
});

test('one SafeTensors file stands for its folder', async () => {
  expect(await ingest(client, join(folder.path, 'llama/model.safetensors'), { name: 'llama-hf' })).toMatchObject({
    alreadyThere: true,
  });
});

test('what is stored stays consistent', async () => {
  expect((await client.query('select * from hartonomous.check_integrity()')).rows).toEqual([]);
});
