/** The pass of an encoder: every token of a text attends to all of them. */
import { CHUNK_TOKENS } from './buffers.ts';
import type { Layers } from './layers.ts';

/**
 * Run texts through every layer, all together at most streamTokens tokens; their hidden states (tokens, dim) stand one
 * text after the other at buffers.x of the last of `parts`.
 */
export function encode(parts: readonly Layers[], texts: readonly ArrayLike<number>[], poll: () => void): void {
  let before = parts[0]!;
  const width = before.config.dim * 4;
  const starts: number[] = []; // (texts) first token of each in the stream, then where the last one ends
  let end = 0;
  for (const ids of texts) {
    before.embed(ids, 0, ids.length, 0, before.buffers.x + end * width);
    starts.push(end);
    end += ids.length;
  }
  starts.push(end);
  for (const part of parts) {
    part.takeStream(before, end);
    encodeLayers(part, starts, poll);
    before = part;
  }
}

/** Tokens of one text that go along together. */
interface Run {
  /** Its first token in the stream, and in its text. */
  first: number;
  position: number;
  tokens: number;
  /** Where the whole text begins in the stream, and its tokens. */
  textStart: number;
  length: number;
}

/** The tokens [first, first + tokens) of the stream, text by text. */
function runsOf(starts: readonly number[], first: number, tokens: number): Run[] {
  return starts.slice(0, -1).flatMap((textStart, text) => {
    const textEnd = starts[text + 1]!;
    const from = Math.max(first, textStart);
    const count = Math.min(first + tokens, textEnd) - from;
    if (count <= 0) return [];
    return [{ first: from, position: from - textStart, tokens: count, textStart, length: textEnd - textStart }];
  });
}

/** A layer's keys and values are computed for all tokens before the first attends. */
function encodeLayers(layers: Layers, starts: readonly number[], poll: () => void): void {
  const { config, buffers, weights } = layers;
  const width = config.dim * 4;
  const qBytes = config.nHeads * config.headSize * 4;
  const kvBytes = config.nKvHeads * config.headSize * 4;
  const total = starts.at(-1)!;
  const eachChunk = (visit: (first: number, tokens: number) => void): void => {
    for (let first = 0; first < total; first += CHUNK_TOKENS) visit(first, Math.min(CHUNK_TOKENS, total - first));
  };
  for (let index = layers.first; index < layers.end; index++) {
    const layer = weights.layers[index]!;
    eachChunk((first, tokens) => {
      const { keys, values } = buffers;
      const input = layers.attentionInput(layer, buffers.x + first * width, tokens);
      layers.keysValues(layer, input, keys + first * kvBytes, values + first * kvBytes, tokens, poll);
      for (const run of runsOf(starts, first, tokens))
        layers.rotate(index, keys + run.first * kvBytes, config.nKvHeads, run.position, run.tokens);
    });
    eachChunk((first, tokens) => {
      const x = buffers.x + first * width;
      layers.queries(layer, layers.attentionInput(layer, x, tokens), buffers.q, tokens, poll);
      for (const run of runsOf(starts, first, tokens)) {
        const at = (run.first - first) * qBytes;
        const kvAt = run.textStart * kvBytes;
        layers.rotate(index, buffers.q + at, config.nHeads, run.position, run.tokens);
        const range = { tokens: run.tokens, length: run.length, growth: 0, window: Infinity } as const;
        layers.attend(buffers.q + at, buffers.keys + kvAt, buffers.values + kvAt, buffers.attended + at, range, poll);
      }
      layers.attentionOutput(layer, tokens, poll);
      layers.addToStream(x, layer.attentionSumNorm, tokens);
      layers.feedForward(layer, x, tokens, poll);
    });
  }
}
