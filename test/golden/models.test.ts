/**
 * Every test model, ingested into a real database and compared with llama.cpp through SQL.
 * models/MANIFEST.md says how the goldens were made and why quantised files are compared with `dequantised_f32`.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, ingestFile } from '../db/harness.ts';
import { availableModels } from './available-models.ts';
import { modelPath } from './model-files.ts';
import { cosine, decodeFloats, firstDifference, maxDifference } from './agreement.ts';

interface TokenizeCase {
  text: string;
  skipped?: string;
  error?: string;
  ids: number[];
  ids_parse_special: number[];
  ids_with_bos_eos: number[];
  detokenized: string;
}

interface Continuation {
  text: string;
  greedy_ids: number[];
  greedy_margins: number[];
  last_logits_f32_base64?: string;
}

interface Golden {
  tokenize: TokenizeCase[];
  prompts: (Continuation & { ids: number[]; first_eog_index: number })[];
  dequantised_f32?: { prompts: Continuation[] };
}

interface Case {
  file: string;
  /** 'f32' and 'gelu' compare absolute differences, 'quantised' the cosine. */
  tolerance: 'f32' | 'gelu' | 'quantised';
  options: Record<string, unknown>;
}

const f32 = (file: string): Case => ({ file, tolerance: 'f32', options: { precision: 'f32' } });
/** llama.cpp looks GELU up in a table of half floats. */
const gelu = (file: string): Case => ({ file, tolerance: 'gelu', options: { precision: 'f32' } });
const quantised = (file: string): Case => ({ file, tolerance: 'quantised', options: {} });

const ALL: Case[] = [
  f32('stories260k/stories260k-f32'),
  f32('stories260k/stories260k-f16'),
  quantised('stories260k/stories260k-q8_0'),
  quantised('stories260k/stories260k-q4_0'),
  f32('tinystories-656k/tinystories-656k-f32'),
  f32('zoo/llama-untied-gqa-f32'),
  f32('zoo/llama32-ropefreqs-f32'),
  f32('zoo/qwen2-tiny-f32'),
  f32('zoo/qwen3-tiny-f32'),
  f32('zoo/phi3-tiny-f32'),
  gelu('zoo/gemma2-tiny-f32'),
  gelu('zoo/gemma3-tiny-f32'),
  gelu('zoo/gpt2-tiny-f32'),
  f32('quants/qwen2-tiny-f16'),
  f32('quants/qwen2-tiny-bf16'),
  quantised('quants/qwen2-256-q4_0'),
  quantised('quants/qwen2-256-q4_1'),
  quantised('quants/qwen2-256-q8_0'),
  quantised('quants/qwen2-256-q5_0'),
  quantised('quants/qwen2-256-q5_1'),
  quantised('quants/qwen2-256-q2_k'),
  quantised('quants/qwen2-256-q3_k'),
  quantised('quants/qwen2-256-q4_k'),
  quantised('quants/qwen2-256-q4_k_m-mix'),
  quantised('quants/qwen2-256-q5_k'),
  quantised('quants/qwen2-256-q6_k'),
];

const HERE = new Set(availableModels(ALL.map(({ file }) => file)));
const CASES = ALL.filter(({ file }) => HERE.has(file));

const MAX_LOGIT_DIFFERENCE = { f32: 1e-3, gelu: 1e-2 }; // engines that compute in float32
const MIN_COSINE = 0.9999; // activations rounded to int16
const CLOSE_CALL = { f32: 0.002, gelu: 0.02, quantised: 0.05 }; // greedy margin under which either token is right

const MODELS = new URL('models/', import.meta.url);

function readGolden(file: string): Golden {
  const name = file.slice(file.lastIndexOf('/') + 1);
  return JSON.parse(readFileSync(new URL(`goldens/${name}.json`, MODELS), 'utf8')) as Golden;
}

let database: Awaited<ReturnType<typeof createDatabase>>;

beforeAll(async () => {
  database = await createDatabase();
  for (const { file } of CASES) {
    await ingestFile(database.url, modelPath(`${file}.gguf`), file.slice(file.lastIndexOf('/') + 1));
  }
}, 600_000);

afterAll(async () => {
  await database?.drop();
});

/** The column `value` of a one-row query. */
async function value<T>(sql: string, parameters: unknown[]): Promise<T> {
  const { rows } = await database.pool.query<{ value: T }>(sql, parameters);
  return rows[0].value;
}

describe.each(CASES)('$file', ({ file, tolerance, options }) => {
  const model = file.slice(file.lastIndexOf('/') + 1);
  const golden = readGolden(file);
  const exact = golden.dequantised_f32?.prompts ?? golden.prompts;

  it("gives llama.cpp's token ids", async () => {
    // PostgreSQL text cannot hold U+0000, so the golden's one case with it cannot be asked in SQL.
    const cases = golden.tokenize.filter((c) => c.ids !== undefined && !c.text.includes('\0'));
    const sql = 'select hartonomous.tokenize($1, $2, add_special => $3, parse_special => $4) as value';
    for (const c of cases) {
      expect(await value(sql, [c.text, model, false, false]), `ids of ${JSON.stringify(c.text)}`).toEqual(c.ids);
      expect(await value(sql, [c.text, model, false, true]), `specials of ${JSON.stringify(c.text)}`).toEqual(
        c.ids_parse_special,
      );
      expect(await value(sql, [c.text, model, true, false]), `BOS and EOS of ${JSON.stringify(c.text)}`).toEqual(
        c.ids_with_bos_eos,
      );
    }
    expect(cases.length).toBeGreaterThan(14);
  });

  it("gives llama.cpp's logits after the last prompt token", async () => {
    let compared = 0;
    for (const [i, prompt] of golden.prompts.entries()) {
      const expected = exact[i].last_logits_f32_base64;
      if (expected === undefined) continue;
      const actual = await value<number[]>('select hartonomous.logits($1, $2, $3) as value', [
        prompt.ids,
        model,
        JSON.stringify(options),
      ]);
      const wanted = decodeFloats(expected);
      if (tolerance === 'quantised') expect(cosine(actual, wanted)).toBeGreaterThanOrEqual(MIN_COSINE);
      else expect(maxDifference(actual, wanted)).toBeLessThanOrEqual(MAX_LOGIT_DIFFERENCE[tolerance]);
      compared++;
    }
    expect(compared).toBe(2);
  });

  it('continues greedily as llama.cpp does, up to a close call', async () => {
    for (const [i, prompt] of golden.prompts.entries()) {
      // The goldens run on after an end-of-generation token; generation stops before it.
      const { greedy_ids: ids, greedy_margins: margins } = exact[i];
      const end = await endOfGeneration(model, ids);
      const result = await value<{ logprobs: { token_id: number }[]; done_reason: string }>(
        'select hartonomous.complete($1, $2, $3) as value',
        [
          prompt.text,
          model,
          JSON.stringify({
            ...options,
            raw: true,
            temperature: 0,
            repeat_penalty: 1,
            num_predict: ids.length,
            logprobs: true,
            record: false,
          }),
        ],
      );
      const actual = result.logprobs.map((token) => token.token_id);
      const { step, margin } = firstDifference(actual, ids.slice(0, end), margins);
      expect(margin, `margin at step ${step} of ${JSON.stringify(prompt.text)}`).toBeLessThan(CLOSE_CALL[tolerance]);
    }
  });
});

/** Number of tokens before the first that ends a generation: eos, or a token named eot in the file. */
async function endOfGeneration(model: string, ids: readonly number[]): Promise<number> {
  // llama.cpp ends at eos, at eot, and at tokens of these names.
  const ends = await value<number[]>(
    `select array_agg(t.token_id) as value
     from hartonomous.models m
     join hartonomous.tokens t on t.model_id = m.id
     join hartonomous.atoms a on a.kind = 'token' and a.id = t.atom_id
     where m.name = $1 and (
       t.token_id in ((m.tokenizer->>'tokenizer.ggml.eos_token_id')::int, (m.tokenizer->>'tokenizer.ggml.eot_token_id')::int)
       or t.type = 3 and convert_from(a.content, 'utf8') in ('<|endoftext|>', '<|im_end|>', '<|eot_id|>', '<|end_of_text|>'))`,
    [model],
  );
  const first = ids.findIndex((id) => ends.includes(id));
  return first < 0 ? ids.length : first;
}
