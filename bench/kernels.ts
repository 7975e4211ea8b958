/**
 * The kernels alone, in the Node that runs this: billions of multiply-adds a second of the products, of either build, and
 * nanoseconds a float of the rest. No database, no model; shapes of Qwen2.5-0.5B.
 *
 *   npx tsx bench/kernels.ts [--rounds 9] [--only attention]
 *   OTHER_NODE node_modules/tsx/dist/cli.mjs bench/kernels.ts       # another V8
 */
import { parseArgs } from 'node:util';
import { compileKernels } from '../plv8/compile-kernels.ts';
import type { Form } from '../plv8/src/kernels/form.ts';
import { formNumber } from '../plv8/src/kernels/form.ts';
import type { KernelBuild, Kernels } from '../plv8/src/kernels/load.ts';
import { webAssembly } from '../plv8/src/kernels/web-assembly.ts';
import { median } from './statistics.ts';

const { values: args } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, only: { type: 'string', default: '' } },
});
const ROUNDS = Number(args.rounds);
/** Milliseconds that one measurement takes at least. */
const MEASURE_MS = 25;

const MIB = 1 << 20;
const [DIM, HIDDEN] = [1024, 4864]; // columns of super scales come in 256
const [HEADS, KV_HEADS, HEAD_SIZE] = [14, 2, 64];
const CONTEXT = 1024;

/** Addresses of one region after another in a memory of PAGES pages. */
const PAGES = 1600;
const WEIGHTS = MIB; // 48 MiB, more than the nearest caches hold
const INPUT = 49 * MIB;
const OUTPUT = 53 * MIB;
const QUANTS = 57 * MIB;
const SUMS = 61 * MIB;
const KEYS = 65 * MIB;
const VALUES = 75 * MIB;
const SCRATCH = 90 * MIB;
/** The same keys and values as half floats stand this far behind the floats. */
const HALVES = 5 * MIB;

interface Work {
  name: string;
  /** Multiply-adds, or floats where the unit says so. */
  count: number;
  unit: 'GMAC/s' | 'ns/float';
  run(k: Kernels): void;
}

function quantize(k: Kernels, cols: number, tokens: number): void {
  k.quantizeActivations(INPUT, QUANTS, SUMS, SUMS + MIB, SUMS + 2 * MIB, cols, tokens);
}

function products(tokens: number): Work[] {
  const count = HIDDEN * DIM * tokens;
  const ends = [OUTPUT, HIDDEN, DIM, tokens, HIDDEN * 4] as const;
  const of = tokens === 1 ? '1 token' : `${tokens} tokens`;
  const integers = (type: string, bits: Form['bits'], scales: Form['scales'], other: Partial<Form> = {}): Work => ({
    name: `${type} x ${of}`,
    count,
    unit: 'GMAC/s',
    run: (k) => {
      const form = formNumber({ bits, scales, offset: 0, hasMinimums: false, scaleCols: 32, ...other });
      k.matmulIntegers(WEIGHTS, form, QUANTS, SUMS, SUMS + MIB, SUMS + 2 * MIB, ...ends);
    },
  });
  const f32: Work = {
    name: `f32 x ${of}`,
    count,
    unit: 'GMAC/s',
    run: (k) => k.matmulF32(WEIGHTS, INPUT, ...ends),
  };
  return [
    integers('Q8_0', 8, 'halves'),
    integers('Q6_K', 8, 'super', { scaleCols: 16 }),
    integers('Q5_K', 8, 'super', { hasMinimums: true }),
    integers('Q4_0', 4, 'halves', { offset: 8 }),
    integers('Q4_K', 4, 'super', { hasMinimums: true }),
    f32,
  ];
}

/** On a fresh copy of the input each time, as repeated in place the numbers would become denormal; copying takes 0.1 ns. */
function inPlace(k: Kernels, n: number, run: () => void): void {
  k.copyFloats(INPUT, OUTPUT, n);
  run();
}

const GATES = 32 * HIDDEN;
const ROPE_HEADS = 512;

const PER_FLOAT: Work[] = [
  { name: 'quantizeActivations', count: 32 * DIM, run: (k: Kernels) => quantize(k, DIM, 32) },
  { name: 'rmsNorm', count: 32 * DIM, run: (k: Kernels) => k.rmsNorm(INPUT, KEYS, OUTPUT, DIM, 32, 1e-6) },
  { name: 'layerNorm', count: 32 * DIM, run: (k: Kernels) => k.layerNorm(INPUT, KEYS, VALUES, OUTPUT, DIM, 32, 1e-6) },
  {
    name: 'siluMultiply',
    count: GATES,
    run: (k: Kernels) => inPlace(k, GATES, () => k.siluMultiply(OUTPUT, INPUT, GATES)),
  },
  {
    name: 'geluMultiply',
    count: GATES,
    run: (k: Kernels) => inPlace(k, GATES, () => k.geluMultiply(OUTPUT, INPUT, GATES)),
  },
  ...(
    [
      ['halves', 32, 1],
      ['neighbours', 1, 2],
    ] as const
  ).map(([name, step, spread]) => ({
    name: `rope, ${name}`,
    count: ROPE_HEADS * HEAD_SIZE,
    run: (k: Kernels) =>
      inPlace(k, ROPE_HEADS * HEAD_SIZE, () =>
        k.rope(OUTPUT, KEYS, ROPE_HEADS, HEAD_SIZE, HEAD_SIZE / 2, step, spread, 1),
      ),
  })),
].map((work) => ({ ...work, unit: 'ns/float' as const }));

const ATTENTIONS: Work[] = ([0, 1] as const).map((halves) => ({
  name: `attention over ${CONTEXT} positions, ${halves ? 'half floats' : 'floats'}`,
  count: 2 * HEADS * HEAD_SIZE * CONTEXT,
  unit: 'GMAC/s',
  run: (k) =>
    k.attention(
      INPUT,
      KEYS + halves * HALVES,
      VALUES + halves * HALVES,
      OUTPUT,
      SCRATCH,
      HEADS,
      KV_HEADS,
      HEAD_SIZE,
      CONTEXT,
      KV_HEADS * HEAD_SIZE * (halves ? 2 : 4),
      0.125,
      0,
      1,
      1,
      CONTEXT,
      halves,
    ),
}));

const WORKS = [...products(1), ...products(8), ...products(32), ...ATTENTIONS, ...PER_FLOAT].filter(({ name }) =>
  name.includes(args.only),
);

/** A build over a memory of its own, filled with numbers between -1 and 1 but for the weights; null where V8 does not know it. */
async function prepare(build: 'plain' | 'relaxed'): Promise<Kernels | null> {
  const bytes = await compileKernels(build);
  const { validate, Module, Instance, Memory } = webAssembly();
  if (!validate(bytes)) return null;
  const memory = new Memory({ initial: PAGES, maximum: PAGES });
  const floats = new Float32Array(memory.buffer);
  let state = 1;
  for (let i = 0; i < floats.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    floats[i] = state / 2 ** 31 - 1;
  }
  // Bytes that make no subnormal floats or half floats, with which the processor takes ten times as long.
  const weights = new Uint8Array(memory.buffer, WEIGHTS, INPUT - WEIGHTS);
  for (let i = 0; i < weights.length; i++) weights[i] = 0x20 | (weights[i]! & 0x1f);
  const kernels = new Instance(new Module(bytes), { env: { memory, abort: () => undefined } }).exports as Kernels;
  for (const cache of [KEYS, VALUES]) kernels.narrowF16(cache, cache + HALVES, CONTEXT * KV_HEADS * HEAD_SIZE);
  return kernels;
}

/** Milliseconds of the processor for one call: the mean over MEASURE_MS. Time that other programs take does not count. */
function measure(work: Work, k: Kernels): number {
  const started = process.cpuUsage();
  const used = (): number => {
    const { user, system } = process.cpuUsage(started);
    return (user + system) / 1000;
  };
  let calls = 0;
  do {
    work.run(k);
    calls++;
  } while (used() < MEASURE_MS);
  return used() / calls;
}

async function main(): Promise<void> {
  const builds = new Map<KernelBuild, Kernels>();
  for (const build of ['plain', 'relaxed'] as const) {
    const kernels = await prepare(build);
    if (kernels !== null) builds.set(build, kernels);
    else console.log(`V8 ${process.versions.v8} does not validate the ${build} build`);
  }
  console.log(`V8 ${process.versions.v8}, medians of ${ROUNDS}\n`);
  console.log(`| kernel | unit | ${[...builds.keys()].join(' | ')} |\n|---|---|${'---|'.repeat(builds.size)}`);
  for (const work of WORKS) {
    const times = new Map([...builds.keys()].map((build) => [build, [] as number[]]));
    // One unmeasured round, for V8 to optimise the kernel; then the builds in turn.
    for (let round = 0; round <= ROUNDS; round++) {
      for (const [build, kernels] of builds) {
        quantize(kernels, DIM, Number(/(\d+) token/.exec(work.name)?.[1] ?? 1));
        const ms = measure(work, kernels);
        if (round > 0) times.get(build)!.push(ms);
      }
    }
    const cells = [...times.values()].map((ms) => {
      const each = median(ms);
      return work.unit === 'GMAC/s' ? (work.count / each / 1e6).toFixed(1) : ((each * 1e6) / work.count).toFixed(2);
    });
    console.log(`| ${work.name} | ${work.unit} | ${cells.join(' | ')} |`);
  }
}

await main();
