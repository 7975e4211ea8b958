/** Runs inside PostgreSQL: wrong calls of the host's kernels, out of a table and at random; each has to be a JavaScript error. */
import { random } from '../../bench/random.ts';
import { kernelHost } from '../../plv8/src/db.ts';
import type { Form } from '../../plv8/src/kernels/form.ts';
import { formNumber, octBytes } from '../../plv8/src/kernels/form.ts';
import { newMemory } from '../../plv8/src/kernels/load.ts';
import { FORMS } from '../unit/kernels/forms.ts';

/** Of the memory that the calls are about: what they need, and so little that it can be compared after each. */
const PAGES = 16;
const BYTES = PAGES * 65536;
/** Multiply-adds of a right call that is made; random lengths may ask for more. */
const MOST_WORK = 1e6;
const RANDOM_CALLS = 2200;
/** Of so many wrong calls one is looked at for what it left in the memory. */
const LOOK_EVERY = 8;

/** What an argument of a kernel is: where it may be wrong, and how. */
type Argument = 'address' | 'form' | 'count' | 'length' | 'flag' | 'number' | 'free';

/** A right call of every kernel of the host's, argument by argument. */
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
  attentionShared: [
    ...addresses(4), ['free', 0], ['length', 4], ['length', 2], ['length', 8], ['length', 80], ['length', 64],
    ['number', 0.3], ['number', 0], ['length', 3], ['free', 1], ['free', 100], ['flag', 0],
    ['count', 70], ['address', 5 << 17], ['address', 6 << 17],
  ],
}; // prettier-ignore

/** Places 128 KiB apart. */
function addresses(n: number): [Argument, number][] {
  return Array.from({ length: n }, (_, i) => ['address', (i + 1) << 17]);
}

const NO_NUMBERS: unknown[] = [undefined, null, 'x', '8', {}, [], 2n, Symbol('x')];
/** Numbers that are no count; the largest count is more than any memory holds. */
const NO_COUNTS: unknown[] = [
  ...NO_NUMBERS,
  true,
  -1,
  -0,
  1.5,
  NaN,
  Infinity,
  -Infinity,
  2 ** 32,
  2 ** 53,
  2 ** 32 - 1,
];
const WRONG: Record<Argument, unknown[]> = {
  address: [...NO_COUNTS, BYTES - 4, BYTES, 131073, 2 ** 31],
  form: [...NO_COUNTS, 0, 8 + 64 + 128, 7, 4, 4 + 32, 2116 + 16, 6 + 128, 2116 + 2 ** 16],
  count: NO_COUNTS,
  length: [...NO_COUNTS, 0],
  flag: [...NO_COUNTS, 2],
  number: [...NO_NUMBERS, true],
  free: NO_COUNTS.slice(0, -1),
};

/** What is no number of threads, and what is no memory. */
const NO_THREADS: unknown[] = [...NO_NUMBERS.slice(2), true, 0, -1, 1.5, NaN, 2 ** 32];
const NO_MEMORIES: unknown[] = [
  ...NO_NUMBERS,
  () => 0,
  new Float32Array(8),
  { buffer: null },
  { buffer: new ArrayBuffer(65536) },
  {
    get buffer(): never {
      throw new Error('no buffer');
    },
  },
  new Proxy(newMemory(1, 1), {}),
];

type AnyKernels = Record<string, (...args: unknown[]) => unknown>;

interface WrongCalls {
  calls: number;
  /** Those that were no error. */
  taken: string[];
  /** Kernels of which there is no right call here. */
  missing: string[];
}

/** Call the host's kernels with one wrong argument each, and wrongly what gives kernels and threads. */
export function callWrongly(_file: null, threads: number): WrongCalls {
  const host = kernelHost()!;
  host.threads(threads);
  const memory = newMemory(PAGES, PAGES);
  const kernels = host.over(memory) as AnyKernels;
  const missing = Object.keys(kernels).filter((name) => !(name in RIGHT_CALLS));
  const taken: string[] = [];
  let calls = 0;
  const refused = (what: string, call: () => unknown): void => {
    calls++;
    try {
      call();
      taken.push(what);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
  };
  for (const wrong of NO_THREADS) refused(`threads(${String(wrong)})`, () => host.threads(wrong as number));
  for (const wrong of NO_MEMORIES) refused(`over(${typeof wrong})`, () => host.over(wrong as typeof memory));
  for (let round = 0; round < 4; round++) {
    for (const [name, right] of Object.entries(RIGHT_CALLS)) {
      kernels[name]!(...right.map(([, value]) => value));
      right.forEach(([argument], at) => {
        for (const wrong of WRONG[argument]) {
          const args: unknown[] = right.map(([, value]) => value);
          args[at] = wrong;
          // A second wrong argument, now and then.
          if (round > 0 && right[(at + round) % right.length]![0] === 'count') args[(at + round) % right.length] = NaN;
          refused(`${name} with ${String(wrong)} as argument ${at + 1}`, () => kernels[name]!(...args));
        }
      });
      const values = right.map(([, value]) => value);
      values.forEach((_, n) => refused(`${name} with ${n} arguments`, () => kernels[name]!(...values.slice(0, n))));
    }
  }
  return { calls, taken, missing };
}

/** What a call uses of the memory: `argument` says where it begins. */
interface Range {
  argument: number;
  at: number;
  elements: number;
  /** Bytes of an element, to a multiple of which it is aligned. */
  size: number;
}

class WrongCall extends Error {}

/**
 * What the kernels ask of their arguments, written down once more. Lengths are floats here: of a product that they do not hold it is
 * enough that it is more than a memory has.
 */
class Judge {
  readonly ranges: Range[] = [];
  /** Multiply-adds, or as much work. */
  work = 0;
  private taken = 0;

  constructor(private readonly args: readonly unknown[]) {}

  get left(): boolean {
    return this.taken < this.args.length;
  }

  check(right: boolean): void {
    if (!right) throw new WrongCall();
  }

  count(least = 0): number {
    const value = this.args[this.taken++];
    this.check(typeof value === 'number' && Number.isInteger(value) && !Object.is(value, -0));
    this.check((value as number) >= least && (value as number) < 2 ** 32);
    return value as number;
  }

  length(): number {
    return this.count(1);
  }

  number(): void {
    this.check(typeof this.args[this.taken++] === 'number');
  }

  /** An address; what is used from there on is told to what this returns. */
  address(): (elements: number, size?: number) => void {
    const argument = this.taken;
    const at = this.count();
    return (elements, size = 4) => {
      this.ranges.push({ argument, at, elements, size });
      this.check(at % size === 0 && at + elements * size <= BYTES);
    };
  }

  form(): Form {
    const number = this.count();
    const form = Object.values(FORMS).find((known) => formNumber(known) === number);
    if (form === undefined) throw new WrongCall();
    return form;
  }

  stride(rows: number): number {
    const bytes = this.count();
    this.check(bytes % 4 === 0 && bytes / 4 >= rows);
    return bytes / 4;
  }
}

type Activations = Record<'quants' | 'scales' | 'sums' | 'scaledSums', (elements: number, size?: number) => void>;

function takeActivations(judge: Judge): Activations {
  return { quants: judge.address(), scales: judge.address(), sums: judge.address(), scaledSums: judge.address() };
}

interface Matrix {
  form: Form;
  rows: number;
  cols: number;
  tokens: number;
  stride: number;
}

function judgeProduct(judge: Judge, { form, rows, cols, tokens, stride }: Matrix, x: Activations): void {
  judge.check(cols % (form.scales === 'super' ? 256 : 32) === 0);
  x.quants(cols * tokens, 2);
  x.scales((cols / 32) * tokens);
  if (form.bits < 8) x.sums((cols / 32) * tokens);
  if (form.hasMinimums) x.scaledSums((cols / 32) * tokens);
  judge.check(stride >= rows);
  judge.work += rows * cols * tokens;
}

const ofRows = (judge: Judge, from: ((elements: number) => void)[], weights: ((elements: number) => void)[]): void => {
  const n = judge.length();
  const rows = judge.count();
  for (const range of from) range(n * rows);
  for (const range of weights) range(n);
  judge.work = n * rows;
};

const ofFloats =
  (addresses: number, factor: boolean, sizes: number[] = []) =>
  (judge: Judge): void => {
    const ranges = Array.from({ length: addresses }, () => judge.address());
    const n = judge.count();
    if (factor) judge.number();
    ranges.forEach((range, i) => range(n, sizes[i] ?? 4));
    judge.work = n * 16;
  };

/** A wrong call throws here. */
const RULES: Record<string, (judge: Judge) => void> = {
  quantizeActivations(judge) {
    const src = judge.address();
    const x = takeActivations(judge);
    const cols = judge.length();
    judge.check(cols % 32 === 0);
    const tokens = judge.count();
    src(cols * tokens);
    x.quants(cols * tokens, 2);
    for (const range of [x.scales, x.sums, x.scaledSums]) range((cols / 32) * tokens);
    judge.work = cols * tokens;
  },
  matmulIntegers(judge) {
    const weights = judge.address();
    const form = judge.form();
    const x = takeActivations(judge);
    const out = judge.address();
    const rows = judge.count();
    const cols = judge.length();
    const tokens = judge.count();
    const stride = judge.count() / 4;
    judge.check(Number.isInteger(stride));
    judgeProduct(judge, { form, rows, cols, tokens, stride }, x);
    weights((octBytes(form, cols) / 4) * Math.ceil(rows / 8));
    if (tokens > 0 && rows > 0) out(stride * (tokens - 1) + rows);
  },
  matmulTogether(judge) {
    const x = takeActivations(judge);
    const cols = judge.length();
    const tokens = judge.count();
    let matrices = 0;
    do {
      judge.check(++matrices <= 4);
      const weights = judge.address();
      const form = judge.form();
      const out = judge.address();
      const rows = judge.count();
      const stride = judge.count() / 4;
      judge.check(Number.isInteger(stride));
      judgeProduct(judge, { form, rows, cols, tokens, stride }, x);
      weights((octBytes(form, cols) / 4) * Math.ceil(rows / 8));
      if (tokens > 0 && rows > 0) out(stride * (tokens - 1) + rows);
    } while (judge.left);
  },
  matmulF32(judge) {
    const [weights, x, out] = [judge.address(), judge.address(), judge.address()];
    const rows = judge.count();
    const cols = judge.length();
    judge.check(cols % 4 === 0);
    const tokens = judge.count();
    const stride = judge.stride(rows);
    weights(rows * cols);
    x(cols * tokens);
    if (tokens > 0 && rows > 0) out(stride * (tokens - 1) + rows);
    judge.work = rows * cols * tokens;
  },
  rmsNorm(judge) {
    const [x, weight, out] = [judge.address(), judge.address(), judge.address()];
    ofRows(judge, [x, out], [weight]);
    judge.number();
  },
  layerNorm(judge) {
    const [x, weight, bias, out] = [judge.address(), judge.address(), judge.address(), judge.address()];
    ofRows(judge, [x, out], [weight, bias]);
    judge.number();
  },
  addInto: ofFloats(2, false),
  addBias(judge) {
    const [x, bias] = [judge.address(), judge.address()];
    ofRows(judge, [x], [bias]);
  },
  siluMultiply: ofFloats(2, false),
  geluMultiply: ofFloats(2, false),
  gelu: ofFloats(1, false),
  scaleBy: ofFloats(1, true),
  softcap: ofFloats(1, true),
  narrowF16: ofFloats(2, false, [4, 2]),
  rope(judge) {
    const [x, table] = [judge.address(), judge.address()];
    const [heads, headSize, half] = [judge.count(), judge.count(), judge.length()];
    const [step, spread, tokens] = [judge.count(), judge.count(), judge.count()];
    judge.check((half - 1) * spread + step < headSize);
    x(heads * headSize * tokens);
    table(2 * half * tokens);
    judge.work = heads * headSize * tokens;
  },
  attention(judge) {
    judgeAttention(judge, false);
  },
  attentionShared(judge) {
    judgeAttention(judge, true);
  },
};

function judgeAttention(judge: Judge, isShared: boolean): void {
  const [q, keys, values, out] = [judge.address(), judge.address(), judge.address(), judge.address()];
  judge.count();
  const [heads, kvHeads, headSize, length] = [judge.length(), judge.length(), judge.length(), judge.length()];
  judge.check(heads % kvHeads === 0 && headSize % 4 === 0 && headSize <= 2048);
  const stride = judge.count();
  judge.number();
  judge.number();
  const tokens = judge.length();
  const growth = judge.count();
  const window = judge.length();
  const halves = judge.count();
  judge.check(halves <= 1);
  const size = halves === 1 ? 2 : 4;
  judge.check(stride % 4 === 0 && stride >= kvHeads * headSize * size);
  const shared = isShared ? judge.count() : 0;
  judge.check(shared < length);
  const rows = (n: number): number => (stride / size) * (n - 1) + kvHeads * headSize;
  if (isShared) {
    for (const place of [judge.address(), judge.address()]) if (shared > 0) place(rows(shared), size);
  }
  const positions = length + growth * (tokens - 1);
  const cached = rows(positions - Math.max(0, shared - 63));
  q(heads * headSize * tokens);
  keys(cached, size);
  values(cached, size);
  out(heads * headSize * tokens);
  judge.work = 4 * heads * headSize * tokens * Math.min(positions, window);
}

interface RandomCalls {
  wrong: number;
  right: number;
  findings: string[];
}

/** Call the host's kernels `calls` times with arguments that are right, nearly right and far from it. */
export function callRandomly(_file: null, threads: number): RandomCalls {
  const host = kernelHost()!;
  host.threads(threads);
  const memory = newMemory(PAGES, PAGES);
  const kernels = host.over(memory) as AnyKernels;
  const next = random(threads);
  const below = (n: number): number => Math.floor(next() * n);
  const pick = <T>(from: readonly T[]): T => from[below(from.length)]!;
  const numbers = new Int32Array(memory.buffer);
  for (let i = 0; i < numbers.length; i++) numbers[i] = next() * 2 ** 32;
  const before = numbers.slice();
  const changed = (): boolean => {
    for (let i = 0; i < numbers.length; i++) if (numbers[i] !== before[i]) return true;
    return false;
  };

  const forms = Object.values(FORMS).map(formNumber);
  const mutated = (argument: Argument, value: number | boolean): unknown => {
    const near = (Number(value) + below(9) - 4) >>> 0;
    const choices: unknown[] = [
      near,
      Number(value) * 2 ** below(12),
      2 ** below(33),
      0,
      2 ** 32 - 1 - below(8),
      pick(NO_COUNTS),
    ];
    if (argument === 'address') choices.push(BYTES - 4 * below(300), 4 * below(BYTES / 4), Number(value) + 2);
    if (argument === 'form') choices.push(pick(forms), pick(forms), pick(forms), below(2 ** 16));
    if (argument === 'number') choices.push(next() - 0.5, -0, NaN, Infinity);
    return pick(choices);
  };
  const findings: string[] = [];
  let [wrong, right] = [0, 0];
  const make = (name: string, args: unknown[]): Range[] => {
    const judge = new Judge(args);
    let isRight = true;
    try {
      RULES[name]!(judge);
    } catch (error) {
      if (!(error instanceof WrongCall)) throw error;
      isRight = false;
    }
    if (isRight && judge.work > MOST_WORK) return [];
    let refusal: unknown = null;
    try {
      kernels[name]!(...args);
    } catch (error) {
      refusal = error;
    }
    const call = `${name}(${args.map(String).join(', ')})`;
    if (isRight) right++;
    else wrong++;
    if (isRight && refusal !== null) findings.push(`${call}: ${String(refusal)}`);
    if (!isRight && !(refusal instanceof Error)) findings.push(`${call}: taken`);
    if (!isRight && wrong % LOOK_EVERY === 0 && changed()) findings.push(`${call}: changed the memory`);
    if (isRight) before.set(numbers);
    return isRight ? judge.ranges : [];
  };

  for (let i = 0; i < RANDOM_CALLS; i++) {
    const [name, template] = pick(Object.entries(RIGHT_CALLS));
    const full =
      name === 'matmulTogether'
        ? [...template, ...Array.from({ length: below(4) }, () => template.slice(6)).flat()]
        : template;
    const odds = pick([0.05, 0.15, 0.4]);
    const args = full.map(([argument, value]) => (next() < odds ? mutated(argument, value) : value));
    const ranges = make(name, next() < 0.05 ? args.slice(0, below(args.length)) : args);
    // What is right is moved to the very end of the memory, and one element beyond.
    if (ranges.length === 0) continue;
    const { argument, elements, size } = pick(ranges);
    const end = BYTES - elements * size;
    for (const at of [end, end + size])
      make(
        name,
        args.map((value, i) => (i === argument ? at : value)),
      );
  }
  return { wrong, right, findings };
}
