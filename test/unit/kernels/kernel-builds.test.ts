/**
 * The relaxed build of the kernels against the plain one. Node 20 knows relaxed SIMD behind a flag, and its baseline compiler
 * (V8 11.3) has the dot product wrong, so these tests run optimised code only; the picker refuses such an engine.
 */
import { setFlagsFromString } from 'node:v8';
import { describe, expect, it, vi } from 'vitest';
import type { KernelBuild } from '../../../plv8/src/kernels/load.ts';
import { instantiateKernels, newMemory } from '../../../plv8/src/kernels/load.ts';
import type * as RelaxedProbe from '../../../plv8/src/kernels/relaxed-probe.ts';
import { webAssembly } from '../../../plv8/src/kernels/web-assembly.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath } from '../golden-model.ts';
import type { KernelCall } from './kernel-calls.ts';
import { BLOCKS, CALLS, COLS, fillMemory, PAGES, QUANTS, SHAPES, WIDE_SHAPES } from './kernel-calls.ts';

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

/** What a call returns and leaves in the memory of a build, but for what only the relaxed build writes. */
function results(build: KernelBuild, call: KernelCall): { returned: unknown; bytes: Buffer; untouched: Buffer } {
  const memory = newMemory(PAGES, PAGES);
  const bytes = fillMemory(memory);
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
    // The others are parts of matmulIntegers, one that says where something is, and those that make trees of tokens
    // (test/unit/sampling/constraint).
    expect(plain!.filter((name) => !(name in CALLS) && !name.startsWith('oneToken')).sort()).toEqual([
      'growTree',
      'longestToken',
      'memory',
      'sortTokens',
      'splitQuants',
    ]);
  });

  it.each(Object.entries({ ...CALLS, ...SHAPES, ...WIDE_SHAPES }))(
    '%s gives the same bits in both builds',
    (_name, call) => {
      const plain = results('plain', call);
      const relaxed = results('relaxed', call);
      expect(relaxed.returned).toEqual(plain.returned);
      const end = QUANTS + COLS * 2; // one token's integers; those of others are seen in the products
      expect(relaxed.bytes.subarray(BLOCKS, end).equals(plain.bytes.subarray(BLOCKS, end))).toBe(true);
      expect(plain.returned !== undefined || !plain.bytes.equals(plain.untouched)).toBe(true);
    },
  );

  it.each([
    ['llama-260k/llama-260k-q4_0', 'auto'],
    ['quants/qwen2-256-q4_1', 'auto'],
    ['quants/qwen2-256-q4_k_m-mix', 'auto'],
    ['quants/qwen2-256-q5_0', 'auto'],
    ['quants/qwen2-256-q6_k', 'auto'],
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
