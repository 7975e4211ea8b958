/**
 * A llama of two layers whose weights are written by hand, so that it is known why it answers: after `A B ... A` it says B
 * (induction, Olsson et al. 2022, https://arxiv.org/abs/2209.11895). Head 1 of layer 0 notes at every position which token
 * stands before it; head 1 of layer 1 looks for the position before which the current token stands, and copies the token
 * there. Heads 0 and the feed-forward networks carry a little noise.
 */
import type { WrittenTensor } from '../unit/gguf-writer.ts';
import { arrayPair, ggufBytes, pair, string, stringPair, u32 } from '../unit/gguf-writer.ts';

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
/** Width of a token's code. */
const CODE = 32;
/** Places in the residual stream: the token, the token before, the answer, and a constant. */
const TOKEN = 0;
const BEFORE = CODE;
const ANSWER = 2 * CODE;
const CONSTANT = 3 * CODE;
const DIM = 3 * CODE + 4;
const HEAD = 64;
/** Only the first dimensions of a head are rotated: they serve positions, the others tokens. */
const ROTATED = 16;
const ROPE_BASE = 100;
const HIDDEN = 8;
const NOISE = 0.01;

function f32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeFloatLE(value);
  return out;
}

/** Uniform in [-1, 1), the same every time. */
function generator(): () => number {
  let state = 12345;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

export function inductionModel(): Buffer {
  const random = generator();
  const vocab = LETTERS.length + 1;
  const codes = Array.from({ length: vocab }, () => {
    const code = Array.from({ length: CODE }, random);
    const norm = Math.hypot(...code);
    return code.map((x) => x / norm);
  });
  const tensors = new Map<string, { shape: number[]; values: Float32Array }>();
  /** A matrix of `rows` rows of `cols`, by `at(row, col)`. */
  const add = (name: string, cols: number, rows: number, at: (row: number, col: number) => number): void => {
    const values = Float32Array.from({ length: rows * cols }, (_, i) => at(Math.floor(i / cols), i % cols));
    tensors.set(`${name}.weight`, { shape: rows === 1 ? [cols] : [cols, rows], values });
  };
  add('token_embd', DIM, vocab, (t, c) => (c < CODE ? codes[t]![c]! : c === CONSTANT ? 1 : 0));
  add('output', DIM, vocab, (t, c) => (c >= ANSWER && c < ANSWER + CODE ? 3 * codes[t]![c - ANSWER]! : 0));
  add('output_norm', DIM, 1, () => 1);

  // What the norms multiply by: the stream holds a code and the constant, later two codes and the constant.
  const scales = [Math.sqrt(DIM / 2), Math.sqrt(DIM / 3)];
  for (const layer of [0, 1]) {
    const scale = scales[layer]!;
    const noise = (): number => NOISE * random();
    const name = (role: string): string => `blk.${layer}.${role}`;
    /** Rows of head 1 by `at(place in the head, col)`; head 0 is noise. */
    const head = (role: string, at: (place: number, col: number) => number): void =>
      add(name(role), DIM, 2 * HEAD, (row, col) => (row < HEAD ? noise() : at(row - HEAD, col)));
    const angle = (place: number): number => ROPE_BASE ** (-(place - (place % 2)) / ROTATED);
    const strength = 3.5;
    const sharpness = 12;
    const content = (from: number, gain: number) => (place: number, col: number) =>
      place >= ROTATED && place < ROTATED + CODE && col === from + place - ROTATED ? gain : 0;
    if (layer === 0) {
      // Turned by one position against the keys, queries meet the key before them.
      const place = (value: (place: number) => number) => (at: number, col: number) =>
        at < ROTATED && col === CONSTANT ? value(at) : 0;
      head(
        'attn_q',
        place((at) => strength * (at % 2 === 0 ? Math.cos(angle(at)) : -Math.sin(angle(at)))),
      );
      head(
        'attn_k',
        place((at) => (at % 2 === 0 ? strength : 0)),
      );
    } else {
      head('attn_q', content(TOKEN, sharpness));
      head('attn_k', content(BEFORE, 1));
    }
    head('attn_v', content(TOKEN, 1));
    const target = layer === 0 ? BEFORE : ANSWER;
    add(name('attn_output'), 2 * HEAD, DIM, (row, col) => {
      if (col < HEAD) return noise();
      const place = col - HEAD - ROTATED;
      return place >= 0 && place < CODE && row === target + place ? 1 / scale : 0;
    });
    add(name('attn_norm'), DIM, 1, () => 1);
    add(name('ffn_norm'), DIM, 1, () => 1);
    add(name('ffn_gate'), DIM, HIDDEN, noise);
    add(name('ffn_up'), DIM, HIDDEN, noise);
    add(name('ffn_down'), HIDDEN, DIM, noise);
  }

  const written: WrittenTensor[] = [];
  const parts: Buffer[] = [];
  let offset = 0;
  for (const [name, { shape, values }] of tensors) {
    written.push({ name, shape, type: 0, offset });
    const bytes = Buffer.alloc(Math.ceil(values.byteLength / 32) * 32);
    Buffer.from(values.buffer).copy(bytes);
    parts.push(bytes);
    offset += bytes.length;
  }
  const metadata = [
    stringPair('general.architecture', 'llama'),
    pair('llama.block_count', 4, u32(2)),
    pair('llama.embedding_length', 4, u32(DIM)),
    pair('llama.feed_forward_length', 4, u32(HIDDEN)),
    pair('llama.attention.head_count', 4, u32(2)),
    pair('llama.attention.key_length', 4, u32(HEAD)),
    pair('llama.rope.dimension_count', 4, u32(ROTATED)),
    pair('llama.rope.freq_base', 6, f32(ROPE_BASE)),
    pair('llama.context_length', 4, u32(64)),
    pair('llama.attention.layer_norm_rms_epsilon', 6, f32(1e-5)),
    stringPair('tokenizer.ggml.model', 'gpt2'),
    stringPair('tokenizer.ggml.pre', 'gpt-2'),
    arrayPair('tokenizer.ggml.tokens', 8, [...LETTERS, 'aa'].map(string)),
    arrayPair('tokenizer.ggml.merges', 8, [string('a a')]),
    pair('tokenizer.ggml.eos_token_id', 4, u32(LETTERS.length)),
  ];
  return ggufBytes({ metadata, tensors: written, data: Buffer.concat(parts) });
}
