/**
 * What this backend holds in memory: per model and precision its weights and tokenizer; eviction.ts says what goes again,
 * caches.ts keeps the key/value caches. Lives as long as the isolate. Entries are checked against the tables at every call, so a model removed or replaced elsewhere is
 * dropped here before anything is computed with it.
 */
import { kernelHost, logEvent, poll, query, useHugePages } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { TILE_TARGET_BYTES } from '../format/tiles.ts';
import type { Kernels } from '../kernels/load.ts';
import { kernelBuild, offerNativeKernels } from '../kernels/load.ts';
import { MAX_MEMORY_BYTES } from '../model/arena.ts';
import { checkVocabularySize, readConfig } from '../model/config.ts';
import type { Precision } from '../model/model.ts';
import { inModelForm } from '../model/model-form.ts';
import { Model, onEvaluated } from '../model/model.ts';
import { dbWeightSource } from '../model/source-db.ts';
import { planWeights } from '../model/weights.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { createTokenizer } from '../tokenizer/tokenizer.ts';
import { readVocabulary } from '../tokenizer/source-db.ts';
import type { Vocabulary } from '../tokenizer/vocabulary.ts';
import { beginCall, cacheFacts, DEFAULT_MAX_CACHE_BYTES } from './caches.ts';
import type { LoadedModel } from './eviction.ts';
import { drop, dropOldest, dropStale, isStale, loaded, loadedIds, loadedKey, makeRoom } from './eviction.ts';
import { endNote, noteCall, noteTokens } from './call-note.ts';
import { callerRole } from './caller.ts';
import type { Catalog, ModelDescription, ModelRow, Purpose } from './catalog.ts';
import { DEFAULT_SETTING, describeModel, findModel, purposeOf, readCatalog, readingModel } from './catalog.ts';
import { atMost, mustRecord } from './limits.ts';
import { errorTotal } from './call-errors.ts';
import { admitCall, chargeTokens } from './hourly-counts.ts';
import { showLoading } from './load-progress.ts';
import { showPresence } from './presence.ts';
import { ModelSegments } from './sharing.ts';
import { nanoseconds } from './durations.ts';

/** Models a backend keeps loaded when the setting max_loaded_models does not say otherwise. */
const DEFAULT_MAX_LOADED = 2;

/** Caches an engine keeps between calls: those of many sessions, which it goes on with in turn. */
const ENGINE_CACHES = 64;

interface TokenizerEntry {
  readonly description: ModelDescription;
  readonly tokenizer: Tokenizer;
  /** For a segment to be published; null where it came from one. */
  readonly vocabulary: Vocabulary | null;
}

let evaluated = 0;

// Also for a call that is cut off: tokens are on its account before they are computed.
onEvaluated((tokens) => {
  evaluated += tokens;
  chargeTokens(tokens);
  noteTokens(tokens);
});

/** Tokens that this backend has evaluated, or was about to. */
export function evaluatedTokens(): number {
  return evaluated;
}

const tokenizers = new Map<number, TokenizerEntry>();

/** A stored setting that is a whole number of at least `least`; the default where it is none. */
function wholeSetting(catalog: Catalog, name: string, least: number, otherwise: number): number {
  const value = Number(catalog.settings.get(name) ?? otherwise);
  return Number.isInteger(value) && value >= least ? value : otherwise;
}

/** Start of a call: the catalog as this transaction sees it, after dropping what it no longer lists. */
export function currentCatalog(): Catalog {
  const catalog = readCatalog();
  dropStale(catalog);
  for (const [id, entry] of tokenizers) if (isStale(entry.description, catalog)) tokenizers.delete(id);
  showPresence({ models: loadedIds(), errors: errorTotal() });
  const models = [...loaded.values()].map((entry) => entry.model);
  beginCall(models, wholeSetting(catalog, 'max_cache_bytes', 0, DEFAULT_MAX_CACHE_BYTES));
  return catalog;
}

/**
 * The catalog as an engine sees it, which computes for others meanwhile: models that the tables no longer list go where nobody
 * computes with them. Nobody's limits are its own.
 */
export function engineCatalog(isUsed: (model: Model) => boolean): Catalog {
  const catalog = { ...readCatalog(), limits: new Map<string, number>(), accounts: [] };
  dropStale(catalog, isUsed);
  for (const [id, entry] of tokenizers) if (isStale(entry.description, catalog)) tokenizers.delete(id);
  showPresence({ models: loadedIds(), errors: errorTotal() });
  const models = [...loaded.values()].map((entry) => entry.model);
  const most = wholeSetting(catalog, 'max_cache_bytes', 0, DEFAULT_MAX_CACHE_BYTES);
  if (!models.some(isUsed)) beginCall(models, most, ENGINE_CACHES);
  return catalog;
}

/** Whether a model is loaded, or can be with no other one being dropped for it. */
export function fits(catalog: Catalog, { id }: ModelRow, precision: Precision): boolean {
  const known = loaded.get(loadedKey(id, precision));
  if (known !== undefined) return !isStale(known.description, catalog);
  return loaded.size < wholeSetting(catalog, 'max_loaded_models', 1, DEFAULT_MAX_LOADED);
}

/** Models that are loaded from now on use the host's kernels, where it has any. */
function useHostKernels(): void {
  const native = kernelHost();
  offerNativeKernels(native === null ? null : (memory) => native.over(memory) as Partial<Kernels>);
}

/** Tokenizer and description of a model; reads no weights. A segment that holds the vocabulary saves reading it from rows. */
export function useTokenizer(
  catalog: Catalog,
  name: string | null,
  precision: Precision = 'auto',
  purpose: Purpose = 'text',
): TokenizerEntry {
  const row = findModel(catalog, name, purpose);
  const known = tokenizers.get(row.id);
  if (known !== undefined) return known;
  const entry = readingModel(row, () => {
    useHostKernels();
    const segments = ModelSegments.of(row.digest, precision);
    const shared = segments?.vocabulary() ?? null;
    segments?.close();
    const vocabulary = shared ?? readVocabulary(row.id);
    const tokenizer = createTokenizer(vocabulary);
    return { description: describeModel(row), tokenizer, vocabulary: shared === null ? vocabulary : null };
  });
  tokenizers.set(row.id, entry);
  return entry;
}

/** Tokenizers that this backend holds. */
export function heldTokenizers(): Tokenizer[] {
  return [...tokenizers.values()].map((entry) => entry.tokenizer);
}

/** Description of a model; reads neither weights nor vocabulary. */
export function useDescription(catalog: Catalog, name: string | null, purpose: Purpose = 'text'): ModelDescription {
  const row = findModel(catalog, name, purpose);
  return tokenizers.get(row.id)?.description ?? describeModel(row);
}

export interface UsedModel {
  entry: LoadedModel;
  tokenizer: Tokenizer;
  /** Nanoseconds this call spent loading; 0 when the model was there. */
  loadNs: number;
}

/** Read a model's weights. Throws where its embeddings are fewer than its tokens, or it is over a limit. */
function loadModel(
  { description, tokenizer, vocabulary }: TokenizerEntry,
  precision: Precision,
  catalog: Catalog,
  read: (bytes: number, of: number) => void,
): Model {
  const source = inModelForm(dbWeightSource(description.id, read), description.hyperparameters);
  const config = readConfig(description.architecture, description.hyperparameters, source.tensors());
  checkVocabularySize(description.name, config, tokenizer.vocabSize);
  useHostKernels();
  makeRoom(description.name, planWeights(source.tensors(), precision, TILE_TARGET_BYTES).bytes, catalog.limits);
  const segments = ModelSegments.of(description.digest, precision, () => vocabulary ?? readVocabulary(description.id));
  const model = Model.load(config, source, {
    precision,
    name: description.name,
    maxMemoryBytes: wholeSetting(catalog, 'max_wasm_memory_bytes', 1, MAX_MEMORY_BYTES),
    segments,
    poll,
    prepareMemory: useHugePages,
  });
  segments?.close();
  return model;
}

/** A call is about to be computed on the caller's account. Throws where the hour is used up. */
export function admit(catalog: Catalog): void {
  endNote();
  admitCall(catalog.accounts);
}

/** The call is about this model. */
export function note(catalog: Catalog, { name }: ModelDescription): void {
  if (mustRecord(catalog.limits)) noteCall(callerRole(), name);
}

/**
 * A loaded model, loading it first if this backend does not hold it. Polls for interrupts while it loads. A function that
 * may run in a parallel query must say so: no setting can be changed there, so application_name stays as it is.
 */
export function useModel(
  catalog: Catalog,
  name: string | null,
  precision: Precision,
  {
    inParallel = false,
    purpose = 'text',
    admitted = false,
  }: { inParallel?: boolean; purpose?: Purpose; admitted?: boolean } = {},
): UsedModel {
  const started = Date.now();
  const { limits } = catalog;
  if (!admitted) admit(catalog);
  const reading = useTokenizer(catalog, name, precision, purpose);
  const { tokenizer, description } = reading;
  if (!admitted) note(catalog, description);
  const key = loadedKey(description.id, precision);
  const known = loaded.get(key);
  if (known !== undefined) {
    loaded.delete(key);
    loaded.set(key, known);
    known.lastUsedAt = new Date();
    return { entry: known, tokenizer, loadNs: 0 };
  }
  const most = atMost(wholeSetting(catalog, 'max_loaded_models', 1, DEFAULT_MAX_LOADED), limits, 'max_loaded_models');
  if (most < 1) raise(SQLSTATE.configurationLimitExceeded, `limit max_loaded_models is ${most}`);
  while (loaded.size >= most) dropOldest();
  const load = (read: (bytes: number, of: number) => void): Model =>
    readingModel(description, () => loadModel(reading, precision, catalog, read));
  const model = inParallel ? load(() => undefined) : showLoading(description.name, load);
  const now = new Date();
  const loadNs = nanoseconds(now.getTime() - started);
  const entry: LoadedModel = {
    description,
    precision,
    model,
    loadNs,
    loadedAt: now,
    lastUsedAt: now,
    usage: { calls: 0, promptTokens: 0, reusedTokens: 0, generatedTokens: 0, cacheHits: 0 },
  };
  loaded.set(key, entry);
  showPresence({ models: loadedIds() });
  logEvent('load', {
    model: description.name,
    precision: model.precision,
    memory_bytes: model.memoryBytes,
    shared_bytes: model.sharedBytes,
    load_duration: loadNs,
  });
  return { entry, tokenizer, loadNs };
}

/** Free the loaded copies of one model, or of all for null, but those that are to stay; how many were freed. */
export function unloadModels(name: string | null, stays: (model: Model) => boolean = () => false): number {
  let freed = 0;
  for (const [key, entry] of loaded) {
    if ((name !== null && entry.description.name !== name) || stays(entry.model)) continue;
    drop(key);
    freed++;
  }
  const left = loadedIds();
  for (const [id, entry] of tokenizers) {
    if ((name === null || entry.description.name === name) && !left.has(id)) tokenizers.delete(id);
  }
  showPresence({ models: left });
  return freed;
}

/** Build of the kernels that a model which is loaded now computes with, and threads that a call may have. */
export function kernelFacts(): { kernels: string; threads: number } {
  useHostKernels();
  const native = kernelHost();
  return {
    kernels: native === null ? kernelBuild() : `${kernelBuild()} (${native.family()})`,
    threads: native?.threads() ?? 1,
  };
}

/** What this backend holds of all its models. */
export function heldBytes(): { memoryBytes: number; cacheBytes: number; cachedTokens: number } {
  const held = { memoryBytes: 0, cacheBytes: 0, cachedTokens: 0 };
  for (const { model } of loaded.values()) {
    held.memoryBytes += model.memoryBytes;
    held.cacheBytes += model.cacheBytes;
    held.cachedTokens += cacheFacts(model).tokens;
  }
  return held;
}

/** Rows of the view loaded_models. */
export function loadedModelRows(): Record<string, unknown>[] {
  currentCatalog();
  const computing = kernelFacts();
  return [...loaded.values()].map((entry) => {
    const { caches, tokens } = cacheFacts(entry.model);
    return {
      model: entry.description.name,
      precision: entry.model.precision,
      memory_bytes: entry.model.memoryBytes,
      shared_bytes: entry.model.sharedBytes,
      cache_bytes: entry.model.cacheBytes,
      cached_tokens: tokens,
      load_duration: entry.loadNs,
      calls: entry.usage.calls,
      prompt_tokens: entry.usage.promptTokens,
      reused_tokens: entry.usage.reusedTokens,
      generated_tokens: entry.usage.generatedTokens,
      loaded_at: entry.loadedAt,
      last_used_at: entry.lastUsedAt,
      caches,
      cache_hits: entry.usage.cacheHits,
      memories: entry.model.memories,
      ...computing,
    };
  });
}

/** Make a model the default one of what it is made for, text or embeddings; null clears both choices. Throws when there is no such model. */
export function setDefaultModel(name: string | null): string | null {
  if (name === null) {
    query('delete from hartonomous.settings where name = any ($1::text[])', [Object.values(DEFAULT_SETTING)]);
    return null;
  }
  const row = findModel(currentCatalog(), name);
  query(
    `insert into hartonomous.settings (name, value) values ($2::text, to_jsonb($1::text))
     on conflict (name) do update set value = excluded.value`,
    [row.name, DEFAULT_SETTING[purposeOf(row)]],
  );
  return row.name;
}
