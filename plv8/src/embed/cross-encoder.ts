/** Models that read a query and a document together and say with a classifier how well they go together. */
import { logEvent, poll, query as select } from '../db.ts';
import { HartonomousError, raise, SQLSTATE } from '../errors.ts';
import type { ModelDescription, Purpose } from '../backend/catalog.ts';
import { nanoseconds } from '../backend/durations.ts';
import type { UsedModel } from '../backend/registry.ts';
import { currentCatalog, useDescription, useModel } from '../backend/registry.ts';
import type { Pause } from '../model/pause.ts';
import { whole } from '../model/pause.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { embeddingIds } from './embedding.ts';
import type { EmbeddingOptions } from './embedding-options.ts';
import { parseEmbeddingOptions } from './embedding-options.ts';
import { brief } from '../format/visible-text.ts';

/** What Qwen3-Reranker was trained with, where the file does not state it. */
const QWEN3_TEMPLATE =
  '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n' +
  '<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n\n<Query>: {query}\n\n<Document>: {document}<|im_end|>\n' +
  '<|im_start|>assistant\n<think>\n\n</think>\n\n';

/** Options that say nothing to a classifier. */
const FOR_EMBEDDINGS = ['kind', 'pooling', 'dimensions'] as const;

export interface Pair {
  ids: number[];
  /** First token of the document; the number of ids where tokens have no types. */
  second: number;
}

/** What a query and a document become a pair with. */
interface Pairing {
  tokenizer: Tokenizer;
  /** the text around both; null where only tokens stand there */
  template: string | null;
  /** most tokens of a pair */
  limit: number;
  truncate: boolean;
}

export interface Ranker {
  used: UsedModel;
  options: EmbeddingOptions;
}

/** The model with its options where it has a classifier, null where it makes embeddings; only the former is loaded. */
export function findRanker(
  model: string | null,
  given: Record<string, unknown> | null,
  purpose: Purpose,
): Ranker | null {
  const options = parseEmbeddingOptions(given ?? {});
  if (!hasClassifier(model, purpose)) return null;
  refuseForEmbeddings(options);
  return { used: useModel(currentCatalog(), model, options.precision, { inParallel: true, purpose }), options };
}

/** Throw for options that say nothing to a classifier. */
export function refuseForEmbeddings(options: EmbeddingOptions): void {
  const other = FOR_EMBEDDINGS.find((name) => options[name] !== null);
  if (other === undefined) return;
  raise(
    SQLSTATE.invalidParameterValue,
    `option ${other} is one of embeddings, and the model ranks documents without them`,
  );
}

/** Whether a model has a classifier, by its tensors: nothing is loaded to tell. */
export function hasClassifier(model: string | null, purpose: Purpose): boolean {
  return isClassifier(useDescription(currentCatalog(), model, purpose));
}

/** The same of a model that is known. */
export function isClassifier({ id }: Pick<ModelDescription, 'id'>): boolean {
  return (
    select(
      `select 1 as there from hartonomous.weight_matrices
       where model_id = $1::bigint and name in ('cls.weight', 'cls.output.weight') limit 1`,
      [id],
    ).length > 0
  );
}

/** Of documents, null for null and what cannot be scored, and the tokens that were read for them. */
export interface Scores {
  scores: (number | null)[];
  texts: number;
  tokens: number;
}

/**
 * How well each document answers the query: the classifier's logit, or the probability of yes where the model chooses
 * between yes and no; with option `normalize` every score lies between 0 and 1. null for null, and with option `on_error`
 * null for what cannot be scored.
 */
export function scoreDocuments(ranker: Ranker, query: string, docs: readonly (string | null)[]): (number | null)[] {
  const started = Date.now();
  const scored = whole(scoreInPieces(ranker, query, docs));
  logScores(ranker.used.entry.description.name, scored, started);
  return scored.scores;
}

/** Tell the server log of texts that a classifier read; `log` writes the line. */
export function logScores(
  model: string,
  { texts, tokens }: Omit<Scores, 'scores'>,
  started: number,
  log = logEvent,
): void {
  log('rank', { model, texts, prompt_tokens: tokens, prompt_eval_duration: nanoseconds(Date.now() - started) });
}

interface InPieces {
  /** Tokens of texts that go together at most, where one has not more. */
  together?: number;
  /** Has a pair cut into tokens; may throw where that takes too long. */
  cut?: (work: () => Pair) => Pair;
}

/** As scoreDocuments, with pauses as Model.hiddenStatesInPieces has them. Tables are read before the first piece, not later. */
export function scoreInPieces(
  ranker: Ranker,
  query: string,
  docs: readonly (string | null)[],
  more: InPieces = {},
): Generator<Pause, Scores> {
  const { used } = ranker;
  const { name } = used.entry.description;
  const labels = labelsOf(used);
  if (labels !== null) {
    raise(
      SQLSTATE.featureNotSupported,
      `model ${name} tells ${brief(labels.join(', '))} apart and ranks no documents`,
      {
        hint: 'use it with hartonomous.classify',
      },
    );
  }
  return scorePairs(ranker, pairingOf(ranker), query, docs, more);
}

function* scorePairs(
  { used, options }: Ranker,
  pairing: Pairing,
  query: string,
  docs: readonly (string | null)[],
  { together, cut = (work) => work() }: InPieces,
): Generator<Pause, Scores> {
  const pairs: (Pair | null)[] = [];
  for (const [i, document] of docs.entries()) {
    let pair: Pair | null = null;
    try {
      if (document !== null) pair = cut(() => pairOf(pairing, query, document, i + 1));
    } catch (error) {
      if (!(error instanceof HartonomousError) || options.onError === 'error') throw error;
    }
    pairs.push(pair);
    yield 'between';
  }
  const read = pairs.filter((pair) => pair !== null);
  const { logits, tokens } = yield* classifierLogits(used, read, together);
  const chance = choosesYes(used) || options.normalize === true;
  let next = 0;
  const scores = pairs.map((pair) => {
    if (pair === null) return null;
    const margin = marginOf(logits[next++]!);
    return chance ? 1 / (1 + Math.exp(-margin)) : margin;
  });
  return { scores, texts: read.length, tokens };
}

/**
 * How likely each label fits a text: by a classifier of these very labels, or by a reranker for which each label is a
 * query that the text may answer. `question` stands around a label as {label}.
 */
export function classifyByEncoder(
  ranker: Ranker,
  input: string,
  labels: readonly string[],
  question: string | null,
): number[] {
  const started = Date.now();
  const scored = whole(classifyInPieces(ranker, input, labels, question));
  logScores(ranker.used.entry.description.name, scored, started);
  return scored.scores;
}

/** Of labels, and what was read for them. */
export interface Probabilities extends Scores {
  scores: number[];
}

/** As classifyByEncoder, with pauses as Model.hiddenStatesInPieces has them. Tables are read before the first piece, not later. */
export function classifyInPieces(
  ranker: Ranker,
  input: string,
  labels: readonly string[],
  question: string | null,
  more: InPieces = {},
): Generator<Pause, Probabilities> {
  const known = labelsOf(ranker.used);
  return known === null
    ? rankLabels(ranker, pairingOf(ranker), input, labels, question, more)
    : tellLabels(ranker, known, input, labels, more);
}

/** By a reranker. */
function* rankLabels(
  { used }: Ranker,
  pairing: Pairing,
  input: string,
  labels: readonly string[],
  question: string | null,
  { together, cut = (work) => work() }: InPieces,
): Generator<Pause, Probabilities> {
  const pairs: Pair[] = [];
  for (const [i, label] of labels.entries()) {
    const asked = question?.replaceAll('{label}', label) ?? label;
    pairs.push(cut(() => pairOf(pairing, asked, input, i + 1)));
    yield 'between';
  }
  const { logits, tokens } = yield* classifierLogits(used, pairs, together);
  return { scores: softmax(logits.map(marginOf)), texts: pairs.length, tokens };
}

/** By a classifier of labels that are `known`. */
function* tellLabels(
  { used, options }: Ranker,
  known: readonly string[],
  input: string,
  labels: readonly string[],
  { together, cut = (work) => work() }: InPieces,
): Generator<Pause, Probabilities> {
  for (const label of labels) {
    if (known.includes(label)) continue;
    raise(SQLSTATE.invalidParameterValue, `model ${used.entry.description.name} does not know label ${brief(label)}`, {
      hint: `its labels: ${brief(known.join(', '))}`,
    });
  }
  const { tokenizer, entry } = used;
  const pair = cut(() => {
    const { ids } = embeddingIds(tokenizer, input, entry.model.config.contextLength, 1, options.truncate);
    return { ids, second: ids.length };
  });
  const { logits, tokens } = yield* classifierLogits(used, [pair], together);
  const [found] = logits;
  return { scores: softmax(labels.map((label) => found![known.indexOf(label)]!)), texts: 1, tokens };
}

function softmax(logits: readonly number[]): number[] {
  const highest = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp(logit - highest));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** Names of a classifier's outputs where they are no yes and no; null for a reranker. */
function labelsOf({ entry }: UsedModel): readonly string[] | null {
  const { description, model } = entry;
  const labels = description.hyperparameters[`${description.architecture}.classifier.output_labels`];
  const several = Array.isArray(labels) && labels.length > 1 && model.config.architecture.classifier === 'first';
  return several ? labels.map(String) : null;
}

/** Qwen3's rerankers are decoders that answer yes or no. */
function choosesYes({ entry }: UsedModel): boolean {
  return entry.model.config.architecture.classifier === 'last';
}

/** What speaks for a pair: the only logit, or how far yes, which is first, is above no. */
function marginOf(logits: Float64Array): number {
  return logits[0]! - (logits[1] ?? 0);
}

function pairingOf({ used, options: { truncate } }: Ranker): Pairing {
  const { entry, tokenizer } = used;
  const template = choosesYes(used) ? rankTemplate(entry.description.id) : null;
  return { tokenizer, template, limit: entry.model.config.contextLength, truncate };
}

/** Logits (labels) of each text or pair. */
function* classifierLogits(
  { entry }: UsedModel,
  pairs: readonly Pair[],
  together = Infinity,
): Generator<Pause, { logits: Float64Array[]; tokens: number }> {
  const { model } = entry;
  const { dim, architecture } = model.config;
  const logits: Float64Array[] = [];
  const seconds = pairs.map(({ second }) => second);
  const sequences = pairs.map(({ ids }) => ids);
  yield* model.hiddenStatesInPieces(sequences, { poll, seconds, together }, (which, first, states) => {
    const row = (architecture.classifier === 'last' ? sequences[which]!.length - 1 : 0) - first;
    if (row < 0 || (row + 1) * dim > states.length) return;
    logits[which] = model.classifierLogits(states.slice(row * dim, (row + 1) * dim));
  });
  const tokens = sequences.reduce((sum, ids) => sum + ids.length, 0);
  entry.usage.calls++;
  entry.usage.promptTokens += tokens;
  return { logits, tokens };
}

/** The text around a query and a document that a model was trained with. */
function rankTemplate(modelId: number): string {
  const row = select(
    `select tokenizer->>'tokenizer.chat_template.rerank' as template from hartonomous.models where id = $1::bigint`,
    [modelId],
  )[0];
  return typeof row?.template === 'string' ? row.template : QWEN3_TEMPLATE;
}

/**
 * Ids of a pair as transformers makes them, the document cut where both are too long and `truncate` allows it. Throws naming the
 * document by its place from 1.
 */
function pairOf(pairing: Pairing, query: string, document: string, place: number): Pair {
  const { tokenizer, template, limit, truncate } = pairing;
  const bare = (text: string): number[] => tokenizer.encode(text, { addSpecial: false, parseSpecial: false, poll });
  const make = (text: string, ids: readonly number[]): Pair => {
    if (template === null) return besides(tokenizer, bare(query), ids);
    const all = templateIds(tokenizer, template, query, text);
    return { ids: all, second: all.length };
  };
  const ids = bare(document);
  const whole = make(document, ids);
  const excess = whole.ids.length - limit;
  if (excess <= 0) return whole;
  if (!truncate || excess >= ids.length) {
    raise(
      SQLSTATE.programLimitExceeded,
      `query and document ${place} have ${whole.ids.length} tokens, the model reads ${limit}`,
      { hint: truncate ? 'shorten the query' : 'shorten them, or leave option truncate at true' },
    );
  }
  const kept = ids.slice(0, ids.length - excess);
  const cut = make(tokenizer.decode(kept), kept);
  return { ...cut, ids: cut.ids.slice(0, limit) };
}

/** Two texts with the vocabulary's marks: [CLS] a [SEP] b [SEP], or <s> a </s></s> b </s>. */
function besides(tokenizer: Tokenizer, query: readonly number[], document: readonly number[]): Pair {
  const { bosId, eosId, separatorId } = tokenizer;
  const end = separatorId ?? eosId;
  if (bosId === null || end === null)
    raise(SQLSTATE.dataCorrupted, 'vocabulary has no tokens that begin and end a text of a pair');
  const first = [bosId, ...query, end];
  const between = separatorId === null ? [end] : [];
  return { ids: [...first, ...between, ...document, end], second: first.length };
}

/** Ids of a template with both texts in it; special tokens are recognised in the template's own text only. */
function templateIds(tokenizer: Tokenizer, template: string, query: string, document: string): number[] {
  const ids: number[] = [];
  let text = '';
  const flush = (): void => {
    const filled = text.replace(/\{query\}|\{document\}/g, (name) => (name === '{query}' ? query : document));
    if (filled !== '') ids.push(...tokenizer.encode(filled, { addSpecial: false, parseSpecial: false, poll }));
    text = '';
  };
  for (const piece of template.split(/(<[^<>\s]+>)/)) {
    const special = piece.startsWith('<')
      ? tokenizer.encode(piece, { addSpecial: false, parseSpecial: true, poll })
      : [];
    if (special.length === 1) {
      flush();
      ids.push(special[0]!);
    } else text += piece;
  }
  flush();
  return ids;
}
