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

export { callRandomly, callWrongly } from './wrong-kernel-calls.ts';

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
    model.hiddenStates([ids(19), ids(3), ids(150)], { poll }, (_text, _first, values) => states.push([...values]));
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
