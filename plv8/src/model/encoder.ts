/** The pass of an encoder: every token of a text attends to all of them, or to those around it. */
import { chunkTokens } from './buffers.ts';
import { NOTHING_SHARED } from './kv-cache.ts';
import type { Layers } from './layers.ts';

/** A text for an encoder; of a pair, the second one's tokens are those from `second` on. */
export interface EncodedText {
  readonly ids: ArrayLike<number>;
  readonly second?: number;
}

/**
 * Run texts through every layer, all together at most streamTokens tokens; their hidden states (tokens, dim) stand one
 * text after the other at buffers.x of the last of `parts`. Pauses after each layer's pass over a chunk, when other models may
 * be computed with.
 */
export function* encode(parts: readonly Layers[], texts: readonly EncodedText[], poll: () => void): Generator<void> {
  let before = parts[0]!;
  const width = before.config.dim * 4;
  const starts: number[] = []; // (texts) first token of each in the stream, then where the last one ends
  let end = 0;
  for (const { ids, second = ids.length } of texts) {
    const x = before.buffers.x + end * width;
    before.embed(ids, 0, second, 0, x);
    before.embed(ids, second, ids.length - second, second, x + second * width, 1);
    starts.push(end);
    end += ids.length;
  }
  starts.push(end);
  for (const part of parts) {
    part.takeStream(before, end);
    yield* encodeLayers(part, starts, poll);
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

/** The tokens of a run, each with the stretch of its text that is not farther from it than `reach`. */
function eachToken(run: Run, reach: number): Run[] {
  const textEnd = run.textStart + run.length;
  return Array.from({ length: run.tokens }, (_, t) => {
    const first = run.first + t;
    const textStart = Math.max(run.textStart, first - reach);
    const length = Math.min(textEnd, first + reach + 1) - textStart;
    return { first, position: run.position + t, tokens: 1, textStart, length };
  });
}

/** A layer's keys and values are computed for all tokens before the first attends. */
function* encodeLayers(layers: Layers, starts: readonly number[], poll: () => void): Generator<void> {
  const { config, buffers, weights } = layers;
  const width = config.dim * 4;
  const qBytes = config.nHeads * config.headSize * 4;
  const kvBytes = config.nKvHeads * config.headSize * 4;
  const total = starts.at(-1)!;
  const chunk = chunkTokens(config);
  const eachChunk = function* (visit: (first: number, tokens: number) => void): Generator<void> {
    for (let first = 0; first < total; first += chunk) {
      visit(first, Math.min(chunk, total - first));
      yield;
    }
  };
  for (let index = layers.first; index < layers.end; index++) {
    const layer = weights.layers[index]!;
    const reach = Math.floor(config.windows[index]! / 2);
    yield* eachChunk((first, tokens) => {
      const { keys, values } = buffers;
      const input = layers.attentionInput(layer, buffers.x + first * width, tokens);
      layers.keysValues(layer, input, keys + first * kvBytes, values + first * kvBytes, tokens, poll);
      for (const run of runsOf(starts, first, tokens))
        layers.rotate(index, keys + run.first * kvBytes, config.nKvHeads, run.position, run.tokens);
    });
    yield* eachChunk((first, tokens) => {
      const x = buffers.x + first * width;
      layers.queries(layer, layers.attentionInput(layer, x, tokens), buffers.q, tokens, poll);
      for (const run of runsOf(starts, first, tokens)) {
        const at = (run.first - first) * qBytes;
        layers.rotate(index, buffers.q + at, config.nHeads, run.position, run.tokens);
        for (const part of reach === Infinity ? [run] : eachToken(run, reach)) {
          const q = (part.first - first) * qBytes;
          const kvAt = part.textStart * kvBytes;
          const range = {
            tokens: part.tokens,
            length: part.length,
            growth: 0,
            window: Infinity,
            halves: false,
          } as const;
          const places = { keys: buffers.keys + kvAt, values: buffers.values + kvAt, ...NOTHING_SHARED };
          layers.attend(buffers.q + q, places, buffers.attended + q, range, poll);
        }
      }
      layers.attentionOutput(layer, tokens, poll);
      layers.addToStream(x, layer.attentionSumNorm, tokens);
      layers.feedForward(layer, x, tokens, poll);
    });
  }
}
