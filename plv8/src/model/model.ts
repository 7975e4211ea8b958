/** A loaded model: its layers, its caches, and the passes over them. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Intervention, WrittenTo } from './intervention.ts';
import type { Arena } from './arena.ts';
import { AttentionWeights } from './attention-weights.ts';
import { CHUNK_TOKENS, MAX_SEQUENCES, streamTokens } from './buffers.ts';
import type { ModelConfig } from './config.ts';
import { encode } from './encoder.ts';
import type { Linear } from './heads.ts';
import { applyLinear } from './heads.ts';
import type { CacheHooks } from './kv-cache.ts';
import { bytesOfCaches, KvCache } from './kv-cache.ts';
import type { FeedForwardStages, Layers } from './layers.ts';
import type { LoadOptions } from './load-options.ts';
import type { ModelParts } from './load.ts';
import { loadModel } from './load.ts';
import type { Matrix } from './matrix.ts';
import { copyRow } from './matrix.ts';
import type { ForwardObserver } from './observer.ts';
import type { Chunk, Segment, Step } from './packing.ts';
import { checkIds, checkSteps, packSteps, piecesOf, takingPart } from './packing.ts';
import type { Pause } from './pause.ts';
import { whole } from './pause.ts';
import type { WeightSource } from './source.ts';
import { valueNorms } from './value-norms.ts';
import type { LayerWeights, Weights } from './weights.ts';

export type { KvCache } from './kv-cache.ts';
export { CHUNK_TOKENS, MAX_SEQUENCES } from './buffers.ts';
export type { Step } from './packing.ts';
export type { Precision } from './weights.ts';

export interface ForwardOptions {
  /** Called every few milliseconds; throws to stop. */
  poll(): void;
}

let charge = (_tokens: number): void => undefined;

/** Have `to` called with the number of tokens that are about to go through the layers of any model. */
export function onEvaluated(to: (tokens: number) => void): void {
  charge = to;
}

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
    private loaded: ModelParts | null,
  ) {
    this.precision = loaded?.precision ?? '';
  }

  /** Read every tile of the source into kernel layout. Throws naming the tensor or number that is wrong. */
  static load(config: ModelConfig, source: WeightSource, options: LoadOptions): Model {
    return new Model(config, loadModel(config, source, options));
  }

  private get held(): ModelParts {
    return this.loaded ?? raise(SQLSTATE.internalError, 'model was used after it was unloaded');
  }

  get weights(): Weights {
    return this.held.weights;
  }

  /** WebAssembly memories that it is spread over. */
  get memories(): number {
    return this.held.parts.length;
  }

  /** WebAssembly bytes of weights, buffers and caches. */
  get memoryBytes(): number {
    return this.held.parts.reduce((sum, { arena }) => sum + arena.usedBytes, 0);
  }

  /** Bytes of it that stand in segments and are every backend's. */
  get sharedBytes(): number {
    return this.held.parts.reduce((sum, { arena }) => sum + arena.sharedBytes, 0);
  }

  get cacheBytes(): number {
    return bytesOfCaches([...this.caches]);
  }

  /** Throws where it reads text and writes none. */
  checkWrites(): void {
    const { architecture } = this.config;
    if (architecture.kind !== 'encoder') return;
    raise(SQLSTATE.featureNotSupported, `a model of architecture ${architecture.name} reads text and writes none`, {
      hint: 'use it with hartonomous.embed',
    });
  }

  /** An empty cache for at most `limit` tokens. */
  newCache(limit: number, hooks: CacheHooks = {}): KvCache {
    this.checkWrites();
    const onFree = (freed: KvCache): void => void this.caches.delete(freed);
    const arenas = this.held.parts.flatMap(({ arena, first, end }) => new Array<Arena>(end - first).fill(arena));
    const cache = new KvCache(arenas, this.config, this.held.halfCaches, limit, hooks, onFree);
    this.caches.add(cache);
    return cache;
  }

  /** Whether a sequence of `length` tokens is longer than the original context, so that all of them rotate by other factors. */
  isFar(length: number): boolean {
    const { originalContext } = this.config;
    return originalContext !== null && length > originalContext;
  }

  /** Whether what a cache holds is right for a sequence of `length` tokens; else a pass with it begins by computing it again. */
  suits(cache: KvCache, length: number): boolean {
    return cache.length === 0 || cache.far === this.isFar(length);
  }

  /** Free all caches but these, and memory that a call which was cut off had taken and told nobody about. */
  sweep(kept: ReadonlySet<KvCache>): void {
    for (const cache of [...this.caches]) if (!kept.has(cache)) cache.free();
    for (const { arena } of this.held.parts) arena.retain([...this.caches].flatMap((cache) => cache.piecesIn(arena)));
  }

  free(): void {
    this.caches.clear();
    this.loaded = null;
  }

  /** Append ids to one sequence: forwardBatch of one step, with an observer. Returns the logits (vocabSize) after the last. */
  forward(
    ids: ArrayLike<number>,
    cache: KvCache,
    options: ForwardOptions & { observer?: ForwardObserver; intervention?: Intervention | undefined },
  ): Float32Array {
    const { poll, observer, intervention } = options;
    return this.forwardSteps([{ ids, cache, intervention }], poll, observer ?? null)[0]!;
  }

  /**
   * Append each step's ids to its cache, all of them in one pass over the weights per CHUNK_TOKENS tokens. Returns each
   * step's logits (vocabSize) after its last id, valid until the next call; they are the same bits whatever the other
   * steps are. Throws for more than MAX_SEQUENCES steps, a full cache or an id outside the vocabulary. When `poll` throws,
   * the caches keep what was complete.
   */
  forwardBatch(steps: readonly Step[], options: ForwardOptions): Float32Array[] {
    return this.forwardSteps(steps, options.poll, null);
  }

  private forwardSteps(steps: readonly Step[], poll: () => void, observer: ForwardObserver | null): Float32Array[] {
    const { dim } = this.config;
    const { output } = this.held;
    const { arena, buffers } = output;
    if (steps.length > MAX_SEQUENCES) {
      raise(SQLSTATE.internalError, `forward pass takes ${MAX_SEQUENCES} sequences, ${steps.length} were given`);
    }
    this.advance(steps, poll, observer, ({ segments }) => {
      for (const { step, from, row, tokens } of segments) {
        if (from + tokens < steps[step]!.ids.length) continue;
        const last = buffers.x / 4 + (row + tokens - 1) * dim;
        arena.f32.copyWithin(buffers.lasts / 4 + step * dim, last, last + dim);
      }
    });
    return this.logitsOf(buffers.lasts, steps.length, poll);
  }

  /**
   * As forwardBatch, for any number of steps, but `visit` sees the logits after every token, or after those whose indices
   * among a step's ids are `shown` (step by step). `index` counts the ids of step number `step`.
   */
  forwardEach(
    steps: readonly Step[],
    { poll, shown }: ForwardOptions & { shown?: readonly ReadonlySet<number>[] },
    visit: (step: number, index: number, logits: Float32Array) => void,
  ): void {
    const { dim } = this.config;
    const { arena, buffers } = this.held.output;
    let gathered: { step: number; index: number }[] = []; // whose residual streams stand in buffers.lasts
    const show = (): void => {
      const each = this.logitsOf(buffers.lasts, gathered.length, poll);
      each.forEach((logits, i) => visit(gathered[i]!.step, gathered[i]!.index, logits));
      gathered = [];
    };
    this.advance(steps, poll, null, ({ segments }) => {
      for (const { step, from, row, tokens } of segments) {
        for (let t = 0; t < tokens; t++) {
          if (shown?.[step]!.has(from + t) === false) continue;
          const at = buffers.x / 4 + (row + t) * dim;
          arena.f32.copyWithin(buffers.lasts / 4 + gathered.length * dim, at, at + dim);
          gathered.push({ step, index: from + t });
          if (gathered.length === MAX_SEQUENCES) show();
        }
      }
    });
    if (gathered.length > 0) show();
  }

  /** Append ids to a cache where nobody wants logits. */
  fill(ids: ArrayLike<number>, cache: KvCache, { poll }: ForwardOptions): void {
    this.advance([{ ids, cache }], poll, null, () => undefined);
  }

  /**
   * Hidden states after the last layer and its norm of texts that stand for themselves, in the order of the texts.
   * `seconds` says for pairs where the second text begins. Throws when one has no token, one outside the vocabulary, or
   * more than the context holds.
   */
  hiddenStates(
    texts: readonly ArrayLike<number>[],
    options: ForwardOptions & { seconds?: readonly number[] },
    visit: VisitStates,
  ): void {
    whole(this.hiddenStatesInPieces(texts, options, visit));
  }

  /**
   * As hiddenStates, with pauses. `within` texts a decoder may compute anything else, an encoder nothing, other models may;
   * `between` them all may. Texts that go together have at most `together` tokens where one has not more.
   */
  *hiddenStatesInPieces(
    texts: readonly ArrayLike<number>[],
    options: ForwardOptions & { seconds?: readonly number[]; together?: number },
    visit: VisitStates,
  ): Generator<Pause> {
    const { contextLength, vocabSize, architecture } = this.config;
    for (const ids of texts) {
      checkIds(ids, vocabSize);
      if (ids.length > contextLength)
        raise(SQLSTATE.programLimitExceeded, `text has ${ids.length} tokens, the model's context is ${contextLength}`);
    }
    const { together = Infinity } = options;
    const most = architecture.kind === 'encoder' ? streamTokens(this.config) : Infinity;
    const count = architecture.kind === 'encoder' ? Infinity : MAX_SEQUENCES;
    for (let first = 0; first < texts.length;) {
      let tokens = texts[first]!.length;
      let next = first + 1;
      while (next < texts.length && next < first + count) {
        const more = tokens + texts[next]!.length;
        if (more > Math.min(most, together)) break;
        tokens = more;
        next++;
      }
      const group = texts.slice(first, next);
      const base = first;
      const visitGroup: VisitStates = (which, from, states) => visit(base + which, from, states);
      const seconds = options.seconds?.slice(first, next);
      yield* architecture.kind === 'encoder'
        ? this.encodeGroup(group, seconds, tokens, options.poll, visitGroup)
        : this.readGroup(group, options.poll, visitGroup);
      yield 'between';
      first = next;
    }
  }

  /** Texts that go through an encoder together. */
  private *encodeGroup(
    group: readonly ArrayLike<number>[],
    seconds: readonly number[] | undefined,
    tokens: number,
    poll: () => void,
    visit: VisitStates,
  ): Generator<Pause> {
    const { parts, output } = this.held;
    const { dim } = this.config;
    charge(tokens);
    const texts = group.map((ids, i) => ({ ids, second: seconds?.[i] ?? ids.length }));
    const pieces = encode(parts, texts, poll);
    while (pieces.next().done !== true) yield 'within';
    const { x } = output.buffers;
    output.normalise(x, output.weights.norm, x, dim, tokens);
    let from = x / 4;
    group.forEach((ids, i) => {
      visit(i, 0, output.arena.f32.subarray(from, from + ids.length * dim));
      from += ids.length * dim;
    });
  }

  /** Texts that a decoder reads beside one another, CHUNK_TOKENS at a time. */
  private *readGroup(group: readonly ArrayLike<number>[], poll: () => void, visit: VisitStates): Generator<Pause> {
    const { output } = this.held;
    const { dim } = this.config;
    const caches: KvCache[] = [];
    try {
      for (const { length } of group) {
        const cache = this.newCache(length);
        caches.push(cache);
        cache.reserve(length, poll);
      }
      for (const pieces of piecesOf(group, CHUNK_TOKENS)) {
        const steps = pieces.map(({ which, from, to }) => {
          const ids = Array.prototype.slice.call(group[which], from, to) as number[];
          return { ids, cache: caches[which]!, whole: group[which]!.length };
        });
        this.advance(steps, poll, null, ({ ids, segments }) => {
          const { buffers, arena, weights } = output;
          const at = output.normalise(buffers.x, weights.norm, buffers.normed, dim, ids.length) / 4;
          for (const { step, from, row, tokens } of segments) {
            const states = arena.f32.subarray(at + row * dim, at + (row + tokens) * dim);
            visit(pieces[step]!.which, pieces[step]!.from + from, states);
          }
        });
        yield 'within';
      }
    } finally {
      for (const cache of caches) cache.free();
    }
  }

  /** Run all tokens through the layers; `done` sees each chunk while its residual stream stands in buffers.x of `output`. */
  private advance(
    steps: readonly Step[],
    poll: () => void,
    observer: ForwardObserver | null,
    done: (chunk: Chunk) => void,
  ): void {
    checkSteps(steps, this.config.vocabSize);
    this.observer = observer; // which sees what is rotated anew, and nothing of that the one before
    this.chooseRotation(steps, poll);
    for (const { ids, cache, start = cache.length } of steps) cache.reserve(start + ids.length, poll);
    for (const chunk of packSteps(steps, CHUNK_TOKENS)) {
      charge(chunk.ids.length);
      // What is about to be written over is no longer there, wherever this is cut off.
      for (const { cache, position } of chunk.segments) cache.truncate(position);
      this.runLayers(chunk, poll);
      for (const { step, cache, from, position, tokens } of chunk.segments) {
        const { ids } = steps[step]!;
        cache.truncate(position);
        for (let t = 0; t < tokens; t++) cache.ids.push(ids[from + t]!);
      }
      done(chunk);
    }
  }

  /**
   * All tokens of a sequence that is longer than the original context rotate by other factors, as in transformers: what a
   * cache holds by the former ones is computed again.
   */
  private chooseRotation(steps: readonly Step[], poll: () => void): void {
    if (this.config.originalContext === null) return;
    const far = new Map<KvCache, boolean>();
    for (const { ids, cache, start = cache.length, whole = start + ids.length } of steps)
      far.set(cache, far.get(cache) === true || this.isFar(whole));
    for (const [cache, wanted] of far) {
      if (cache.far === wanted) continue;
      const ids = [...cache.ids];
      cache.truncate(0);
      cache.reserve(ids.length, poll); // what it had in common with others it has itself now
      cache.far = wanted;
      const own = steps.find((step) => step.cache === cache && step.start === undefined);
      const again = { ids, cache, start: 0, intervention: own?.intervention };
      for (const chunk of packSteps(ids.length > 0 ? [again] : [], CHUNK_TOKENS)) {
        this.runLayers(chunk, poll);
        cache.ids.push(...chunk.ids);
      }
    }
  }

  /** Logits (vocabSize) that the final norm and the output matrix make of a residual stream (dim); valid until the next call. */
  unembed(stream: Float32Array, poll: () => void): Float32Array {
    let found: Float32Array;
    this.unembedEach([stream], poll, (_index, logits) => (found = logits));
    return found!;
  }

  /** As unembed, for any number of streams, several at a time; each one's logits are valid within its call of `visit`. */
  unembedEach(
    streams: readonly Float32Array[],
    poll: () => void,
    visit: (index: number, logits: Float32Array) => void,
  ): void {
    const { arena, buffers } = this.held.output;
    for (let first = 0; first < streams.length; first += MAX_SEQUENCES) {
      const some = streams.slice(first, first + MAX_SEQUENCES);
      some.forEach((stream, i) => arena.f32.set(stream, buffers.x / 4 + i * this.config.dim));
      this.logitsOf(buffers.x, some.length, poll).forEach((logits, i) => visit(first + i, logits));
    }
  }

  /** A row of a weight matrix as floats, copied to `out` (cols). */
  readRow(matrix: Matrix, index: number, out: Float32Array): void {
    const { arena, buffers } = this.held.parts[matrix.memory]!;
    copyRow(arena, matrix, index, buffers.scratch);
    out.set(floatsAt(arena, buffers.scratch, matrix.cols));
  }

  /** Per layer the norms (nHeads, positions) of a sequence's first values as the heads write them: value-norms.ts. */
  valueNorms(cache: KvCache, positions: number, poll: () => void): Float32Array[] {
    return this.held.parts.flatMap((part) =>
      Array.from({ length: part.end - part.first }, (_, i) => valueNorms(part, part.first + i, cache, positions, poll)),
    );
  }

  /** Run one chunk of tokens through every layer; the residual stream ends in buffers.x of `output`. */
  private runLayers(chunk: Chunk, poll: () => void): void {
    const { config, held } = this;
    const { parts, output, weights } = held;
    const changed = isChanged(chunk);
    let part = parts[0]!;
    let taking = takingPart(chunk, null);
    for (const { position, row, tokens } of taking.segments)
      part.embed(taking.ids, row, tokens, position, part.buffers.x + row * config.dim * 4);
    for (const next of parts) {
      next.takeStream(part, taking.ids.length);
      part = next;
      for (let index = part.first; index < part.end; index++) {
        const before = taking.segments.length;
        taking = takingPart(chunk, index);
        for (const { row, joins } of taking.segments.slice(before))
          if (joins !== undefined) part.join(row, joins.stream);
        const rows = taking.ids.length;
        if (rows === 0) continue;
        const layer = weights.layers[index]!;
        this.observeStream(part, index, rows);
        this.attention(part, layer, index, taking, poll);
        part.feedForward(layer, part.buffers.x, rows, poll, changed ? stagesOf(part, taking, index) : undefined);
      }
    }
    output.takeStream(part, taking.ids.length);
    this.observeStream(output, config.nLayers, taking.ids.length);
  }

  private observeStream({ arena, buffers }: Layers, layer: number, tokens: number): void {
    this.observer?.residual(layer, floatsAt(arena, buffers.x, tokens * this.config.dim));
  }

  /** Products over all tokens of the chunk together, attention sequence by sequence. */
  private attention(layers: Layers, layer: LayerWeights, index: number, chunk: Chunk, poll: () => void): void {
    const { config, buffers, arena } = layers;
    const tokens = chunk.ids.length;
    const input = layers.attentionInput(layer, buffers.x, tokens);
    layers.project(layer, input, buffers.q, buffers.keys, buffers.values, tokens, poll);
    for (const segment of chunk.segments) attend(layers, index, segment, poll);
    this.observer?.weights(index, new AttentionWeights(layers, index, chunk.segments[0]!, poll));
    if (isChanged(chunk)) intervene(layers, chunk, 'heads', index, buffers.attended);
    layers.attentionOutput(layer, tokens, poll);
    this.observer?.attention(
      index,
      floatsAt(arena, buffers.attended, tokens * config.nHeads * config.headSize),
      floatsAt(arena, buffers.projected, tokens * config.dim),
    );
    layers.addToStream(buffers.x, layer.attentionSumNorm, tokens);
  }

  /** An embedding (dim) after the model's dense heads. */
  throughDenseHeads(vector: Float64Array): Float64Array {
    return this.weights.heads.dense.reduce((before, head) => this.linear(head, before), vector);
  }

  /** Logits (labels) that the model's classifier gives a token's state (dim). Throws where it has none. */
  classifierLogits(state: ArrayLike<number>): Float64Array {
    const { classifier } = this.weights.heads;
    if (classifier === null) raise(SQLSTATE.internalError, 'model has no classifier');
    const { hidden, output } = classifier;
    const inner = hidden === null ? Float64Array.from(state) : this.linear(hidden, state).map(Math.tanh);
    return output === null ? inner : this.linear(output, inner);
  }

  private linear(head: Linear, vector: ArrayLike<number>): Float64Array {
    return applyLinear(head, vector, (matrix, index, out) => this.readRow(matrix, index, out));
  }

  /** Dot products of x (dim) with the embedding of every token (vocabSize). */
  embeddingProducts(x: Float32Array, poll: () => void): Float32Array {
    const layers = this.held.parts[0]!;
    const { arena, buffers, weights } = layers;
    const bytes = weights.embedding.rows * 4;
    const out = arena.allocate(bytes);
    arena.f32.set(x, buffers.normed / 4);
    layers.multiply([weights.embedding], buffers.normed, [out], 1, poll);
    const products = floatsAt(arena, out, weights.embedding.rows).slice();
    arena.release(out, bytes);
    return products;
  }

  /** Final norm and output matrix for `count` rows of `output`'s residual stream at address x; logits (vocabSize) each. */
  private logitsOf(x: number, count: number, poll: () => void): Float32Array[] {
    const { output } = this.held;
    const { config, buffers, arena, weights } = output;
    if (weights.output === null)
      raise(SQLSTATE.internalError, `architecture ${config.architecture.name} has no logits`);
    const normed = output.normalise(x, weights.norm, buffers.normed, config.dim, count);
    output.multiply([weights.output], normed, [buffers.logits], count, poll);
    const { vocabSize, logitSoftcap } = config;
    if (logitSoftcap > 0) arena.kernels.softcap(buffers.logits, count * vocabSize, logitSoftcap);
    return Array.from({ length: count }, (_, i) => floatsAt(arena, buffers.logits + i * vocabSize * 4, vocabSize));
  }
}

/** Put a segment's keys and values into its cache, and let its queries attend to all of them. */
function attend(layers: Layers, index: number, { cache, position, row, tokens }: Segment, poll: () => void): void {
  const { config, buffers } = layers;
  const qAt = row * config.nHeads * config.headSize * 4;
  const kvAt = row * config.nKvHeads * config.headSize * 4;
  const q = buffers.q + qAt;
  const k = buffers.keys + kvAt;
  layers.rotate(index, q, config.nHeads, position, tokens, cache.far);
  layers.rotate(index, k, config.nKvHeads, position, tokens, cache.far);
  cache.store(index, position, k, buffers.values + kvAt, tokens);
  const { halves } = cache;
  const range = { tokens, length: position + 1, growth: 1, window: config.windows[index]!, halves } as const;
  layers.attend(q, cache.placesAt(index), buffers.attended + qAt, range, poll);
}

function isChanged({ segments }: Chunk): boolean {
  return segments.some(({ intervention }) => intervention !== undefined);
}

function stagesOf(part: Layers, chunk: Chunk, layer: number): FeedForwardStages {
  const { gate, projected } = part.buffers;
  return {
    activated: () => intervene(part, chunk, 'neurons', layer, gate),
    projected: () => intervene(part, chunk, 'ffn', layer, projected),
  };
}

/** Let the chunk's sequences change what was written to `at`. */
function intervene({ arena, config }: Layers, { segments }: Chunk, to: WrittenTo, layer: number, at: number): void {
  for (const { intervention, position, row, tokens } of segments) {
    if (intervention === undefined) continue;
    const { nHeads, headSize, hiddenDim, dim } = config;
    const width = { heads: nHeads * headSize, neurons: hiddenDim, ffn: dim }[to];
    intervention(to, layer, position, floatsAt(arena, at + row * width * 4, tokens * width), width);
  }
}

/** Floats from an address on; valid until the memory grows. */
function floatsAt(arena: Arena, at: number, n: number): Float32Array {
  return arena.f32.subarray(at / 4, at / 4 + n);
}
