/**
 * 4,000 files with one metadata key more than a model of the zoo, half of them of models that embed or rank, and one file
 * without each key: each gives llama.cpp's numbers, which are mostly those of the model, or is refused by the key's name.
 * make-metadata-golden.mjs made the cases.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { HartonomousError } from '../../plv8/src/errors.ts';
import { readConfig } from '../../plv8/src/model/config.ts';
import { Model } from '../../plv8/src/model/model.ts';
import { readGguf } from '../unit/gguf-source.ts';
import type { GgufModel } from '../unit/gguf-model.ts';
import { modelPath } from './model-files.ts';

/** A value of null takes the key away. */
type Case = [base: number, key: string, value: unknown, llama: 'same' | 'refused' | number[]];

interface Base {
  name: string;
  architecture: string;
  mode: 'logits' | 'embed' | 'rank';
  ids: number[];
  /** Keys that the file got beforehand. */
  more: Record<string, unknown>;
  /** llama.cpp's numbers of the file. */
  plain: number[];
}

interface Golden {
  shown: number[];
  bases: Base[];
  cases: Case[];
}

const GOLDENS = ['metadata-keys', 'metadata-keys-embedding'].map(
  (name) => JSON.parse(readFileSync(new URL(`${name}.json`, import.meta.url), 'utf8')) as Golden,
);

const poll = () => undefined;
const TOLERANCE = 1e-3;
/** llama.cpp looks GELU up in a table of half floats, and keeps keys and values of what is embedded as such. */
const HALF_TOLERANCE = 2e-2;
const GELU = ['gpt2', 'gemma'];

/** Where llama.cpp is not followed; docs/models.md tells of them. */
const OTHERWISE: [architecture: RegExp, key: RegExp][] = [
  // As the makers' own code, transformers.
  [/phi3|llama/, /^attention\.sliding_window$/],
  [/./, /^rope\.scaling\.yarn_beta_(fast|slow)$/],
  // As Ollama, whose files have these keys.
  [/gemma3|gemma-embedding/, /^rope\.(global|local)\.freq_base$/],
];
/** The same for a file without a key. */
const OTHERWISE_WITHOUT: typeof OTHERWISE = [
  [/gemma3|gemma-embedding|^nomic-bert$/, /^rope\.freq_base$/],
  [/bert|gemma-embedding/, /^pooling_type$/],
];
/** Scores of 64 times their size turn the last bit of a float into another choice. */
const MAX_ATTENTION_FACTOR = 4;

function isCompared({ architecture }: Base, [, key, value]: Case): boolean {
  if (key === 'rope.scaling.attn_factor' && (value as number) > MAX_ATTENTION_FACTOR) return false;
  const otherwise = value === null ? OTHERWISE_WITHOUT : OTHERWISE;
  return !otherwise.some(([name, other]) => name.test(architecture) && other.test(key));
}

/** The golden's logits, elements of an embedding, or score, of a file with one key more or less. */
function numbersOf(file: GgufModel, { shown }: Golden, base: Base, key: string | null, value: unknown): number[] {
  const { architecture, mode, ids, more } = base;
  const named = Object.fromEntries(Object.entries(more).map(([name, given]) => [`${architecture}.${name}`, given]));
  const meta = {
    ...file.hyperparameters,
    ...named,
    ...(key === null ? {} : { [`${architecture}.${key}`]: value ?? undefined }),
  };
  const config = readConfig(architecture, meta, file.source.tensors());
  const model = Model.load(config, file.source, { precision: 'f32', poll });
  if (config.architecture.kind === 'decoder' && mode === 'logits') {
    const logits = model.forward(ids, model.newCache(ids.length), { poll });
    return shown.map((id) => logits[id]!);
  }
  let states = new Float32Array(0); // (tokens, dim)
  model.hiddenStates([ids], { poll }, (_text, _first, all) => void (states = all.slice()));
  const stateOf = (token: number): Float32Array => states.slice(token * config.dim, (token + 1) * config.dim);
  const last = ids.length - 1;
  if (mode === 'logits') return shown.map((id) => dot(outputRow(file, id), stateOf(last)));
  if (mode === 'rank') {
    const [yes, no = 0] = model.classifierLogits(stateOf(config.architecture.classifier === 'last' ? last : 0));
    return [yes! - no];
  }
  const mean = (): Float64Array =>
    Float64Array.from({ length: config.dim }, (_, i) =>
      ids.reduce((sum, __, t) => sum + stateOf(t)[i]! / ids.length, 0),
    );
  const { pooling } = config;
  // As embed does, which wants its option then.
  if (pooling === null) throw new Error('no pooling_type');
  const vector = pooling === 'cls' ? stateOf(0) : pooling === 'last' ? stateOf(last) : mean();
  return [...model.throughDenseHeads(Float64Array.from(vector)).slice(0, shown.length)];
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
function fault(file: GgufModel, golden: Golden, base: Base, [, key, value, llama]: Case): string | null {
  let found: number[];
  try {
    found = numbersOf(file, golden, base, key, value);
  } catch (error) {
    const { message } = error as Error;
    // Without a size the tensors have other shapes than they should, and say so.
    if (value === null && error instanceof HartonomousError) return null;
    if (message.includes(key) || (key === 'attention.key_length' && /tensor blk\.0\.attn_/.test(message))) return null;
    return `refused without its name: ${message}`;
  }
  const halves = base.mode !== 'logits' || GELU.some((name) => base.architecture.startsWith(name));
  const tolerance = halves ? HALF_TOLERANCE : TOLERANCE;
  const expected = Array.isArray(llama) ? llama : base.plain;
  const difference = farthest(found, expected);
  if (difference <= tolerance) return null;
  return llama === 'refused' ? `taken, and ${difference} from without it` : `${difference} from llama.cpp's (${llama})`;
}

const bases = GOLDENS.flatMap((golden) => golden.bases.map((base, at) => ({ ...base, at, golden })));

describe.each(bases)('$name with $more and one key more or less', ({ at, golden, ...base }) => {
  const file = readGguf(modelPath(`zoo/${base.name}-f32.gguf`));
  const cases = golden.cases.filter(([each]) => each === at);

  it("gives llama.cpp's numbers or is refused by the key's name", () => {
    expect(farthest(numbersOf(file, golden, base, null, null), base.plain)).toBeLessThanOrEqual(HALF_TOLERANCE);
    const faults = cases
      .filter((each) => isCompared(base, each))
      .map((each) => ({ each, fault: fault(file, golden, base, each) }))
      .filter((found) => found.fault !== null)
      .map((found) => `${found.each[1]} = ${JSON.stringify(found.each[2])}: ${found.fault}`);
    expect(faults.join('\n')).toBe('');
    expect(cases.length).toBeGreaterThan(100);
  });
});
