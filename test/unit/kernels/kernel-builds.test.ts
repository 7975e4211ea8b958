/**
 * The relaxed build of the kernels against the plain one. Node 20 knows relaxed SIMD behind a flag, and its baseline compiler
 * (V8 11.3) has the dot product wrong, so these tests run optimised code only; the picker refuses such an engine.
 */
import { setFlagsFromString } from 'node:v8';
import { describe, expect, it, vi } from 'vitest';
import type { KernelBuild, Kernels } from '../../../plv8/src/kernels/load.ts';
import { instantiateKernels, newMemory } from '../../../plv8/src/kernels/load.ts';
import type * as RelaxedProbe from '../../../plv8/src/kernels/relaxed-probe.ts';
import { webAssembly } from '../../../plv8/src/kernels/web-assembly.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath } from '../golden-model.ts';

const probe = vi.hoisted(() => ({ answer: null as boolean | null }));
vi.mock('../../../plv8/src/kernels/relaxed-probe.ts', async (original) => {
  const actual = await original<typeof RelaxedProbe>();
  return { hasRelaxedDot: () => probe.answer ?? actual.hasRelaxedDot() };
});

// (module (func (param v128 v128 v128) (result v128)
//   (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get 0) (local.get 1) (local.get 2))))
// prettier-ignore
const STANDARD_DOT = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x01, 0x60, 0x03, 0x7b, 0x7b, 0x7b, 0x01, 0x7b,
  0x03, 0x02, 0x01, 0x00, 0x0a, 0x0d, 0x01, 0x0b, 0x00, 0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0xfd, 0x93, 0x02, 0x0b,
]);

function validates(): boolean {
  return webAssembly().validate(STANDARD_DOT);
}

setFlagsFromString('--no-liftoff');
if (!validates()) setFlagsFromString('--experimental-wasm-relaxed-simd');
const runnable = validates();
if (!runnable && process.env.CI === undefined)
  console.log(`kernel builds: skipped, V8 ${process.versions.v8} does not validate relaxed SIMD`);

const K = 1024;
const PAGES = 64;
/** Addresses of everything that the calls below read and write; below them is what the kernels keep for themselves. */
const BLOCKS = 64 * K; // stored blocks: bytes
const FLOATS = 192 * K; // random floats
const INTEGERS = 448 * K; // row-major weights
const SCALES = 576 * K;
const MINS = 640 * K;
const WEIGHTS = 704 * K;
const SUMS = 1024 * K; // scales, sums, scaled sums: 64 KiB each
const OUT = 1216 * K;
const SCRATCH = 1728 * K;
/** The last one: behind the integers the relaxed build writes their split form. */
const QUANTS = 2048 * K;

const [COLS, ROWS] = [288, 21];
/** Fours, what is left over, and one alone. */
const TOKENS = [1, 3, 7, 32];

function quantize(k: Kernels, tokens: number): void {
  k.quantizeActivations(FLOATS, QUANTS, SUMS, SUMS + 64 * K, SUMS + 128 * K, COLS, tokens);
}

function q8(k: Kernels): void {
  for (const tokens of TOKENS) {
    for (const [mins, scaleCols] of [
      [0, 32],
      [MINS, 32],
      [0, 16],
    ] as const) {
      quantize(k, tokens);
      k.interleaveQ8(INTEGERS, SCALES, mins, WEIGHTS, 0, ROWS, COLS, scaleCols);
      const to = OUT + tokens * ROWS * 16 + (mins ? 1 : 0) * K + scaleCols * K;
      k.matmulQ8(WEIGHTS, mins !== 0, QUANTS, SUMS, SUMS + 128 * K, to, ROWS, COLS, tokens, ROWS * 4, scaleCols);
    }
  }
}

function q4(k: Kernels): void {
  for (const tokens of TOKENS) {
    for (const [mins, offset] of [
      [0, 8],
      [MINS, 0],
      [0, 0],
    ] as const) {
      quantize(k, tokens);
      k.interleaveQ4(BLOCKS + 64 * K, SCALES, mins, WEIGHTS, 0, ROWS, COLS);
      const to = OUT + tokens * K * 4 + (mins ? 1 : 0) * 128 * K + offset * 32 * K;
      const sums = [SUMS, SUMS + 64 * K, SUMS + 128 * K] as const;
      k.matmulQ4(WEIGHTS, mins !== 0, offset, QUANTS, ...sums, to, ROWS, COLS, tokens, ROWS * 4);
    }
  }
}

type Call = (k: Kernels) => unknown;
const small = (name: 'repackQ8_0' | 'repackQ4_0' | 'repackQ5_0' | 'repackIQ4_NL'): Call => {
  return (k) => k[name](BLOCKS, SCRATCH, SCRATCH + 64 * K, 300);
};
const withMinimums = (name: 'repackQ4_1' | 'repackQ5_1' | 'repackQ4_K' | 'repackQ5_K', blocks: number): Call => {
  return (k) => k[name](BLOCKS, SCRATCH, SCRATCH + 64 * K, SCRATCH + 128 * K, blocks);
};
const superblocks = (name: 'repackIQ4_XS' | 'repackQ6_K' | 'repackQ3_K'): Call => {
  return (k) => k[name](BLOCKS, SCRATCH, SCRATCH + 64 * K, 40);
};

/** One entry for every kernel; each leaves its results in the memory or returns them. */
const CALLS: Record<keyof Kernels, Call> = {
  repackQ8_0: small('repackQ8_0'),
  repackQ4_0: small('repackQ4_0'),
  repackQ4_1: withMinimums('repackQ4_1', 300),
  repackQ5_0: small('repackQ5_0'),
  repackQ5_1: withMinimums('repackQ5_1', 300),
  repackIQ4_NL: small('repackIQ4_NL'),
  repackIQ4_XS: superblocks('repackIQ4_XS'),
  repackQ4_K: withMinimums('repackQ4_K', 40),
  repackQ5_K: withMinimums('repackQ5_K', 40),
  repackQ6_K: superblocks('repackQ6_K'),
  repackQ3_K: superblocks('repackQ3_K'),
  widenF16: (k) => k.widenF16(BLOCKS, SCRATCH, 1001),
  widenBF16: (k) => k.widenBF16(BLOCKS, SCRATCH, 1001),
  allFinite: (k) => [k.allFinite(FLOATS, 1001), k.allFinite(INTEGERS, 1001)],
  roundQ8: (k) => k.roundQ8(FLOATS, SCRATCH, SCRATCH + 64 * K, 960),
  interleaveQ8: q8,
  interleaveQ4: q4,
  expandQ8: (k) => k.expandQ8(WEIGHTS, true, SCRATCH, COLS, 5, 32),
  expandQ4: (k) => k.expandQ4(WEIGHTS, true, 8, SCRATCH, COLS, 5),
  quantizeActivations: (k) => quantize(k, 7),
  matmulQ8: q8,
  matmulQ4: q4,
  matmulF32: (k) => k.matmulF32(FLOATS, FLOATS + 64 * K, OUT, ROWS, COLS, 7, ROWS * 4),
  rmsNorm: (k) => k.rmsNorm(FLOATS, FLOATS + 64 * K, OUT, 577, 3, 1e-5),
  layerNorm: (k) => k.layerNorm(FLOATS, FLOATS + 64 * K, FLOATS + 96 * K, OUT, 577, 3, 1e-5),
  addInto: (k) => k.addInto(FLOATS, FLOATS + 64 * K, 1001),
  copyFloats: (k) => k.copyFloats(FLOATS, OUT, 1001),
  addBias: (k) => k.addBias(FLOATS, FLOATS + 64 * K, 201, 3),
  siluMultiply: (k) => k.siluMultiply(FLOATS, FLOATS + 64 * K, 1001),
  geluMultiply: (k) => k.geluMultiply(FLOATS, FLOATS + 64 * K, 1001),
  gelu: (k) => k.gelu(FLOATS, 1001),
  scaleBy: (k) => k.scaleBy(FLOATS, 1001, 0.7),
  softcap: (k) => k.softcap(FLOATS, 1001, 30),
  rope: (k) => {
    k.rope(FLOATS, FLOATS + 64 * K, 3, 64, 32, 1, 2);
    k.rope(FLOATS + 32 * K, FLOATS + 64 * K, 3, 64, 32, 32, 1);
  },
  attention: (k) => k.attention(FLOATS, FLOATS + 16 * K, FLOATS + 96 * K, OUT, SCRATCH, 6, 2, 12, 200, 96, 0.3, 5),
};

/** Random bytes that are no infinity as half floats, random floats, weights with both extremes, activations with zeros. */
function fill(memory: ReturnType<typeof newMemory>): Uint8Array {
  let state = 7;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const bytes = new Uint8Array(memory.buffer);
  const floats = new Float32Array(memory.buffer);
  for (let at = BLOCKS; at < FLOATS; at++) bytes[at] = (random() * 256) & (at < BLOCKS + 64 * K ? 0xbf : 15);
  for (let at = FLOATS / 4; at < INTEGERS / 4; at++) floats[at] = at % 96 < 32 ? random() * 2e-3 : random() * 60 - 30;
  for (let at = FLOATS / 4 + 64; at < FLOATS / 4 + 96; at++) floats[at] = at % 2 ? 30 : -30;
  for (let at = INTEGERS; at < SCALES; at++) bytes[at] = at % 5 === 0 ? (at % 2 ? 127 : 128) : random() * 256;
  for (let at = SCALES / 4; at < WEIGHTS / 4; at++) floats[at] = random() - 0.5;
  for (let at = WEIGHTS / 4; at < SUMS / 4; at++) floats[at] = random() - 0.5;
  return bytes;
}

/** What a call returns and leaves in the memory of a build, but for what only the relaxed build writes. */
function results(build: KernelBuild, call: Call): { returned: unknown; bytes: Buffer; untouched: Buffer } {
  const memory = newMemory(PAGES, PAGES);
  const bytes = fill(memory);
  const untouched = Buffer.from(bytes.slice());
  const returned = call(instantiateKernels(memory, build));
  return { returned, bytes: Buffer.from(bytes), untouched };
}

describe.skipIf(!runnable && process.env.CI === undefined)('the relaxed build', () => {
  it('is validated with the standard opcodes', () => {
    expect(runnable).toBe(true);
  });

  it('has the kernels of the plain build, and all of them are compared here', () => {
    const memory = newMemory(1, 1);
    const [plain, relaxed] = (['plain', 'relaxed'] as const).map((build) =>
      Object.keys(instantiateKernels(memory, build)),
    );
    expect(relaxed!.sort()).toEqual(plain!.sort());
    // The others say how large things are.
    expect(plain!.filter((name) => !(name in CALLS))).toEqual(['memory', 'octBytesQ4', 'octBytesQ8', 'splitQuants']);
  });

  it.each(Object.entries(CALLS))('%s gives the same bits in both builds', (_name, call) => {
    const plain = results('plain', call);
    const relaxed = results('relaxed', call);
    expect(relaxed.returned).toEqual(plain.returned);
    const end = QUANTS + COLS * 2; // one token's integers; those of others are seen in the products
    expect(relaxed.bytes.subarray(BLOCKS, end).equals(plain.bytes.subarray(BLOCKS, end))).toBe(true);
    expect(plain.returned !== undefined || !plain.bytes.equals(plain.untouched)).toBe(true);
  });

  it.each([
    ['stories260k/stories260k-q4_0', 'auto'],
    ['quants/qwen2-256-q4_1', 'auto'],
    ['quants/qwen2-256-q4_k_m-mix', 'auto'],
    ['quants/qwen2-256-q8_0', 'auto'],
    ['zoo/gemma2-tiny-f32', 'q8'],
  ] as const)('%s has the same logits in both builds', async (file, precision) => {
    const logits: number[][] = [];
    for (const answer of [false, true]) {
      probe.answer = answer;
      vi.resetModules();
      const { kernelBuild } = await import('../../../plv8/src/kernels/load.ts');
      expect(kernelBuild()).toBe(answer ? 'relaxed' : 'plain');
      const { Model } = await import('../../../plv8/src/model/model.ts');
      const { readConfig } = await import('../../../plv8/src/model/config.ts');
      const { architecture, hyperparameters, source } = readGguf(goldenPath(`${file}.gguf`));
      const poll = (): void => undefined;
      const config = readConfig(architecture, hyperparameters, source.tensors());
      const model = Model.load(config, source, { precision, poll });
      const cache = model.newCache(48);
      // A chunk of 32, one of 5, one token.
      const prompt = Array.from({ length: 37 }, (_, i) => (i * 7 + 3) % config.vocabSize);
      const first = Array.from(model.forward(prompt, cache, { poll }));
      logits.push([...first, ...model.forward([5], cache, { poll })]);
    }
    expect(logits[1]).toEqual(logits[0]);
    expect(new Set(logits[0]).size).toBeGreaterThan(100);
  });
});

describe('the picker', () => {
  it('takes a dot product that is exact and one instruction, and no other', async () => {
    const { hasRelaxedDot } = await vi.importActual<typeof RelaxedProbe>('../../../plv8/src/kernels/relaxed-probe.ts');
    const original = webAssembly();
    const dots: [engine: string, dot: ((a: number, b: number) => number) | null, taken: boolean][] = [
      ['without relaxed SIMD', null, false],
      ['VNNI', (a, b) => 4 * a * b, true],
      ['sdot', (a, b) => 4 * a * ((b << 24) >> 24), true],
      ['AVX2', (a, b) => 2 * Math.max(-32768, Math.min(32767, 2 * a * b)), false],
      ["V8 11.3's baseline compiler", (a, b) => 8 * a * b, false],
    ];
    try {
      for (const [engine, dot, taken] of dots) {
        vi.stubGlobal('WebAssembly', {
          validate: () => dot !== null,
          Module: class {},
          Instance: class {
            readonly exports = { dot };
          },
        });
        expect(hasRelaxedDot(), engine).toBe(taken);
      }
    } finally {
      vi.unstubAllGlobals();
    }
    expect(webAssembly()).toBe(original);
    expect(typeof hasRelaxedDot()).toBe('boolean');
  });
});
