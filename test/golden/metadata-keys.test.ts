/**
 * 2,000 files with one metadata key more than a model of the zoo: each gives llama.cpp's logits, which are mostly those
 * without the key, or is refused by the key's name. make-metadata-golden.mjs made the cases.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../plv8/src/model/config.ts';
import { Model } from '../../plv8/src/model/model.ts';
import { readGguf } from '../unit/gguf-source.ts';
import type { GgufModel } from '../unit/gguf-model.ts';
import { modelPath } from './model-files.ts';

type Case = [base: number, key: string, value: unknown, llama: 'same' | 'refused' | number[]];

interface Base {
  name: string;
  architecture: string;
  /** Keys that the file got beforehand. */
  more: Record<string, unknown>;
  logits: number[];
}

const golden = JSON.parse(readFileSync(new URL('metadata-keys.json', import.meta.url), 'utf8')) as {
  ids: number[];
  shown: number[];
  bases: Base[];
  cases: Case[];
};

const poll = () => undefined;
const TOLERANCE = 1e-3;
/** llama.cpp looks GELU up in a table of half floats. */
const GELU_TOLERANCE = 2e-2;
const GELU = ['gpt2', 'gemma2', 'gemma3', 'bert'];

/** Where llama.cpp is not followed; docs/models.md tells of them. */
const OTHERWISE: [architecture: RegExp, key: RegExp][] = [
  // As the makers' own code, transformers.
  [/phi3|llama/, /^attention\.sliding_window$/],
  [/./, /^rope\.scaling\.yarn_beta_(fast|slow)$/],
  // As Ollama, whose files have these keys.
  [/gemma3/, /^rope\.(global|local)\.freq_base$/],
];
/** Scores of 64 times their size turn the last bit of a float into another choice. */
const MAX_ATTENTION_FACTOR = 4;

function isCompared({ architecture }: Base, [, key, value]: Case): boolean {
  if (key === 'rope.scaling.attn_factor' && (value as number) > MAX_ATTENTION_FACTOR) return false;
  return !OTHERWISE.some(([name, other]) => name.test(architecture) && other.test(key));
}

/** [CLS] and [SEP], which node-llama-cpp puts around the ids of an encoder. */
const CLS = 2;
const SEP = 3;

/** The golden's logits, or elements of a mean embedding, of a file with more metadata. */
function numbersOf(file: GgufModel, { architecture, more }: Base, key: string | null, value: unknown): number[] {
  const named = Object.fromEntries(Object.entries(more).map(([name, given]) => [`${architecture}.${name}`, given]));
  const meta = { ...file.hyperparameters, ...named, ...(key === null ? {} : { [`${architecture}.${key}`]: value }) };
  const config = readConfig(architecture, meta, file.source.tensors());
  const model = Model.load(config, file.source, { precision: 'f32', poll });
  const { shown } = golden;
  const ids = architecture === 'bert' ? [CLS, ...golden.ids, SEP] : golden.ids;
  if (config.architecture.kind === 'decoder') {
    const logits = model.forward(ids, model.newCache(ids.length), { poll });
    return shown.map((id) => logits[id]!);
  }
  let states = new Float32Array(0); // (tokens, dim)
  model.hiddenStates([ids], { poll }, (_text, _first, all) => void (states = all.slice()));
  const stateOf = (token: number): Float32Array => states.subarray(token * config.dim, (token + 1) * config.dim);
  if (architecture !== 'bert') return shown.map((id) => dot(outputRow(file, id), stateOf(ids.length - 1)));
  if (config.pooling === 'cls') return [...stateOf(0).subarray(0, shown.length)];
  if (config.pooling === 'last') return [...stateOf(ids.length - 1).subarray(0, shown.length)];
  return shown.map((_, i) => ids.reduce((sum, __, t) => sum + stateOf(t)[i]!, 0) / ids.length);
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i]!, 0);
}

/** A row of the output matrix, which a decoder that reads in both directions does not need itself. */
function outputRow({ tensors, bytes }: GgufModel, id: number): Float32Array {
  const matrix = ['output.weight', 'token_embd.weight'].map((name) => tensors.find((each) => each.name === name));
  const { offset, rowBytes } = matrix.find((each) => each !== undefined)!;
  return new Float32Array(bytes.slice(offset + id * rowBytes, offset + (id + 1) * rowBytes).buffer);
}

function farthest(a: readonly number[], b: readonly number[]): number {
  return Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
}

/** What is wrong with a case; null for nothing. */
function fault(file: GgufModel, base: Base, [, key, value, llama]: Case): string | null {
  let found: number[];
  try {
    found = numbersOf(file, base, key, value);
  } catch (error) {
    const { message } = error as Error;
    if (message.includes(key) || (key === 'attention.key_length' && /tensor blk\.0\.attn_/.test(message))) return null;
    return `refused without its name: ${message}`;
  }
  const tolerance = GELU.includes(base.architecture) ? GELU_TOLERANCE : TOLERANCE;
  const expected = Array.isArray(llama) ? llama : base.logits;
  const difference = farthest(found, expected);
  if (difference <= tolerance) return null;
  return llama === 'refused' ? `taken, and ${difference} from without it` : `${difference} from llama.cpp's (${llama})`;
}

describe.each(golden.bases.map((base, at) => ({ ...base, at })))('$name with $more and one key more', (base) => {
  const file = readGguf(modelPath(`zoo/${base.name}-f32.gguf`));
  const cases = golden.cases.filter(([at]) => at === base.at);

  it("gives llama.cpp's logits or is refused by the key's name", () => {
    expect(farthest(numbersOf(file, base, null, null), base.logits)).toBeLessThanOrEqual(GELU_TOLERANCE);
    const faults = cases
      .filter((each) => isCompared(base, each))
      .map((each) => ({ each, fault: fault(file, base, each) }))
      .filter((found) => found.fault !== null)
      .map((found) => `${found.each[1]} = ${JSON.stringify(found.each[2])}: ${found.fault}`);
    expect(faults).toEqual([]);
    expect(cases.length).toBeGreaterThan(100);
  });
});
