/** Instantiate the kernels over a memory; synchronous, as PL/V8 never settles a promise. */
import { plain, relaxed } from 'wasm:kernels';
import { decodeBase64 } from '../format/base64.ts';
import { hasRelaxedDot } from './relaxed-probe.ts';
import type { WasmMemory } from './web-assembly.ts';
import { webAssembly } from './web-assembly.ts';

/** Exports of assembly/; every number is a byte address or a count, see there. */
export interface Kernels {
  repackQ8_0(src: number, quants: number, scales: number, blocks: number): void;
  repackQ4_0(src: number, quants: number, scales: number, blocks: number): void;
  repackQ4_1(src: number, quants: number, scales: number, mins: number, blocks: number): void;
  repackQ5_0(src: number, quants: number, scales: number, blocks: number): void;
  repackQ5_1(src: number, quants: number, scales: number, mins: number, blocks: number): void;
  repackIQ4_NL(src: number, quants: number, scales: number, blocks: number): void;
  repackIQ4_XS(src: number, quants: number, scales: number, superblocks: number): void;
  repackQ4_K(src: number, quants: number, scales: number, mins: number, supers: number, superblocks: number): void;
  repackQ5_K(src: number, quants: number, scales: number, mins: number, supers: number, superblocks: number): void;
  repackQ6_K(src: number, quants: number, scales: number, supers: number, superblocks: number): void;
  repackQ3_K(src: number, quants: number, scales: number, superblocks: number): void;
  lowerBytes(at: number, n: number, offset: number): void;
  widenF16(src: number, dst: number, n: number): void;
  widenBF16(src: number, dst: number, n: number): void;
  allFinite(src: number, n: number): number;
  roundQ8(src: number, quants: number, scales: number, n: number): void;
  interleave(
    src: number,
    scales: number,
    mins: number,
    supers: number,
    weights: number,
    form: number,
    firstRow: number,
    rows: number,
    cols: number,
  ): void;
  expand(weights: number, form: number, dst: number, cols: number, lane: number): void;
  quantizeActivations(
    src: number,
    quants: number,
    scales: number,
    sums: number,
    scaledSums: number,
    cols: number,
    tokens: number,
  ): void;
  matmulIntegers(
    w: number,
    form: number,
    x: number,
    xs: number,
    xi: number,
    xm: number,
    out: number,
    rows: number,
    cols: number,
    tokens: number,
    outStride: number,
  ): void;
  /**
   * As matmulIntegers for each of up to four matrices with the same activations: (x, xs, xi, xm, cols, tokens), then
   * (w, form, out, rows, outStride) for each. The host's kernels have it, whose threads then meet once.
   */
  matmulTogether?(...numbers: number[]): void;
  matmulF32(w: number, x: number, out: number, rows: number, cols: number, tokens: number, outStride: number): void;
  rmsNorm(x: number, weight: number, out: number, n: number, tokens: number, eps: number): void;
  layerNorm(x: number, weight: number, bias: number, out: number, n: number, tokens: number, eps: number): void;
  addInto(x: number, y: number, n: number): void;
  narrowF16(src: number, dst: number, n: number): void;
  copyFloats(from: number, to: number, n: number): void;
  addBias(x: number, bias: number, n: number, tokens: number): void;
  siluMultiply(gate: number, up: number, n: number): void;
  geluMultiply(gate: number, up: number, n: number): void;
  gelu(x: number, n: number): void;
  scaleBy(x: number, n: number, factor: number): void;
  softcap(x: number, n: number, cap: number): void;
  rope(
    x: number,
    table: number,
    heads: number,
    headSize: number,
    half: number,
    step: number,
    spread: number,
    tokens: number,
  ): void;
  attention(
    q: number,
    keys: number,
    values: number,
    out: number,
    scores: number,
    heads: number,
    kvHeads: number,
    headSize: number,
    length: number,
    kvStride: number,
    scale: number,
    cap: number,
    tokens: number,
    growth: number,
    window: number,
    halves: number,
  ): void;
  attentionShared(
    ...numbers: [...Parameters<Kernels['attention']>, shared: number, sharedKeys: number, sharedValues: number]
  ): void;
  attentionWeights(
    q: number,
    keys: number,
    out: number,
    room: number,
    heads: number,
    kvHeads: number,
    headSize: number,
    length: number,
    kvStride: number,
    scale: number,
    cap: number,
    tokens: number,
    window: number,
    halves: number,
  ): void;
  meanOfHeads(weights: number, out: number, heads: number, n: number, tokens: number): void;
  addGrams(rows: number, count: number, grams: number, heads: number, size: number): void;
  gramNorms(
    grams: number,
    values: number,
    out: number,
    heads: number,
    kvHeads: number,
    size: number,
    count: number,
    outStride: number,
  ): void;
}

/** Further exports of assembly/, for constrained decoding. */
export interface TokenKernels {
  longestToken(starts: number, stops: number, count: number): number;
  sortTokens(
    bytes: number,
    starts: number,
    stops: number,
    count: number,
    order: number,
    room: number,
    counts: number,
    groups: number,
  ): number;
  growTree(
    bytes: number,
    starts: number,
    stops: number,
    order: number,
    count: number,
    shorter: number,
    longest: number,
    open: number,
    path: number,
    depths: number,
    ends: number,
    tokens: number,
    twins: number,
  ): number;
}

/**
 * Builds with the same results, bit for bit: `relaxed` has products of bytes, in relaxed SIMD; `native` is the host's own
 * code for what a forward pass calls, and the plain build for loading and explanations.
 */
export type KernelBuild = 'plain' | 'relaxed' | 'native';

/** The host's kernels over a memory; they refuse addresses that are not within it. */
export type NativeKernels = (memory: WasmMemory) => Partial<Kernels>;

const TEXTS = { plain, relaxed };
const modules = new Map<keyof typeof TEXTS, object>();
let native: NativeKernels | null = null;
let fastest: KernelBuild | null = null;

/** Take over the kernels that the host has, or null for none; memories that are made from now on have them. */
export function offerNativeKernels(kernels: NativeKernels | null): void {
  native = kernels;
}

/** The fastest of the builds that there are here. A dot product of several instructions is slower than none. */
export function kernelBuild(): KernelBuild {
  return native !== null ? 'native' : (fastest ??= hasRelaxedDot() ? 'relaxed' : 'plain');
}

/** Positions before the end of shared ones that a sequence has itself, too: a block of attention less one (assembly/attention.ts). */
export const SHARED_OVERLAP = 63;

export const PAGE_BYTES = 65536;
/** The most a 32-bit WebAssembly memory can hold, 4 GiB, but for a page: so an address behind the last byte is not 0. */
export const MAX_PAGES = 65535;

export function newMemory(pages: number, maximum = MAX_PAGES): WasmMemory {
  return new (webAssembly().Memory)({ initial: pages, maximum });
}

/** Milliseconds by kernel; set on globalThis before a model is loaded, it makes the model's kernels count their time. */
type KernelTimes = Record<string, number>;

/** The kernels, each of which adds the time it takes to `times`. */
function timed(kernels: Kernels, times: () => KernelTimes): Kernels {
  const wrapped = Object.entries(kernels).map(([name, kernel]) => {
    if (typeof kernel !== 'function') return [name, kernel as unknown];
    const count = (...args: unknown[]): unknown => {
      const started = Date.now();
      try {
        return (kernel as (...args: unknown[]) => unknown)(...args);
      } finally {
        times()[name] = (times()[name] ?? 0) + Date.now() - started;
      }
    };
    return [name, count];
  });
  return Object.fromEntries(wrapped) as Kernels;
}

/** The module's exports over a memory. */
function exportsOf(memory: WasmMemory, build: KernelBuild): unknown {
  const text = build === 'native' ? 'plain' : build;
  let module = modules.get(text);
  if (module === undefined) {
    module = new (webAssembly().Module)(decodeBase64(TEXTS[text]));
    modules.set(text, module);
  }
  return new (webAssembly().Instance)(module, { env: { memory, abort: () => undefined } }).exports;
}

export function instantiateTokenKernels(memory: WasmMemory): TokenKernels {
  return exportsOf(memory, kernelBuild()) as TokenKernels;
}

export function instantiateKernels(memory: WasmMemory, build = kernelBuild()): Kernels {
  const exports = exportsOf(memory, build) as Kernels;
  const kernels = build === 'native' && native !== null ? { ...exports, ...native(memory) } : exports;
  const profile = globalThis as { hartonomousKernelTimes?: KernelTimes };
  return profile.hartonomousKernelTimes === undefined
    ? kernels
    : timed(kernels, () => (profile.hartonomousKernelTimes ??= {}));
}
