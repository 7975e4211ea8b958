/** The pass of an encoder: every token of a text attends to all of them. */
import { CHUNK_TOKENS } from './layers.ts';
import type { Layers } from './layers.ts';

/**
 * Run texts through every layer, all together at most streamTokens tokens; their hidden states (tokens, dim) stand one
 * text after the other at buffers.x. A layer's keys and values are computed for all tokens before the first attends.
 */
export function encode(layers: Layers, texts: readonly ArrayLike<number>[], poll: () => void): void {
  const { config, buffers, arena, weights } = layers;
  const width = config.dim * 4;
  const qBytes = config.nHeads * config.headSize * 4;
  const kvBytes = config.nKvHeads * config.headSize * 4;
  const starts: number[] = []; // (tokens) first token of the text that a token belongs to
  const ends: number[] = [];
  const positions: number[] = [];
  for (const ids of texts) {
    const first = starts.length;
    layers.embed(ids, 0, ids.length, 0, buffers.x + first * width);
    for (let t = 0; t < ids.length; t++) {
      starts.push(first);
      ends.push(first + ids.length);
      positions.push(t);
    }
  }
  const eachChunk = (visit: (first: number, tokens: number) => void): void => {
    for (let first = 0; first < starts.length; first += CHUNK_TOKENS)
      visit(first, Math.min(CHUNK_TOKENS, starts.length - first));
  };
  weights.layers.forEach((layer, index) => {
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
  });
}
