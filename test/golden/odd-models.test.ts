/**
 * Random decoders of odd shapes beside llama.cpp: in F32, and in every type of blocks that llama.cpp makes, against its logits
 * of the same weights dequantised. Skipped by npm test:
 *
 *     ODD_MODELS=FOLDER [ODD_SHAPES=4] [ODD_SEED=25] npx vitest run test/golden/odd-models.test.ts
 *
 * FOLDER has node-llama-cpp 3.22.1 in its node_modules and a copy of models/llama-worker.mjs.
 */
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../../plv8/src/model/config.ts';
import { Model } from '../../plv8/src/model/model.ts';
import { readGguf } from '../unit/gguf-source.ts';
import { arrayPair, ggufBytes, pair, string, stringPair, u32 } from '../unit/gguf-writer.ts';
import { cosine, maxDifference } from './agreement.ts';
import { readGgufMetadata } from './gguf-vocabulary.ts';
import { modelPath } from './model-files.ts';
import { zooPrompt } from './zoo-prompt.ts';

const { ODD_MODELS: llamaFolder = '', ODD_SHAPES: shapes = '4', ODD_SEED: seed = '25' } = process.env;
const LENGTHS = [5, 33, 257];
const CONTEXT = 512;
const VOCABULARY = 512;
/** llama.cpp looks GELU up in a table of half floats. */
const TOLERANCES: Record<string, number> = { gpt2: 2e-2, gemma2: 2e-2, gemma3: 2e-2 };
const TOLERANCE = 1e-3;
const MIN_COSINE = 0.9999;
const BLOCKS_OF_32 = ['F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'IQ4_NL'];
const BLOCKS_OF_256 = ['Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'IQ4_XS'];

/** What tells the architectures apart; the file of the zoo is the one that the vocabulary comes from. */
const KINDS = {
  llama: { zoo: 'llama-untied-gqa', fused: false, rms: true, output: true },
  qwen2: { zoo: 'qwen2-tiny', fused: false, rms: true, output: false, biases: 'qkv' },
  qwen3: { zoo: 'qwen3-tiny', fused: false, rms: true, output: false, headNorms: true, freeHeads: true },
  phi3: { zoo: 'phi3-tiny', fused: true, rms: true, output: true },
  gemma2: { zoo: 'gemma2-tiny', fused: false, rms: true, output: false, post: true, freeHeads: true, window: 24 },
  gemma3: {
    zoo: 'gemma3-tiny',
    fused: false,
    rms: true,
    output: false,
    post: true,
    headNorms: true,
    freeHeads: true,
    window: 24,
  },
  gpt2: { zoo: 'gpt2-tiny', fused: true, rms: false, output: false, biases: 'all' },
} as const;
type Name = keyof typeof KINDS;
interface Kind {
  zoo: string;
  fused: boolean;
  rms: boolean;
  output: boolean;
  biases?: 'qkv' | 'all';
  headNorms?: boolean;
  post?: boolean;
  freeHeads?: boolean;
  window?: number;
}

/** mulberry32. */
function random(start: number): () => number {
  let a = start | 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
const draw = random(Number(seed));
const whole = (from: number, to: number): number => from + Math.floor(draw() * (to - from + 1));
const normal = (): number => Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());

interface Shape {
  dim: number;
  hidden: number;
  heads: number;
  kvHeads: number;
  headSize: number;
  layers: number;
}

/** A shape whose rows are whole blocks of so many values; 1 for any. */
function shapeOf({ freeHeads, biases }: Kind, name: Name, block: number): Shape {
  const kvHeads = whole(1, 3);
  const heads = kvHeads * whole(1, 3);
  const layers = name === 'gemma3' ? 7 : whole(1, 3);
  const hidden = block * whole(block === 1 ? 11 : 1, block === 1 ? 150 : 3);
  if (block === 1 && freeHeads === true)
    return { dim: 4 * whole(5, 30), hidden, heads, kvHeads, headSize: 4 * whole(2, 12), layers };
  if (freeHeads === true)
    return { dim: block * whole(1, 3), hidden, heads: 8, kvHeads: 2, headSize: block / 4, layers };
  const same = biases === 'all' ? heads : kvHeads;
  const headSize = block === 1 ? 4 * whole(2, 12) : block / 4;
  return block === 1
    ? { dim: heads * headSize, hidden, heads, kvHeads: same, headSize, layers }
    : { dim: 4 * headSize, hidden, heads: 4, kvHeads: biases === 'all' ? 4 : 2, headSize, layers };
}

function vocabularyOf(zoo: string): Buffer[] {
  return [...readGgufMetadata(modelPath(`zoo/${zoo}-f32.gguf`))].flatMap(([key, value]) => {
    if (!key.startsWith('tokenizer.') || key === 'tokenizer.chat_template') return [];
    if (typeof value === 'string') return [stringPair(key, value)];
    if (typeof value === 'boolean') return [pair(key, 7, Buffer.of(value ? 1 : 0))];
    if (!Array.isArray(value)) return [pair(key, 4, u32(Number(value)))];
    if (typeof value[0] === 'string') return [arrayPair(key, 8, (value as string[]).map(string))];
    const numbers = value as number[];
    return key.endsWith('scores')
      ? [
          arrayPair(
            key,
            6,
            numbers.map((x) => Buffer.from(Float32Array.of(x).buffer)),
          ),
        ]
      : [
          arrayPair(
            key,
            5,
            numbers.map((x) => Buffer.from(Int32Array.of(x).buffer)),
          ),
        ];
  });
}

/** A whole GGUF file in F32. */
function modelFile(name: Name, kind: Kind, { dim, hidden, heads, kvHeads, headSize, layers }: Shape): Buffer {
  const tensors: { name: string; shape: number[]; type: number; offset: number }[] = [];
  const parts: Buffer[] = [];
  let offset = 0;
  const add = (tensor: string, shape: number[], deviation: number, mean = 0): void => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => mean + deviation * normal());
    const bytes = Buffer.from(values.buffer);
    const padded = Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)]);
    tensors.push({ name: tensor, shape, type: 0, offset });
    parts.push(padded);
    offset += padded.length;
  };
  const norm = (tensor: string): void => {
    add(`${tensor}.weight`, [dim], 0.3, 1.2);
    if (!kind.rms) add(`${tensor}.bias`, [dim], 0.3);
  };
  const linear = (tensor: string, cols: number, rows: number, bias: boolean): void => {
    add(`${tensor}.weight`, [cols, rows], 1.4 / Math.sqrt(cols));
    if (bias) add(`${tensor}.bias`, [rows], 0.3);
  };
  const all = kind.biases === 'all';
  const width = heads * headSize;
  const kvWidth = kvHeads * headSize;
  add('token_embd.weight', [dim, VOCABULARY], kind.post === true ? 0.1 : 0.25);
  if (!kind.rms) add('position_embd.weight', [dim, CONTEXT], 0.1);
  for (let layer = 0; layer < layers; layer++) {
    const at = `blk.${layer}.`;
    norm(`${at}attn_norm`);
    if (kind.fused) linear(`${at}attn_qkv`, dim, width + 2 * kvWidth, all);
    else
      for (const [role, rows] of [
        ['q', width],
        ['k', kvWidth],
        ['v', kvWidth],
      ] as const)
        linear(`${at}attn_${role}`, dim, rows, kind.biases !== undefined);
    linear(`${at}attn_output`, width, dim, all);
    if (kind.headNorms === true) for (const role of 'qk') add(`${at}attn_${role}_norm.weight`, [headSize], 0.3, 1.2);
    if (kind.post === true) norm(`${at}post_attention_norm`);
    norm(`${at}ffn_norm`);
    if (name === 'phi3') linear(`${at}ffn_up`, dim, 2 * hidden, false);
    else {
      if (name !== 'gpt2') linear(`${at}ffn_gate`, dim, hidden, false);
      linear(`${at}ffn_up`, dim, hidden, all);
    }
    linear(`${at}ffn_down`, hidden, dim, all);
    if (kind.post === true) norm(`${at}post_ffw_norm`);
  }
  norm('output_norm');
  if (kind.output) linear('output', dim, VOCABULARY, false);
  const float = (key: string, value: number): Buffer =>
    pair(`${name}.${key}`, 6, Buffer.from(Float32Array.of(value).buffer));
  const counts: Record<string, number> = {
    block_count: layers,
    context_length: CONTEXT,
    embedding_length: dim,
    feed_forward_length: hidden,
    'attention.head_count': heads,
    'attention.head_count_kv': kvHeads,
    ...(kind.freeHeads === true ? { 'attention.key_length': headSize, 'attention.value_length': headSize } : {}),
    ...(kind.window === undefined ? {} : { 'attention.sliding_window': kind.window }),
    ...(name === 'llama' || name === 'phi3' ? { 'rope.dimension_count': headSize } : {}),
  };
  const metadata = [
    stringPair('general.architecture', name),
    ...Object.entries(counts).map(([key, value]) => pair(`${name}.${key}`, 4, u32(value))),
    float(`attention.layer_norm_${kind.rms ? 'rms_' : ''}epsilon`, 1e-5),
    ...(name === 'gpt2' ? [] : [float('rope.freq_base', name === 'gemma3' ? 1e6 : 1e4)]),
    ...(name === 'gemma2' ? [float('attn_logit_softcapping', 5), float('final_logit_softcapping', 30)] : []),
    ...vocabularyOf(kind.zoo),
  ];
  return ggufBytes({ metadata, tensors, data: Buffer.concat(parts) });
}

let worker: ChildProcess;
let answers: AsyncIterator<string>;
let folder: string;

beforeAll(() => {
  if (llamaFolder === '') return;
  worker = spawn(process.execPath, ['llama-worker.mjs'], { cwd: llamaFolder, stdio: ['pipe', 'pipe', 'ignore'] });
  answers = createInterface({ input: worker.stdout! })[Symbol.asyncIterator]();
  folder = mkdtempSync(join(tmpdir(), 'odd-models-'));
});
afterAll(() => {
  if (llamaFolder === '') return;
  worker.stdin!.end();
  rmSync(folder, { recursive: true });
});

async function llama(file: string, ids: number[]): Promise<number[]> {
  worker.stdin!.write(`${JSON.stringify({ file, mode: 'logits', ids, context: CONTEXT })}\n`);
  const { value } = (await answers.next()) as { value: string };
  const answer = JSON.parse(value) as { values?: number[]; error?: string };
  if (answer.values === undefined) throw new Error(`llama.cpp: ${answer.error}`);
  return answer.values;
}

function quantize(from: string, to: string, type: string): void {
  const library = join(llamaFolder, 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64');
  execFileSync('python3', [modelPath('quantize-with-llama.py'), library, from, to, type], {
    env: { ...process.env, LD_LIBRARY_PATH: library },
    stdio: 'ignore',
  });
}

/** Largest difference and least cosine of the logits of a file with llama.cpp's of a reference. */
async function compare(file: string, reference: string): Promise<{ difference: number; least: number }> {
  const { architecture, hyperparameters, source } = readGguf(file);
  const config = readConfig(architecture, hyperparameters, source.tensors());
  const poll = (): void => undefined;
  const model = Model.load(config, source, { precision: 'f32', poll });
  const found = { difference: 0, least: 1 };
  for (const length of LENGTHS) {
    const ids = zooPrompt(length);
    const wanted = await llama(reference, ids);
    const logits = [...model.forward(ids, model.newCache(CONTEXT), { poll })];
    found.difference = Math.max(found.difference, maxDifference(logits, wanted));
    found.least = Math.min(found.least, cosine(logits, wanted));
  }
  return found;
}

test.runIf(llamaFolder !== '').each(Object.keys(KINDS) as Name[])(
  '%s agrees with llama.cpp (ODD_MODELS=FOLDER)',
  async (name) => {
    const kind: Kind = KINDS[name];
    const check = async (type: string, shape: Shape, file: string, reference: string): Promise<void> => {
      const { difference, least } = await compare(file, reference);
      const what = `${name} ${type} ${JSON.stringify(shape)}`;
      console.log(`${what}: largest difference ${difference.toExponential(1)}, cosine ${least.toFixed(8)}`);
      expect(difference, what).toBeLessThanOrEqual(TOLERANCES[name] ?? TOLERANCE);
      expect(least, what).toBeGreaterThanOrEqual(MIN_COSINE);
    };
    const [plain, blocks, floats] = ['plain', 'blocks', 'floats'].map((each) => join(folder, `${each}.gguf`)) as [
      string,
      string,
      string,
    ];
    for (let i = 0; i < Number(shapes); i++) {
      const shape = shapeOf(kind, name, 1);
      writeFileSync(plain, modelFile(name, kind, shape));
      await check('F32', shape, plain, plain);
    }
    for (const [block, types] of [
      [32, BLOCKS_OF_32],
      [256, BLOCKS_OF_256],
    ] as const) {
      const shape = shapeOf(kind, name, block);
      writeFileSync(plain, modelFile(name, kind, shape));
      for (const type of types) {
        quantize(plain, blocks, type);
        quantize(blocks, floats, 'F32');
        await check(type, shape, blocks, floats);
      }
    }
  },
  600_000,
);
