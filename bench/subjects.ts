/** The models that are measured. */
import { readFileSync } from 'node:fs';
import { GEMMA3, joinedMembers } from '../python-package.mjs';
import { smollm2File } from '../test/golden/smollm2-file.ts';
import { randomModel } from './random-model.ts';

export interface Subject {
  /** Name of its file of results, and on the command line. */
  key: string;
  /** What people call it. */
  title: string;
  /** Its name in the database. */
  name: string;
  file: () => string;
  /** Ids that end a generation and are kept from being drawn. */
  ends: number[];
  /** Least ratios ours / llama.cpp that the project promises; null where it promises nothing. */
  bars: { prefill: number | null; decode: number | null };
  /** Most bytes of the weights in memory / of the tensors. */
  weightsBar: number | null;
  /** Least decode at 2,048 tokens / at 64 that the project promises; null where it promises nothing. */
  longContextBar: number | null;
  /** Whether the project promises ratios with one thread and with all (see threads.ts). */
  threads: boolean;
  /** Some gigabytes: measured only by name. */
  large: boolean;
  /** Whether node-llama-cpp takes part in every round; else in the first, as the same library from C is faster. */
  everyPeer: boolean;
}

const GOLDEN = new URL('../test/golden/smollm2-135m-q4_1.json', import.meta.url);
const QWEN_ENDS = [151_643, 151_645];

type Options = Pick<Subject, 'key' | 'title' | 'file'> & Partial<Subject>;

function subject(options: Options): Subject {
  return {
    name: `bench-${options.key}`,
    ends: QWEN_ENDS,
    bars: { prefill: null, decode: 0.8 },
    weightsBar: 1.15,
    longContextBar: null,
    threads: true,
    large: false,
    everyPeer: false,
    ...options,
  };
}

export const SUBJECTS: readonly Subject[] = [
  subject({
    key: 'qwen-q8_0',
    title: 'Qwen2.5-0.5B shape, Q8_0',
    file: () => randomModel('qwen2.5-0.5b-q8_0'),
    bars: { prefill: 0.5, decode: 0.9 },
    weightsBar: 1.05,
    longContextBar: 0.9,
    everyPeer: true,
  }),
  subject({
    key: 'qwen-q4_0',
    title: 'Qwen2.5-0.5B shape, Q4_0',
    file: () => randomModel('qwen2.5-0.5b-q4_0'),
    weightsBar: 1.05,
    longContextBar: 0.85,
  }),
  subject({ key: 'qwen-q4_k_m', title: 'Qwen2.5-0.5B shape, Q4_K_M', file: () => randomModel('qwen2.5-0.5b-q4_k_m') }),
  subject({
    key: 'tinyllama-q4_k_m',
    title: 'TinyLlama-1.1B shape, Q4_K_M',
    file: () => randomModel('tinyllama-1.1b-q4_k_m'),
    ends: [2],
  }),
  subject({
    key: 'qwen-f16',
    title: 'Qwen2.5-0.5B shape, F16',
    file: () => randomModel('qwen2.5-0.5b-f16'),
    bars: { prefill: null, decode: null },
    weightsBar: null,
    threads: false,
  }),
  subject({
    key: 'smollm2',
    title: 'SmolLM2-135M, Q4_1',
    file: () => smollm2File((JSON.parse(readFileSync(GOLDEN, 'utf8')) as { sha256: string }).sha256),
    ends: [0, 2],
    bars: { prefill: null, decode: null },
    weightsBar: 1.05,
    everyPeer: true,
  }),
  subject({
    key: 'gemma3-270m',
    title: 'Gemma 3 270M, Q4_K_M',
    file: () => joinedMembers(GEMMA3),
    ends: [1, 106],
    bars: { prefill: null, decode: null },
    threads: false,
  }),
  subject({
    key: 'llama-8b-q4_k_m',
    title: 'Llama-3-8B shape, Q4_K_M',
    file: () => randomModel('llama-3-8b-q4_k_m'),
    ends: [128_001, 128_009],
    bars: { prefill: null, decode: null },
    large: true,
  }),
];

/** Those of a list of keys with commas between them. */
export function subjectsNamed(keys: string): Subject[] {
  return keys.split(',').map((key) => {
    const subject = SUBJECTS.find((known) => known.key === key);
    if (subject === undefined)
      throw new Error(`unknown model ${key}, known: ${SUBJECTS.map((known) => known.key).join(', ')}`);
    return subject;
  });
}
