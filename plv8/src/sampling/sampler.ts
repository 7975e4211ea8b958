/**
 * From logits to a token, in llama.cpp's order: logit bias, penalties, top-k, typical, top-p, min-p, temperature, draw.
 * Temperature 0 takes the highest logit after bias and penalties.
 */
import { raise, SQLSTATE } from '../errors.ts';
import { highest, selectTop, sortAll, sumOfExponents } from './logits.ts';
import { Random } from './random.ts';

export interface SamplerOptions {
  temperature: number;
  /** keep the k highest logits; 0 keeps all */
  topK: number;
  topP: number;
  minP: number;
  typicalP: number;
  repeatPenalty: number;
  /** tokens that the penalties look back on; 0 none, -1 all */
  repeatLastN: number;
  presencePenalty: number;
  frequencyPenalty: number;
  logitBias: Map<number, number>;
  seed: number | bigint;
}

export type Filter = 'constraint' | 'top_k' | 'typical_p' | 'top_p' | 'min_p';

/** What happened to one candidate. */
export interface CandidateTrace {
  id: number;
  logit: number;
  /** after bias and penalties */
  penalised: number;
  /** after temperature; null when it was cut or temperature is 0 */
  scaled: number | null;
  cutBy: Filter | null;
  /** final probability; 0 when it was cut */
  probability: number;
}

export interface TokenLogprob {
  id: number;
  logprob: number;
}

export interface Sampled {
  id: number;
  /** natural logarithm of the token's probability under the unmodified logits; null when it was not asked for */
  logprob: number | null;
  /** the uniform number that decided; null at temperature 0 */
  draw: number | null;
  /** the likeliest tokens under the unmodified logits, best first */
  topLogprobs: TokenLogprob[];
  trace?: CandidateTrace[];
  /** with a trace: logits (vocabSize) after bias and penalties, before tokens that are not allowed were cut */
  penalised?: Float32Array;
}

export interface SampleOptions {
  /** Compute `logprob`: one more pass over the vocabulary. */
  logprob?: boolean;
  /** Compute `topLogprobs` of that many tokens. */
  topLogprobs?: number;
  /** Bits of the tokens that may be chosen, 32 a word; all when not given. */
  allowed?: Uint32Array;
  /**
   * Tell what happened to that many candidates with the highest logits, to the chosen one, to `traceAlso`, and to the two
   * with the highest logits after penalties among the allowed ones.
   */
  traceTop?: number;
  traceAlso?: number;
}

function wantsLogprobs({ logprob = false, topLogprobs = 0 }: SampleOptions): boolean {
  return logprob || topLogprobs > 0;
}

interface WorkSpace {
  adjusted: Float32Array;
  ids: Int32Array;
  probabilities: Float64Array;
}

let shared: WorkSpace | null = null;

/** Work space of all samplers of a vocabulary: they sample one after the other, and nothing in it outlives a call. */
function workSpace(vocabSize: number): WorkSpace {
  if (shared?.ids.length !== vocabSize) {
    shared = {
      adjusted: new Float32Array(vocabSize),
      ids: new Int32Array(vocabSize),
      probabilities: new Float64Array(vocabSize),
    };
  }
  return shared;
}

export class Sampler {
  private readonly random: Random;
  /** (vocabSize) logits after bias and penalties */
  private readonly adjusted: Float32Array;
  /** (vocabSize) candidate ids, best logit first within [0, count) */
  private readonly ids: Int32Array;
  /** (vocabSize) probabilities of the candidates in the order of `ids` */
  private readonly probabilities: Float64Array;
  private count = 0;
  private cuts: Map<number, Filter> | null = null;
  /** (vocabSize) `adjusted` before the tokens that are not allowed were cut; kept for a trace. */
  private unmasked: Float32Array | null = null;

  constructor(
    private readonly options: SamplerOptions,
    private readonly vocabSize: number,
  ) {
    this.random = new Random(options.seed);
    ({ adjusted: this.adjusted, ids: this.ids, probabilities: this.probabilities } = workSpace(vocabSize));
    for (const id of options.logitBias.keys()) {
      if (id >= vocabSize) {
        raise(
          SQLSTATE.invalidParameterValue,
          `option logit_bias names token ${id}, the vocabulary has ids 0 to ${vocabSize - 1}`,
        );
      }
    }
  }

  /**
   * Choose a token after `history` (prompt and output so far). `logits` (vocabSize) stay as they are. Throws when they
   * hold a NaN or no finite maximum.
   */
  sample(logits: Float32Array, history: ArrayLike<number>, want: SampleOptions = {}): Sampled {
    const { adjusted, options } = this;
    const traceTop = want.traceTop ?? 0;
    const untouched = traceTop === 0 && want.allowed === undefined;
    // The highest of the logits is their check and what log-probabilities are measured from. Where nobody asks for those, and
    // the highest after bias and penalties is looked for, that is check enough.
    const checkedLater = untouched && options.temperature === 0 && !this.isPlainGreedy && !wantsLogprobs(want);
    const best = checkedLater ? 0 : highest(logits, this.vocabSize);
    const maximum = logits[best]!;
    if (untouched && this.isPlainGreedy) return this.result(logits, best, maximum, null, want);
    adjusted.set(logits.subarray(0, this.vocabSize));
    for (const [id, bias] of options.logitBias) adjusted[id]! += bias;
    this.penalise(history);
    this.cuts = traceTop > 0 ? new Map() : null;
    this.unmasked = traceTop > 0 ? adjusted.slice() : null;
    if (want.allowed !== undefined) this.mask(want.allowed);
    let id: number;
    let draw: number | null = null;
    if (options.temperature === 0) {
      id = highest(adjusted, this.vocabSize);
      this.ids[0] = id;
      this.probabilities[0] = 1;
      this.count = 1;
    } else {
      this.filter();
      draw = this.random.next();
      id = this.ids[this.pick(draw)]!;
    }
    const sampled = this.result(logits, id, maximum, draw, want);
    if (traceTop > 0) {
      sampled.trace = this.trace(logits, [id, want.traceAlso ?? id], traceTop);
      sampled.penalised = this.unmasked!;
    }
    return sampled;
  }

  /** Use up the draw of a token that is known. */
  skip(): void {
    if (this.options.temperature > 0) this.random.next();
  }

  private result(logits: Float32Array, id: number, maximum: number, draw: number | null, want: SampleOptions): Sampled {
    const top = Math.min(want.topLogprobs ?? 0, this.vocabSize);
    if (!wantsLogprobs(want)) return { id, logprob: null, draw, topLogprobs: [] };
    const logSum = maximum + Math.log(sumOfExponents(logits, this.vocabSize, maximum));
    const best = new Int32Array(top);
    if (top > 0) selectTop(logits.subarray(0, this.vocabSize), top, best);
    return {
      id,
      logprob: want.logprob === true ? logits[id]! - logSum : null,
      draw,
      topLogprobs: Array.from(best, (other) => ({ id: other, logprob: logits[other]! - logSum })),
    };
  }

  /** Temperature 0 and nothing that changes logits: the highest one wins. */
  private get isPlainGreedy(): boolean {
    const { temperature, logitBias } = this.options;
    return temperature === 0 && logitBias.size === 0 && !this.penalises;
  }

  private get penalises(): boolean {
    const { repeatPenalty, repeatLastN, presencePenalty, frequencyPenalty } = this.options;
    return repeatLastN !== 0 && (repeatPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0);
  }

  /** Repeat penalty divides positive and multiplies negative logits; presence and frequency are subtracted. */
  private penalise(history: ArrayLike<number>): void {
    if (!this.penalises) return;
    const { repeatPenalty, repeatLastN, presencePenalty, frequencyPenalty } = this.options;
    const from = repeatLastN < 0 ? 0 : Math.max(0, history.length - repeatLastN);
    const counts = new Map<number, number>();
    for (let i = from; i < history.length; i++) {
      const id = history[i]!;
      if (id < this.vocabSize) counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    for (const [id, n] of counts) {
      const logit = this.adjusted[id]!;
      const repeated = logit <= 0 ? logit * repeatPenalty : logit / repeatPenalty;
      this.adjusted[id] = repeated - n * frequencyPenalty - presencePenalty;
    }
  }

  private mask(allowed: Uint32Array): void {
    const { adjusted, vocabSize } = this;
    for (let from = 0, word = 0; from < vocabSize; from += 32, word++) {
      const bits = allowed[word] ?? 0;
      const end = Math.min(from + 32, vocabSize);
      if (bits === 0) adjusted.fill(-Infinity, from, end);
      else for (let id = from; id < end; id++) if (((bits >>> (id - from)) & 1) === 0) adjusted[id] = -Infinity;
    }
  }

  private filter(): void {
    const { topK, typicalP, topP, minP, temperature } = this.options;
    const k = topK > 0 ? Math.min(topK, this.vocabSize) : this.vocabSize;
    if (k < this.vocabSize) this.count = selectTop(this.adjusted, k, this.ids);
    else {
      this.count = this.vocabSize;
      sortAll(this.adjusted, this.ids);
    }
    if (typicalP < 1) this.keepTypical(typicalP);
    if (topP < 1) this.keepTopP(topP);
    if (minP > 0) this.keepMinP(minP);
    this.softmax(temperature);
  }

  /** Probabilities of the candidates left, from logits divided by `temperature`. */
  private softmax(temperature: number): void {
    const { ids, adjusted, probabilities, count } = this;
    const top = adjusted[ids[0]!]!;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const p = Math.exp((adjusted[ids[i]!]! - top) / temperature);
      probabilities[i] = p;
      sum += p;
    }
    for (let i = 0; i < count; i++) probabilities[i]! /= sum;
  }

  /** Locally typical sampling (Meister et al., https://arxiv.org/abs/2202.00666). */
  private keepTypical(p: number): void {
    this.softmax(1);
    const { ids, probabilities, count } = this;
    let entropy = 0;
    for (let i = 0; i < count; i++)
      if (probabilities[i]! > 0) entropy -= probabilities[i]! * Math.log(probabilities[i]!);
    const order = Array.from({ length: count }, (_, i) => i);
    const distance = order.map((i) => Math.abs(-Math.log(probabilities[i]!) - entropy));
    order.sort((a, b) => distance[a]! - distance[b]! || a - b);
    let sum = 0;
    let kept = 0;
    while (kept < count) {
      sum += probabilities[order[kept++]!]!;
      if (sum > p) break;
    }
    // Back into descending order, which the later filters count on.
    const places = order.slice(0, kept).sort((a, b) => a - b);
    if (this.cuts !== null) for (const i of order.slice(kept)) this.cuts.set(ids[i]!, 'typical_p');
    places.forEach((place, i) => (ids[i] = ids[place]!));
    this.count = kept;
  }

  /** The shortest run of best candidates whose probabilities reach p. */
  private keepTopP(p: number): void {
    this.softmax(1);
    let sum = 0;
    let kept = 0;
    while (kept < this.count) {
      sum += this.probabilities[kept++]!;
      if (sum >= p) break;
    }
    this.cut(kept, 'top_p');
  }

  /** Candidates at least p times as probable as the best one. */
  private keepMinP(p: number): void {
    const least = this.adjusted[this.ids[0]!]! + Math.log(p);
    let kept = 1;
    while (kept < this.count && this.adjusted[this.ids[kept]!]! >= least) kept++;
    this.cut(kept, 'min_p');
  }

  private cut(kept: number, filter: Filter): void {
    if (this.cuts !== null) for (let i = kept; i < this.count; i++) this.cuts.set(this.ids[i]!, filter);
    this.count = kept;
  }

  private pick(draw: number): number {
    let sum = 0;
    let last = 0;
    for (let i = 0; i < this.count; i++) {
      if (this.probabilities[i]! === 0) continue;
      sum += this.probabilities[i]!;
      last = i;
      if (draw < sum) return i;
    }
    return last;
  }

  private cutBy(id: number, kept: boolean): Filter | null {
    if (this.adjusted[id] === -Infinity) return 'constraint';
    return kept || this.options.temperature === 0 ? null : (this.cuts?.get(id) ?? 'top_k');
  }

  private trace(logits: Float32Array, also: readonly number[], top: number): CandidateTrace[] {
    const best = new Int32Array(this.vocabSize);
    const shown = Array.from(best.subarray(0, selectTop(logits, Math.min(top, this.vocabSize), best)));
    const afterPenalties = best.subarray(0, selectTop(this.adjusted, Math.min(2, this.vocabSize), best));
    const others = [...also, ...afterPenalties.filter((id) => this.adjusted[id] !== -Infinity)];
    for (const id of others) if (!shown.includes(id)) shown.push(id);
    const places = new Map<number, number>();
    for (let i = 0; i < this.count; i++) places.set(this.ids[i]!, i);
    const { temperature } = this.options;
    return shown.map((id) => {
      const place = places.get(id);
      const penalised = this.unmasked![id]!;
      const kept = place !== undefined;
      return {
        id,
        logit: logits[id]!,
        penalised,
        scaled: kept && temperature > 0 ? penalised / temperature : null,
        cutBy: this.cutBy(id, kept),
        probability: kept ? this.probabilities[place]! : 0,
      };
    });
  }
}
