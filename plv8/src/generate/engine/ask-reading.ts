/** Embeddings and scores of texts, of the engine of the database where that takes them. */
import { callerRole } from '../../backend/caller.ts';
import type { Catalog, ModelDescription, Purpose } from '../../backend/catalog.ts';
import { admit, currentCatalog, note, useDescription, useModel } from '../../backend/registry.ts';
import { engineHost, logEvent, noticeOnce } from '../../db.ts';
import { hasClassifier, logScores, refuseForEmbeddings, scoreDocuments } from '../../embed/cross-encoder.ts';
import type { TextEmbedding } from '../../embed/embedded-rows.ts';
import { EmbeddedRows } from '../../embed/embedded-rows.ts';
import type { EmbeddingCounts, EmbeddingTask } from '../../embed/embedding.ts';
import { embedInPieces } from '../../embed/embedding.ts';
import { parseEmbeddingOptions } from '../../embed/embedding-options.ts';
import { rankedKinds } from '../../embed/prefixes.ts';
import type { Embedded } from '../../embed/recent.ts';
import { Recent } from '../../embed/recent.ts';
import { raise, SQLSTATE } from '../../errors.ts';
import { decodeBase64 } from '../../format/base64.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { Precision } from '../../model/model.ts';
import { whole } from '../../model/pause.ts';
import { converse, unlessFull } from './conversing.ts';
import type { EmbeddedPart, LastMessage, Part, Reading, SentScores } from './messages.ts';
import { storedOf } from './messages.ts';
import { readingRequest } from './reading-request.ts';

type Options = Record<string, unknown> | null;

/** Models of which a backend remembers embeddings that the engine computed. */
const MAX_MODELS = 4;

/** Embeddings that the engine computed last for this backend, which holds no model for them, by the model; the latest last. */
const recents = new Map<number, { stored: string; recent: Recent }>();

function recentFor({ id, digest, unloadGeneration }: ModelDescription, stored: string): Recent {
  const state = writeJson([digest, unloadGeneration, stored]);
  const known = recents.get(id);
  const { recent } = known?.stored === state ? known : { recent: new Recent() };
  recents.delete(id);
  for (const oldest of recents.keys()) {
    if (recents.size < MAX_MODELS) break;
    recents.delete(oldest);
  }
  recents.set(id, { stored: state, recent });
  return recent;
}

/** What is asked, and by whom. */
interface Asking {
  catalog: Catalog;
  description: ModelDescription;
  precision: Precision;
  options: Options;
}

/** A call that was admitted. */
export function openReading(model: string | null, options: Options, precision: Precision, purpose: Purpose): Asking {
  const catalog = currentCatalog();
  admit(catalog);
  const description = useDescription(catalog, model, purpose);
  note(catalog, description);
  return { catalog, description, precision, options };
}

/** What the engine makes of texts; null where they are to be read here. */
export function askToRead(asking: Asking, reading: Reading, see?: (part: Part) => void): LastMessage | null {
  const host = engineHost();
  const { catalog, description, precision } = asking;
  const caller = callerRole();
  const account = catalog.accounts.find(({ role }) => role === caller);
  if (host === null || account === undefined) return null;
  const request = readingRequest(catalog, description, asking.options ?? {}, precision, reading);
  return request === null ? null : converse(host, account.oid, request, see);
}

/** What an engine sent of documents' scores, null for what has none. */
export function scoredOf({ scores: sent, failed }: SentScores): (number | null)[] {
  const scores: (number | null)[] = scoresOf(sent);
  for (const place of failed) scores[place] = null;
  return scores;
}

/** What an engine sent of scores. */
export function scoresOf(text: string): number[] {
  return Array.from(new Float64Array(decodeBase64(text).buffer));
}

/** What an engine sent of texts that it embedded. */
export function embeddedOf(part: EmbeddedPart): Embedded | string {
  if ('failed' in part) return part.failed;
  const { vector, tokens, length } = part;
  return { embedding: Array.from(new Float32Array(decodeBase64(vector).buffer)), tokens, length };
}

interface EmbeddedAs {
  /** A query and documents, for models that are known to tell them apart where option `kind` does not. */
  ranked?: boolean;
  /** Nobody waits for them: a session makes them itself where the engine has as many requests as it may have. */
  queued?: boolean;
}

/**
 * Embeddings of texts, null for null. Throws naming the text by its place from 1, unless option on_error says null. Says by
 * a notice where texts were cut, once a statement.
 */
export function embedTexts(
  texts: readonly (string | null)[],
  model: string | null,
  given: Options,
  { ranked = false, queued = false }: EmbeddedAs = {},
): TextEmbedding[] {
  const options = parseEmbeddingOptions(given ?? {});
  for (const text of texts) {
    if (text === null || typeof text === 'string') continue;
    raise(SQLSTATE.invalidParameterValue, 'texts must be an array of one dimension');
  }
  const asking = openReading(model, given, options.precision, 'embedding');
  const { description } = asking;
  const started = Date.now();
  const embedded = new EmbeddedRows(texts.length);
  const see = (places: readonly number[], came: Embedded | string): void => embedded.see(places, came);
  const askNow = (): EmbeddingCounts | null => askForEmbeddings(asking, texts, ranked, see);
  const counts = (queued ? unlessFull(askNow) : askNow()) ?? embedHere(asking, { texts, options, ranked }, see);
  logEvent('embed', embedded.facts(description.name, counts, started));
  for (const message of embedded.notices()) noticeOnce(message);
  return embedded.rows;
}

type See = (places: readonly number[], came: Embedded | string) => void;

function embedHere(
  { description, catalog }: Asking,
  { ranked, ...task }: Pick<EmbeddingTask, 'texts' | 'options'> & { ranked: boolean },
  see: See,
): EmbeddingCounts {
  const used = useModel(catalog, description.name, task.options.precision, {
    inParallel: true,
    purpose: 'embedding',
    admitted: true,
  });
  const kinds = ranked ? rankedKinds : undefined;
  return whole(embedInPieces(used, { ...task, kinds, owner: callerRole() }, see));
}

/** Of one text: embeddings differ where what goes before it does. */
function isSame(one: Embedded, other: Embedded): boolean {
  return one === other || one.embedding.every((value, d) => value === other.embedding[d]);
}

/** Tokens of embeddings that are remembered, a text that was read for several places once. */
function knownTokens(texts: readonly (string | null)[], known: readonly (Embedded | undefined)[]): number {
  const seen = new Map<string, Embedded[]>();
  let tokens = 0;
  for (const [i, each] of known.entries()) {
    if (each === undefined) continue;
    const others = seen.get(texts[i]!) ?? [];
    if (others.some((other) => isSame(other, each))) continue;
    seen.set(texts[i]!, [...others, each]);
    tokens += each.tokens;
  }
  return tokens;
}

function askForEmbeddings(
  asking: Asking,
  texts: readonly (string | null)[],
  ranked: boolean,
  see: See,
): EmbeddingCounts | null {
  if (engineHost() === null) return null;
  const { description, options } = asking;
  const recent = recentFor(description, storedOf(description));
  const key = writeJson([callerRole(), description.name, options]);
  const keyOf = (place: number): string => `${key}${ranked ? rankedKinds(place) : ''}:${texts[place]!}`;
  const found = texts.map((text, i) => (text === null ? undefined : recent.find(keyOf(i))));
  // What is both the query and a document is read once by a model that does not tell these apart, so it is asked for as both.
  const isLeft = new Set(texts.filter((_, i) => found[i] === undefined));
  const known = found.map((each, i) => (isLeft.has(texts[i]!) ? undefined : each));
  const reused = knownTokens(texts, known);
  const tell = (): void => known.forEach((each, i) => each !== undefined && see([i], each));
  const left = texts.map((text, i) => (known[i] === undefined ? text : null));
  if (left.every((text) => text === null)) {
    if (reused === 0) return null;
    tell();
    return { reused, computed: 0 };
  }
  const came: [places: readonly number[], came: Embedded | string][] = [];
  const answered = askToRead(asking, { embed: left, ranked }, (part) => {
    if ('places' in part) came.push([part.places, embeddedOf(part)]);
  });
  if (answered === null || !('embedded' in answered)) return null;
  tell();
  for (const [places, each] of came) {
    see(places, each);
    if (typeof each !== 'string') for (const key of new Set(places.map(keyOf))) recent.keep(key, each);
  }
  return { reused: reused + answered.embedded.reused, computed: answered.embedded.computed };
}

/** Scores of documents for a query by a model that has a classifier; null where it has none. */
export function rankDocuments(
  query: string,
  docs: readonly (string | null)[],
  model: string | null,
  given: Options,
): (number | null)[] | null {
  const options = parseEmbeddingOptions(given ?? {});
  if (!hasClassifier(model, 'embedding')) return null;
  refuseForEmbeddings(options);
  const asking = openReading(model, given, options.precision, 'embedding');
  const { catalog, description } = asking;
  const started = Date.now();
  const answered = askToRead(asking, { query, documents: docs });
  if (answered === null || !('scored' in answered)) {
    const more = { inParallel: true, purpose: 'embedding', admitted: true } as const;
    return scoreDocuments({ used: useModel(catalog, description.name, options.precision, more), options }, query, docs);
  }
  const { scored } = answered;
  logScores(description.name, scored, started);
  return scoredOf(scored);
}
