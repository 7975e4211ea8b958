/** Runs inside PostgreSQL: the host's kernels beside the plain WebAssembly build, in memories with the same content. */
import { kernelHost, segmentStore } from '../../plv8/src/db.ts';
import type { Kernels, NativeKernels } from '../../plv8/src/kernels/load.ts';
import { instantiateKernels, newMemory, offerNativeKernels } from '../../plv8/src/kernels/load.ts';
import { readConfig } from '../../plv8/src/model/config.ts';
import type { Precision } from '../../plv8/src/model/model.ts';
import { Model } from '../../plv8/src/model/model.ts';
import { ggufModel } from '../unit/gguf-model.ts';
import type { KernelCall } from '../unit/kernels/kernel-calls.ts';
import { BLOCKS, CALLS, fillMemory, PAGES, SCORES, SHAPES } from '../unit/kernels/kernel-calls.ts';

// PL/V8 has none; what is read with it here are names.
(globalThis as Record<string, unknown>).TextDecoder = class {
  decode(bytes: Uint8Array): string {
    return Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
  }
};

interface Comparison {
  kernel: string;
  /** Whether the host's own code ran, the call did anything, and both did the same. */
  native: boolean;
  worked: boolean;
  same: boolean;
}

/** Compare every kernel on the same content, with so many threads; `native` says which of them are the host's. */
export function compareKernels(_file: null, threads: number): Comparison[] {
  const host = kernelHost();
  if (host === null) throw new Error('this host has no kernels');
  const names = new Set(Object.keys(host.over(newMemory(1, 1))));
  offerNativeKernels((memory) => host.over(memory) as Partial<Kernels>);
  const [memory, other] = [newMemory(PAGES, PAGES), newMemory(PAGES, PAGES)];
  const content = fillMemory(memory).slice();
  host.threads(threads);
  const plain = instantiateKernels(memory, 'plain');
  const native = instantiateKernels(other, 'native');
  const [a, b, before] = [memory.buffer, other.buffer, content.buffer].map((bytes) => new Int32Array(bytes)) as [
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  const differ = (some: Int32Array, others: Int32Array): boolean => {
    for (let i = BLOCKS / 4; i < SCORES / 4; i++) if (some[i] !== others[i]) return true;
    return false;
  };
  return Object.entries({ ...CALLS, ...SHAPES }).map(([kernel, call]: [string, KernelCall]) => {
    a.set(before);
    b.set(before);
    const same = JSON.stringify(call(plain)) === JSON.stringify(call(native)) && !differ(a, b);
    return { kernel, native: kernel in SHAPES || names.has(kernel), worked: differ(a, before), same };
  });
}

/** What a model makes of a prompt in one build: of a chunk of 32 tokens, one of 5 and one token; of texts together. */
function answers(bytes: Uint8Array, precision: Precision, native: NativeKernels | null): number[][] {
  offerNativeKernels(native);
  const { architecture, hyperparameters, source } = ggufModel(bytes);
  const poll = (): void => undefined;
  const config = readConfig(architecture, hyperparameters, source.tensors());
  const model = Model.load(config, source, { precision, poll });
  const ids = (tokens: number): number[] => Array.from({ length: tokens }, (_, i) => (i * 7 + 3) % config.vocabSize);
  if (config.architecture.kind === 'encoder') {
    const states: number[][] = [];
    model.hiddenStates([ids(19), ids(3), ids(25)], { poll }, (_text, _first, values) => states.push([...values]));
    return states;
  }
  const [cache, other] = [model.newCache(48), model.newCache(48)];
  const logits = [[...model.forward(ids(37), cache, { poll })], [...model.forward([5], cache, { poll })]];
  const steps = [
    { ids: [7], cache },
    { ids: ids(9), cache: other },
  ];
  return [...logits, ...model.forwardBatch(steps, { poll }).map((each) => [...each])];
}

interface ModelComparison {
  /** Numbers of threads with which the host's kernels give a model's answers bit for bit. */
  same: number[];
  /** How many different numbers were compared. */
  numbers: number;
}

/** A model's answers of the plain build beside those of the host's kernels with 1 to `most` threads. */
export function compareModel(bytes: Uint8Array, most: number, precision: Precision): ModelComparison {
  const host = kernelHost()!;
  const plain = answers(bytes, precision, null);
  const same: number[] = [];
  for (let threads = 1; threads <= most; threads++) {
    if (host.threads(threads) !== threads) throw new Error(`no ${threads} threads are allowed`);
    const native = answers(bytes, precision, (memory) => host.over(memory) as Partial<Kernels>);
    if (JSON.stringify(native) === JSON.stringify(plain)) same.push(threads);
  }
  return { same, numbers: new Set(plain.flat()).size };
}

/** What an argument of a kernel is: where it may be wrong, and how. */
type Argument = 'address' | 'form' | 'count' | 'length' | 'flag' | 'number' | 'free';

/** A right call of every kernel of the host's over a memory of 64 pages, argument by argument. */
const RIGHT_CALLS: Record<string, [Argument, number | boolean][]> = {
  quantizeActivations: [...addresses(5), ['length', 64], ['count', 3]],
  // Form 84: 4 bits, half floats with minimums; 2116: without, 8 above the weights.
  matmulIntegers: [...addresses(1), ['form', 84], ...addresses(5), ['count', 9], ['length', 64], ['count', 3], ['length', 36]],
  matmulTogether: [
    ...addresses(4), ['length', 64], ['count', 3], ['address', 5 << 17], ['form', 84], ['address', 6 << 17], ['count', 9], ['length', 36],
  ],
  matmulF32: [...addresses(3), ['count', 9], ['length', 64], ['count', 3], ['length', 36]],
  rmsNorm: [...addresses(3), ['length', 65], ['count', 3], ['number', 1e-5]],
  layerNorm: [...addresses(4), ['length', 65], ['count', 3], ['number', 1e-5]],
  addInto: [...addresses(2), ['count', 65]],
  addBias: [...addresses(2), ['length', 65], ['count', 3]],
  siluMultiply: [...addresses(2), ['count', 65]],
  geluMultiply: [...addresses(2), ['count', 65]],
  gelu: [...addresses(1), ['count', 65]],
  scaleBy: [...addresses(1), ['count', 65], ['number', 2]],
  narrowF16: [...addresses(2), ['count', 65]],
  softcap: [...addresses(1), ['count', 65], ['number', 2]],
  rope: [...addresses(2), ['count', 2], ['length', 16], ['length', 8], ['count', 8], ['count', 1], ['count', 3]],
  attention: [
    ...addresses(4), ['free', 0], ['length', 4], ['length', 2], ['length', 8], ['length', 20], ['length', 64],
    ['number', 0.3], ['number', 0], ['length', 3], ['free', 1], ['free', 100], ['flag', 0],
  ],
}; // prettier-ignore

/** Places 128 KiB apart. */
function addresses(n: number): [Argument, number][] {
  return Array.from({ length: n }, (_, i) => ['address', (i + 1) << 17]);
}

const NO_NUMBERS: unknown[] = [undefined, null, 'x', '8', {}, [], 2n, Symbol('x')];
/** Numbers that are no count; the largest count is more than any memory holds. */
const NO_COUNTS: unknown[] = [...NO_NUMBERS, true, -1, 1.5, NaN, Infinity, -Infinity, 2 ** 32, 2 ** 53, 2 ** 32 - 1];
const WRONG: Record<Argument, unknown[]> = {
  address: [...NO_COUNTS, 2 ** 22 - 4, 2 ** 22, 131073, 2 ** 31],
  form: [...NO_COUNTS, 0, 8 + 64 + 128, 7, 4, 4 + 32, 2116 + 16, 6 + 128, 2116 + 2 ** 16],
  count: NO_COUNTS,
  length: [...NO_COUNTS, 0],
  flag: [...NO_COUNTS, 2],
  number: [...NO_NUMBERS, true],
  free: NO_COUNTS.slice(0, -1),
};

/** Call the host's kernels with one wrong argument each; which of them were no error, and how many calls there were. */
export function callWrongly(_file: null, threads: number): { calls: number; taken: string[] } {
  const host = kernelHost()!;
  host.threads(threads);
  const memory = newMemory(PAGES, PAGES);
  const kernels = host.over(memory) as Record<string, (...args: unknown[]) => unknown>;
  const taken: string[] = [];
  let calls = 0;
  for (let round = 0; round < 4; round++) {
    for (const [name, right] of Object.entries(RIGHT_CALLS)) {
      kernels[name]!(...right.map(([, value]) => value));
      right.forEach(([argument], at) => {
        for (const wrong of WRONG[argument]) {
          const args: unknown[] = right.map(([, value]) => value);
          args[at] = wrong;
          // A second wrong argument, now and then.
          if (round > 0 && right[(at + round) % right.length]![0] === 'count') args[(at + round) % right.length] = NaN;
          calls++;
          try {
            kernels[name]!(...args);
            taken.push(`${name} with ${String(wrong)} as argument ${at + 1}`);
          } catch (error) {
            if (!(error instanceof Error)) throw error;
          }
        }
      });
      for (let n = 0; n < right.length; n++) {
        calls++;
        try {
          kernels[name]!(...right.slice(0, n).map(([, value]) => value));
          taken.push(`${name} with ${n} arguments`);
        } catch (error) {
          if (!(error instanceof Error)) throw error;
        }
      }
    }
  }
  return { calls, taken };
}

/** What becomes of a kernel that would write where a segment is mapped, and whether reading there works. */
export function writeToSegment(): { error: string; read: number } {
  const host = kernelHost()!;
  const store = segmentStore()!;
  const [key, page] = ['ab'.repeat(32), 65536];
  const memory = newMemory(4, 4);
  const floats = new Float32Array(memory.buffer);
  floats.fill(2);
  store.publish(key, 9, '', memory, page, page);
  const segment = store.open(key, 9)!;
  segment.map(memory, page);
  segment.close();
  store.drop(key);
  const { addInto } = host.over(memory) as Kernels;
  addInto(0, page, 100); // reads the segment
  try {
    addInto(page + 4 * 1000, 0, 100);
  } catch (error) {
    return { error: (error as Error).message, read: floats[99]! };
  }
  return { error: 'none', read: floats[99]! };
}

/** What a kernel leaves in a memory that has grown since the kernels were made. */
export function growMemory(): { first: number; last: number } {
  const memory = newMemory(1, 100);
  const { scaleBy } = kernelHost()!.over(memory) as Kernels;
  new Float32Array(memory.buffer).fill(1);
  scaleBy(0, 16384, 2);
  memory.grow(99);
  new Float32Array(memory.buffer).fill(1, 16384);
  scaleBy(0, 100 * 16384, 3);
  const floats = new Float32Array(memory.buffer);
  return { first: floats[0]!, last: floats.at(-1)! };
}
