/** Writes a GGUF model of halves layout (qwen2) as a Hugging Face folder with the same bytes in its tensors. */
import { closeSync, openSync, readFileSync, writeFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readGgufHeader } from '../../cli/sources/gguf.ts';
import type { GgufTensor } from '../../cli/sources/gguf.ts';
import type { StringTable } from '../../cli/sources/string-table.ts';

const LAYER: Readonly<Record<string, string>> = {
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

function theirName(name: string): string {
  if (name === 'token_embd.weight') return 'model.embed_tokens.weight';
  if (name === 'output_norm.weight') return 'model.norm.weight';
  if (name === 'output.weight') return 'lm_head.weight';
  const [, layer, role, kind] = /^blk\.(\d+)\.(.+)\.(weight|bias)$/.exec(name)!;
  return `model.layers.${layer}.${LAYER[role!]}.${kind}`;
}

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

/** `shards` files of tensors and an index when there are more than one. */
export function writeQwenFolder(gguf: string, folder: string, shards: number, withTokenizerJson: boolean): void {
  const fd = openSync(gguf, 'r');
  const header = readGgufHeader(fd);
  closeSync(fd);
  const bytes = readFileSync(gguf);
  mkdirSync(folder, { recursive: true });
  const meta = (key: string): number => Number(header.metadata.get(`qwen2.${key}`));
  const write = (name: string, value: unknown): void => writeFileSync(join(folder, name), JSON.stringify(value));
  write('config.json', {
    architectures: ['Qwen2ForCausalLM'],
    hidden_size: meta('embedding_length'),
    num_hidden_layers: meta('block_count'),
    intermediate_size: meta('feed_forward_length'),
    num_attention_heads: meta('attention.head_count'),
    num_key_value_heads: meta('attention.head_count_kv'),
    max_position_embeddings: meta('context_length'),
    rms_norm_eps: meta('attention.layer_norm_rms_epsilon'),
    rope_theta: meta('rope.freq_base'),
  });
  const strings = (key: string): string[] => {
    const table = header.metadata.get(key) as StringTable;
    return Array.from({ length: table.length }, (_, i) => table.at(i).toString());
  };
  const tokens = strings('tokenizer.ggml.tokens');
  const types = header.metadata.get('tokenizer.ggml.token_type') as number[];
  const merges = strings('tokenizer.ggml.merges');
  const vocab = Object.fromEntries(tokens.map((text, id) => [text, id]).filter(([, id]) => types[id as number] === 1));
  const special = tokens.map((content, id) => ({ id, content, special: true })).filter(({ id }) => types[id] === 3);
  if (withTokenizerJson) {
    const pattern =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    write('tokenizer.json', {
      added_tokens: special,
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Split', pattern: { Regex: pattern } },
          { type: 'ByteLevel', use_regex: false },
        ],
      },
      model: { type: 'BPE', vocab, merges },
    });
  } else {
    write('vocab.json', vocab);
    writeFileSync(join(folder, 'merges.txt'), `#version: 0.2\n${merges.join('\n')}\n`);
    write('added_tokens.json', Object.fromEntries(special.map(({ content, id }) => [content, id])));
  }
  const eos = Number(header.metadata.get('tokenizer.ggml.eos_token_id'));
  write('tokenizer_config.json', {
    eos_token: { content: tokens[eos] },
    add_bos_token: false,
    chat_template: '{{ messages }}',
  });
  write('generation_config.json', { temperature: 0.5, top_k: 7, repetition_penalty: 1.5, eos_token_id: [eos] });
  const file = (list: GgufTensor[]): Buffer =>
    safetensorsBytes(
      list.map((tensor) => ({
        name: theirName(tensor.name),
        dtype: tensor.type.name,
        shape: [...tensor.shape].reverse(),
        bytes: bytes.subarray(tensor.offset, tensor.offset + tensor.sizeBytes),
      })),
    );
  if (shards === 1) return writeFileSync(join(folder, 'model.safetensors'), file(header.tensors));
  const weightMap: Record<string, string> = {};
  for (let i = 0; i < shards; i++) {
    const name = `model-0000${i + 1}-of-0000${shards}.safetensors`;
    const list = header.tensors.filter((_, at) => at % shards === i);
    for (const tensor of list) weightMap[theirName(tensor.name)] = name;
    writeFileSync(join(folder, name), file(list));
  }
  write('model.safetensors.index.json', { metadata: {}, weight_map: weightMap });
}
