/** A loaded model: its layers, its caches, and the passes over them. */
import { raise, SQLSTATE } from '../errors.ts';
import type { ModelConfig } from './config.ts';
import { encode } from './encoder.ts';
import { KvCache } from './kv-cache.ts';
import type { LoadOptions } from './layers.ts';
import { CHUNK_TOKENS, Layers, streamTokens } from './layers.ts';
import type { Matrix } from './matrix.ts';
import { copyRow } from './matrix.ts';
import type { ForwardObserver } from './observer.ts';
import type { WeightSource } from './source.ts';
import type { LayerWeights, Weights } from './weights.ts';

export type { KvCache } from './kv-cache.ts';
export type { Precision } from './weights.ts';

/** Sees the hidden states (tokens, dim) of a text from token `first` on; the view is valid during the call. */
export type VisitStates = (text: number, first: number, states: Float32Array) => void;

export class Model {
  private readonly caches = new Set<KvCache>();
  /** That of the running forward pass. */
  private observer: ForwardObserver | null = null;
  /** How the matrices are held, as `q4_1, q8_0`. */
  readonly precision: string;

  private constructor(
    readonly config: ModelConfig,
    private loaded: Layers | null,
  ) {
    this.precision = loaded?.precision ?? '';
  }

  /** Read every tile of the source into kernel layout. Throws naming the tensor or number that is wrong. */
  static load(config: ModelConfig, source: WeightSource, options: LoadOptions): Model {
    return new Model(config, Layers.load(config, source, options));
  }

  private get layers(): Layers {
    return this.loaded ?? raise(SQLSTATE.internalError, 'model was used after it was unloaded');
  }

  get weights(): Weights {
    return this.layers.weights;
  }

  /** WebAssembly bytes of weights, buffers and caches. */
  get memoryBytes(): number {
    return this.layers.arena.usedBytes;
  }

  get cacheBytes(): number {
    let bytes = 0;
    for (const cache of this.caches) bytes += cache.bytes;
    return bytes;
  }

  /** An empty cache for `capacity` tokens. One call computes at a time, so every other cache is freed first. */
  newCache(capacity: number): KvCache {
    const { architecture } = this.config;
    if (architecture.kind === 'encoder') {
      raise(SQLSTATE.featureNotSupported, `a model of architecture ${architecture.name} reads text and writes none`, {
        hint: 'use it with hartonomous.embed',
      });
    }
    for (const cache of [...this.caches]) cache.free();
    const cache = new KvCache(this.layers.arena, this.config, capacity, (freed) => this.caches.delete(freed));
    this.caches.add(cache);
    return cache;
  }

  free(): void {
    this.caches.clear();
    this.loaded = null;
  }

  /**
   * Append ids to the cache. Returns the logits (vocabSize) after the last one, valid until the next call.
   * Throws when the cache is full or an id is not in the vocabulary. When `poll` throws, the cache keeps what was
   * complete before this call.
   */
  forward(ids: ArrayLike<number>, cache: KvCache, options: { poll(): void; observer?: ForwardObserver }): Float32Array {
    this.observer = options.observer ?? null;
    const last = this.append(ids, cache, options.poll, () => undefined);
    return this.logitsOf(last, options.poll);
  }

  /**
   * Hidden states after the last layer and its norm of texts that stand for themselves, in the order of the texts.
   * Throws when one has no token, one outside the vocabulary, or more than the context holds.
   */
  hiddenStates(texts: readonly ArrayLike<number>[], options: { poll(): void }, visit: VisitStates): void {
    this.observer = null;
    const { contextLength, dim, architecture } = this.config;
    for (const ids of texts) {
      this.checkIds(ids);
      if (ids.length > contextLength)
        raise(SQLSTATE.programLimitExceeded, `text has ${ids.length} tokens, the model's context is ${contextLength}`);
    }
    const { layers } = this;
    if (architecture.kind === 'encoder') {
      let next = 0;
      while (next < texts.length) {
        const first = next;
        let tokens = 0;
        while (next < texts.length && tokens + texts[next]!.length <= streamTokens(this.config))
          tokens += texts[next++]!.length;
        const group = texts.slice(first, next);
        encode(layers, group, options.poll);
        let from = layers.buffers.x / 4;
        group.forEach((ids, i) => {
          visit(first + i, 0, layers.arena.f32.subarray(from, from + ids.length * dim));
          from += ids.length * dim;
        });
      }
      return;
    }
    texts.forEach((ids, text) => {
      const cache = this.newCache(ids.length);
      try {
        this.append(ids, cache, options.poll, (first, tokens) => {
          const at = layers.normalise(layers.buffers.x, layers.weights.norm, layers.buffers.normed, dim, tokens);
          visit(text, first, layers.arena.f32.subarray(at / 4, at / 4 + tokens * dim));
        });
      } finally {
        cache.free();
      }
    });
  }

  private checkIds(ids: ArrayLike<number>): void {
    const { vocabSize } = this.config;
    if (ids.length === 0) raise(SQLSTATE.invalidParameterValue, 'forward pass needs at least one token');
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
        raise(SQLSTATE.invalidParameterValue, `token ${id} is outside the vocabulary of ${vocabSize}`);
      }
    }
  }

  /** Run ids through every layer into the cache, chunk by chunk. Returns the place of the last token in its chunk. */
  private append(
    ids: ArrayLike<number>,
    cache: KvCache,
    poll: () => void,
    afterChunk: (first: number, tokens: number) => void,
  ): number {
    this.checkIds(ids);
    if (cache.length + ids.length > cache.capacity) {
      raise(
        SQLSTATE.programLimitExceeded,
        `context holds ${cache.capacity} tokens, ${cache.length} are there and ${ids.length} more were given`,
      );
    }
    const before = cache.length;
    let done = 0;
    try {
      for (let from = 0; from < ids.length; from += CHUNK_TOKENS) {
        const tokens = Math.min(CHUNK_TOKENS, ids.length - from);
        this.layersOver(ids, from, tokens, cache, poll);
        for (let t = 0; t < tokens; t++) cache.ids.push(ids[from + t]!);
        done = tokens;
        afterChunk(from, tokens);
      }
    } catch (error) {
      cache.truncate(before);
      throw error;
    }
    return done - 1;
  }

  /** Logits (vocabSize) that the final norm and the output matrix make of a residual stream (dim); valid until the next call. */
  unembed(stream: Float32Array, poll: () => void): Float32Array {
    const { arena, buffers } = this.layers;
    arena.f32.set(stream, buffers.x / 4);
    return this.logitsOf(0, poll);
  }

  /** A row of a weight matrix as floats, copied to `out` (cols). */
  readRow(matrix: Matrix, index: number, out: Float32Array): void {
    const { arena, buffers } = this.layers;
    copyRow(arena, matrix, index, buffers.padded);
    out.set(this.view(buffers.padded, matrix.cols));
  }

  /** Floats from an address on; valid until the memory grows. */
  view(at: number, n: number): Float32Array {
    return this.layers.arena.f32.subarray(at / 4, at / 4 + n);
  }

  /** Run one chunk of tokens through every layer; the residual stream stays in buffers.x. */
  private layersOver(ids: ArrayLike<number>, from: number, tokens: number, cache: KvCache, poll: () => void): void {
    const { layers, config } = this;
    const { x } = layers.buffers;
    layers.embed(ids, from, tokens, cache.length, x);
    layers.weights.layers.forEach((layer, index) => {
      this.observer?.residual(index, this.view(x, tokens * config.dim));
      this.attention(layer, index, tokens, cache, poll);
      layers.feedForward(layer, x, tokens, poll);
    });
    this.observer?.residual(config.nLayers, this.view(x, tokens * config.dim));
  }

  private attention(layer: LayerWeights, index: number, tokens: number, cache: KvCache, poll: () => void): void {
    const { layers } = this;
    const { config, buffers, arena } = layers;
    const qDim = config.nHeads * config.headSize;
    const kvDim = config.nKvHeads * config.headSize;
    const start = cache.length;
    const keys = cache.keysAt(index);
    const values = cache.valuesAt(index);
    const newKeys = keys + start * kvDim * 4;
    const newValues = values + start * kvDim * 4;
    const input = layers.attentionInput(layer, buffers.x, tokens);
    layers.project(layer, input, buffers.q, newKeys, newValues, tokens, poll);
    for (let t = 0; t < tokens; t++) {
      layers.rotate(index, buffers.q + t * qDim * 4, config.nHeads, start + t);
      layers.rotate(index, newKeys + t * kvDim * 4, config.nKvHeads, start + t);
    }
    for (let t = 0; t < tokens; t++) {
      const first = Math.max(0, start + t + 1 - config.windows[index]!);
      arena.kernels.attention(
        buffers.q + t * qDim * 4,
        keys + first * kvDim * 4,
        values + first * kvDim * 4,
        buffers.attended + t * qDim * 4,
        buffers.scores,
        config.nHeads,
        config.nKvHeads,
        config.headSize,
        start + t + 1 - first,
        kvDim * 4,
        config.attentionScale,
        config.attentionSoftcap,
      );
      poll();
    }
    layers.attentionOutput(layer, tokens, poll);
    this.observer?.attention(
      index,
      this.view(buffers.q, tokens * qDim),
      this.view(buffers.attended, tokens * qDim),
      this.view(buffers.projected, tokens * config.dim),
    );
    layers.addToStream(buffers.x, layer.attentionSumNorm, tokens);
  }

  /** Final norm and output matrix for token t of the last chunk. */
  private logitsOf(t: number, poll: () => void): Float32Array {
    const { layers } = this;
    const { config, buffers, arena, weights } = layers;
    if (weights.output === null)
      raise(SQLSTATE.internalError, `architecture ${config.architecture.name} has no logits`);
    const x = layers.normalise(buffers.x + t * config.dim * 4, weights.norm, buffers.normed, config.dim, 1);
    layers.multiply([weights.output], x, [buffers.logits], 1, poll);
    if (config.logitSoftcap > 0) arena.kernels.softcap(buffers.logits, config.vocabSize, config.logitSoftcap);
    return arena.f32.subarray(buffers.logits / 4, buffers.logits / 4 + config.vocabSize);
  }
}
