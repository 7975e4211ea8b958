/** Writes a GGUF test model as the Hugging Face folder it would have come from. */
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readGgufHeader } from '../../cli/sources/gguf.ts';
import type { GgufTensor } from '../../cli/sources/gguf.ts';
import type { StringTable } from '../../cli/sources/string-table.ts';
import type { Scheme } from './hugging-face-names.ts';
import { SCHEMES, theirName } from './hugging-face-names.ts';

export interface FolderOptions {
  /** Files of tensors; an index is written when there are more than one. */
  shards?: number;
  /** vocab.json and merges.txt, or vocab.txt, in place of tokenizer.json. */
  separateVocabulary?: boolean;
}

type Header = ReturnType<typeof readGgufHeader>;

export function safetensorsBytes(
  tensors: { name: string; dtype: string; shape: number[]; bytes: Buffer }[],
  metadata: Record<string, string> = { format: 'pt' },
): Buffer {
  let at = 0;
  const header: Record<string, unknown> = { __metadata__: metadata };
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...tensors.map((tensor) => tensor.bytes)]);
}

/** A tensor with the shape and bytes that transformers saves; F32 where they are not GGUF's. */
function theirTensor(scheme: Scheme, header: Header, tensor: GgufTensor, bytes: Buffer) {
  const role = tensor.name.replace(/^blk\.\d+\./, '').replace(/\.weight$/, '');
  const shape = [...tensor.shape].reverse();
  const entry = { name: theirName(scheme, tensor.name), dtype: tensor.type.name, shape, bytes };
  const floats = (): Float32Array =>
    new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  if (scheme.transposed?.includes(role) === true) {
    const [rows, cols] = shape as [number, number];
    const given = floats();
    const turned = Float32Array.from(given, (_, i) => given[(i % rows) * cols + Math.floor(i / rows)]!);
    return { ...entry, shape: [cols, rows], bytes: Buffer.from(turned.buffer) };
  }
  const heads = scheme.halves?.[role];
  if (heads !== undefined) {
    const architecture = String(header.metadata.get('general.architecture'));
    const size = shape[0]! / Number(header.metadata.get(`${architecture}.${heads}`)); // rows of a head
    const rowBytes = bytes.length / shape[0]!;
    const rows = Array.from({ length: shape[0]! }, (_, row) => {
      const within = row % size;
      const from = row - within + 2 * (within % (size / 2)) + Math.floor(within / (size / 2));
      return bytes.subarray(from * rowBytes, (from + 1) * rowBytes);
    });
    return { ...entry, bytes: Buffer.concat(rows) };
  }
  if (scheme.normsLessOne === true && role.endsWith('norm'))
    return { ...entry, bytes: Buffer.from(floats().map((value) => value - 1).buffer) };
  return entry;
}

function strings(header: Header, key: string): string[] {
  const table = header.metadata.get(key) as StringTable;
  return Array.from({ length: table.length }, (_, i) => table.at(i).toString());
}

/** tokenizer.model: a protobuf of pieces, and the two settings that matter. */
function sentencePieceModel(header: Header): Buffer {
  const varint = (value: number): Buffer => {
    const out: number[] = [];
    for (let left = value; ; left = Math.floor(left / 128)) {
      out.push(left < 128 ? left : (left % 128) | 128);
      if (left < 128) return Buffer.from(out);
    }
  };
  const field = (number: number, bytes: Buffer): Buffer =>
    Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
  const whole = (number: number, value: number): Buffer => Buffer.concat([varint(number * 8), varint(value)]);
  const scores = header.metadata.get('tokenizer.ggml.scores') as number[];
  const types = header.metadata.get('tokenizer.ggml.token_type') as number[];
  const pieces = strings(header, 'tokenizer.ggml.tokens').map((text, id) => {
    const score = Buffer.alloc(4);
    score.writeFloatLE(scores[id]!);
    return field(
      1,
      Buffer.concat([field(1, Buffer.from(text)), Buffer.from([2 * 8 + 5]), score, whole(3, types[id]!)]),
    );
  });
  const bpe = field(2, whole(3, 2));
  const prefix = field(3, whole(3, header.metadata.get('tokenizer.ggml.add_space_prefix') === false ? 0 : 1));
  return Buffer.concat([...pieces, bpe, prefix]);
}

const QWEN2_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Files of a byte-level BPE or WordPiece vocabulary. */
function writeVocabulary(header: Header, folder: string, separate: boolean): void {
  const write = (name: string, value: unknown): void => writeFileSync(join(folder, name), JSON.stringify(value));
  const tokens = strings(header, 'tokenizer.ggml.tokens');
  const types = header.metadata.get('tokenizer.ggml.token_type') as number[];
  const special = tokens.map((content, id) => ({ id, content, special: true })).filter(({ id }) => types[id] === 3);
  if (header.metadata.get('tokenizer.ggml.model') === 'bert') {
    const pieces = tokens.map((text, id) =>
      types[id] === 3 ? text : text.startsWith('\u2581') ? text.slice(1) : `##${text}`,
    );
    if (separate) return writeFileSync(join(folder, 'vocab.txt'), `${pieces.join('\n')}\n`);
    return write('tokenizer.json', {
      added_tokens: special,
      normalizer: { type: 'BertNormalizer', lowercase: true, strip_accents: null },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      model: { type: 'WordPiece', unk_token: '[UNK]', vocab: Object.fromEntries(pieces.map((text, id) => [text, id])) },
    });
  }
  const merges = strings(header, 'tokenizer.ggml.merges');
  const vocab = Object.fromEntries(tokens.map((text, id) => [text, id]).filter(([, id]) => types[id as number] === 1));
  if (separate) {
    write('vocab.json', vocab);
    writeFileSync(join(folder, 'merges.txt'), `#version: 0.2\n${merges.join('\n')}\n`);
    return write('added_tokens.json', Object.fromEntries(special.map(({ content, id }) => [content, id])));
  }
  const split = [
    { type: 'Split', pattern: { Regex: QWEN2_WORDS } },
    { type: 'ByteLevel', use_regex: false },
  ];
  write('tokenizer.json', {
    added_tokens: special,
    pre_tokenizer:
      header.metadata.get('tokenizer.ggml.pre') === 'qwen2'
        ? { type: 'Sequence', pretokenizers: split }
        : { type: 'ByteLevel', add_prefix_space: false },
    model: { type: 'BPE', vocab, merges },
  });
}

/** The tokens with a meaning, as tokenizer_config.json names them. */
function tokenNames(header: Header): Record<string, unknown> {
  const tokens = strings(header, 'tokenizer.ggml.tokens');
  const named = (key: string): string | undefined => {
    const id = header.metadata.get(`tokenizer.ggml.${key}_token_id`);
    return typeof id === 'number' ? tokens[id] : undefined;
  };
  if (header.metadata.get('tokenizer.ggml.model') === 'bert')
    return { cls_token: named('cls'), sep_token: named('seperator'), unk_token: named('unknown'), do_lower_case: true };
  return {
    eos_token: { content: named('eos') },
    bos_token: named('bos'),
    unk_token: named('unknown'),
    add_bos_token: header.metadata.get('tokenizer.ggml.add_bos_token') ?? false,
    chat_template: '{{ messages }}',
  };
}

/** Write the folder; its tensors hold GGUF's bytes but for those that transformers saves otherwise. */
export function writeHuggingFaceFolder(gguf: string, folder: string, options: FolderOptions = {}): void {
  const { shards = 1, separateVocabulary = false } = options;
  const fd = openSync(gguf, 'r');
  const header = readGgufHeader(fd);
  closeSync(fd);
  const bytes = readFileSync(gguf);
  const name = String(header.metadata.get('general.architecture'));
  const scheme = SCHEMES[name]!;
  mkdirSync(folder, { recursive: true });
  const write = (file: string, value: unknown): void => writeFileSync(join(folder, file), JSON.stringify(value));
  write('config.json', {
    architectures: [scheme.architecture],
    ...Object.fromEntries(
      Object.entries(scheme.config).map(([theirs, ours]) => [theirs, header.metadata.get(`${name}.${ours}`)]),
    ),
    ...scheme.fixed,
  });
  if (header.metadata.get('tokenizer.ggml.model') === 'llama')
    writeFileSync(join(folder, 'tokenizer.model'), sentencePieceModel(header));
  else writeVocabulary(header, folder, separateVocabulary);
  write('tokenizer_config.json', tokenNames(header));
  const eos = Number(header.metadata.get('tokenizer.ggml.eos_token_id'));
  write('generation_config.json', { temperature: 0.5, top_k: 7, repetition_penalty: 1.5, eos_token_id: [eos] });
  const file = (list: GgufTensor[]): Buffer =>
    safetensorsBytes(
      list.map((tensor) =>
        theirTensor(scheme, header, tensor, bytes.subarray(tensor.offset, tensor.offset + tensor.sizeBytes)),
      ),
    );
  if (shards === 1) return writeFileSync(join(folder, 'model.safetensors'), file(header.tensors));
  const weightMap: Record<string, string> = {};
  for (let i = 0; i < shards; i++) {
    const part = `model-0000${i + 1}-of-0000${shards}.safetensors`;
    const list = header.tensors.filter((_, at) => at % shards === i);
    for (const tensor of list) weightMap[theirName(scheme, tensor.name)] = part;
    writeFileSync(join(folder, part), file(list));
  }
  write('model.safetensors.index.json', { metadata: {}, weight_map: weightMap });
}
