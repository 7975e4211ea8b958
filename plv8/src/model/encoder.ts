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
  const starts: number[] = []; // (tokens) first token of the text that a token belongs to
  const ends: number[] = [];
  const positions: number[] = [];
  for (const ids of texts) {
    const first = starts.length;
    before.embed(ids, 0, ids.length, 0, before.buffers.x + first * width);
    for (let t = 0; t < ids.length; t++) {
      starts.push(first);
      ends.push(first + ids.length);
      positions.push(t);
    }
  }
  for (const part of parts) {
    part.takeStream(before, starts.length);
    encodeLayers(part, { starts, ends, positions }, poll);
    before = part;
  }
}

/** (tokens) where the text of each token begins and ends in the stream, and the token's position in it. */
interface TokenPlaces {
  starts: readonly number[];
  ends: readonly number[];
  positions: readonly number[];
}

/** A layer's keys and values are computed for all tokens before the first attends. */
function encodeLayers(layers: Layers, { starts, ends, positions }: TokenPlaces, poll: () => void): void {
  const { config, buffers, arena, weights } = layers;
  const width = config.dim * 4;
  const qBytes = config.nHeads * config.headSize * 4;
  const kvBytes = config.nKvHeads * config.headSize * 4;
  const eachChunk = (visit: (first: number, tokens: number) => void): void => {
    for (let first = 0; first < starts.length; first += CHUNK_TOKENS)
      visit(first, Math.min(CHUNK_TOKENS, starts.length - first));
  };
  for (let index = layers.first; index < layers.end; index++) {
    const layer = weights.layers[index]!;
    eachChunk((first, tokens) => {
      const keys = buffers.keys + first * kvBytes;
      const input = layers.attentionInput(layer, buffers.x + first * width, tokens);
      layers.keysValues(layer, input, keys, buffers.values + first * kvBytes, tokens, poll);
      for (let t = 0; t < tokens; t++) layers.rotate(index, keys + t * kvBytes, config.nKvHeads, positions[first + t]!);
    });
    eachChunk((first, tokens) => {
      const x = buffers.x + first * width;
      layers.queries(layer, layers.attentionInput(layer, x, tokens), buffers.q, tokens, poll);
      for (let t = 0; t < tokens; t++) {
        const start = starts[first + t]!;
        layers.rotate(index, buffers.q + t * qBytes, config.nHeads, positions[first + t]!);
        arena.kernels.attention(
          buffers.q + t * qBytes,
          buffers.keys + start * kvBytes,
          buffers.values + start * kvBytes,
          buffers.attended + t * qBytes,
          buffers.scores,
          config.nHeads,
          config.nKvHeads,
          config.headSize,
          ends[first + t]! - start,
          kvBytes,
          config.attentionScale,
          config.attentionSoftcap,
        );
        poll();
      }
      layers.attentionOutput(layer, tokens, poll);
      layers.addToStream(x, layer.attentionSumNorm, tokens);
      layers.feedForward(layer, x, tokens, poll);
    });
  }
}
