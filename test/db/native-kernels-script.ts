/** Runs inside PostgreSQL: the host's kernels beside the plain WebAssembly build, in memories with the same content. */
import { kernelHost } from '../../plv8/src/db.ts';
import type { Kernels } from '../../plv8/src/kernels/load.ts';
import { instantiateKernels, newMemory, offerNativeKernels } from '../../plv8/src/kernels/load.ts';
import type { KernelCall } from '../unit/kernels/kernel-calls.ts';
import { BLOCKS, CALLS, fillMemory, PAGES, SCORES, SHAPES } from '../unit/kernels/kernel-calls.ts';

interface Comparison {
  kernel: string;
  /** Whether the host's own code ran, the call did anything, and both did the same. */
  native: boolean;
  worked: boolean;
  same: boolean;
}

/** Compare every kernel on the same content; `native` says which of them are the host's. */
export function compareKernels(): Comparison[] {
  const host = kernelHost();
  if (host === null) throw new Error('this host has no kernels');
  const names = new Set(Object.keys(host.over(newMemory(1, 1))));
  offerNativeKernels((memory) => host.over(memory) as Partial<Kernels>);
  const [memory, other] = [newMemory(PAGES, PAGES), newMemory(PAGES, PAGES)];
  const content = fillMemory(memory).slice();
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
