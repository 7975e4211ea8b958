// make-llama-260k.mjs - a llama of stories260K's shape with random weights and a vocabulary of our zoo, in four types, seeded.
//   node make-llama-260k.mjs [outDir=llama-260k]
// For tests that need some model of llama.cpp's types and compare nothing with a golden.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Gguf, readGguf, T } from './gguf-lib.mjs';
const here = path.dirname(fileURLToPath(import.meta.url)), outDir = process.argv[2] ?? path.join(here, 'llama-260k');
const SEED = 20240607, V = 512, D = 64, HIDDEN = 172, LAYERS = 5, HEADS = 8, KV = 4, CONTEXT = 512;
const { kv } = readGguf(path.join(here, 'zoo/llama-untied-gqa-f32.gguf'));
function normals(key, n, std, mean = 0) {
  let h = 2166136261; for (const ch of Buffer.from(key)) h = Math.imul(h ^ ch, 16777619); let a = (h ^ SEED) | 0;
  const u = () => { a = (a + 0x6d2b79f5) | 0; let t = Math.imul(a ^ (a >>> 15), 1 | a); t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t; return ((t ^ (t >>> 14)) >>> 0) / 4294967296; };
  return Float32Array.from({ length: n }, () => mean + std * Math.sqrt(-2 * Math.log(1 - u())) * Math.cos(2 * Math.PI * u()));
}
fs.mkdirSync(outDir, { recursive: true });
for (const [name, type, fileType] of [['f32', T.F32, 0], ['f16', T.F16, 1], ['q8_0', T.Q8_0, 7], ['q4_0', T.Q4_0, 2]]) {
  const g = new Gguf(), t = 'tokenizer.ggml.', a = 'llama.';
  g.str('general.architecture', 'llama').str('general.type', 'model').str('general.name', 'llama 260k').str('general.size_label', '260K')
    .u32('general.file_type', fileType).u32('general.quantization_version', 2)
    .u32(a + 'block_count', LAYERS).u32(a + 'context_length', CONTEXT).u32(a + 'embedding_length', D).u32(a + 'feed_forward_length', HIDDEN)
    .u32(a + 'attention.head_count', HEADS).u32(a + 'attention.head_count_kv', KV).f32(a + 'attention.layer_norm_rms_epsilon', 1e-5)
    .u32(a + 'rope.dimension_count', D / HEADS).f32(a + 'rope.freq_base', 10000).u32(a + 'vocab_size', V)
    .str(t + 'model', 'llama').str(t + 'pre', 'default').strs(t + 'tokens', kv[t + 'tokens']).f32s(t + 'scores', kv[t + 'scores']).i32s(t + 'token_type', kv[t + 'token_type'])
    .u32(t + 'bos_token_id', 1).u32(t + 'eos_token_id', 2).u32(t + 'unknown_token_id', 0)
    .bool(t + 'add_bos_token', true).bool(t + 'add_eos_token', false).bool(t + 'add_space_prefix', true);
  const norm = (tensor, std, mean) => g.tensor(tensor, [D], normals(tensor, D, std, mean));
  const matrix = (tensor, dims, std, want = type) =>    // rows that are no multiple of 32 stay F16, as llama.cpp does it
    g.tensor(tensor, dims, normals(tensor, dims[0] * dims[1], std), want > T.F16 && dims[0] % 32 ? T.F16 : want);
  const linear = (tensor, rows, columns, gain) => matrix(tensor, [rows, columns], gain / Math.sqrt(rows));
  matrix('token_embd.weight', [D, V], 0.25, type === T.Q4_0 ? T.Q8_0 : type);
  for (let i = 0; i < LAYERS; i++) {
    const p = `blk.${i}.`, head = D / HEADS;
    norm(p + 'attn_norm.weight', 0.2, 1);
    linear(p + 'attn_q.weight', D, D, 1.4); linear(p + 'attn_k.weight', D, KV * head, 1.4); linear(p + 'attn_v.weight', D, KV * head, 1.4); linear(p + 'attn_output.weight', D, D, 1.4);
    norm(p + 'ffn_norm.weight', 0.2, 1);
    linear(p + 'ffn_gate.weight', D, HIDDEN, 1.3); linear(p + 'ffn_down.weight', HIDDEN, D, 1.3); linear(p + 'ffn_up.weight', D, HIDDEN, 1.3);
  }
  norm('output_norm.weight', 0.3, 2);
  g.write(path.join(outDir, `llama-260k-${name}.gguf`));
}
