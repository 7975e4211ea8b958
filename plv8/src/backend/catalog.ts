import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { Account, Limits } from './limits.ts';
import { readLimits } from './limits.ts';
import { brief } from '../format/visible-text.ts';

/** One ready model as the tables know it; what decides whether a loaded copy is still the right one. */
export interface ModelRow {
  id: number;
  name: string;
  /** SHA-256 of the source file, hex. */
  digest: string;
  /** Raised by stop_model: copies loaded under an earlier number are to be freed. */
  unloadGeneration: number;
}

export interface ModelDescription extends ModelRow {
  architecture: string;
  hyperparameters: Record<string, unknown>;
  chatTemplate: string | null;
  /** Options that the model's source recommends, under our names. */
  defaultOptions: Record<string, unknown>;
  /** System message that the model's source recommends. */
  systemPrompt: string | null;
}

export interface Catalog {
  models: ModelRow[];
  settings: Map<string, unknown>;
  limits: Limits;
  /** Roles that a call counts for. */
  accounts: Account[];
}

/** Names shown in "no such model" errors; a longer list helps nobody. */
const MAX_NAMES_IN_ERROR = 10;

/** Tag that Ollama's clients put after a name without one. */
const LATEST = ':latest';

/** Every ready model, every setting and limit: three small queries a call, so removed or replaced models are noticed at once. */
export function readCatalog(): Catalog {
  const models = query(
    `select id::float8 as id, name, encode(source_digest, 'hex') as digest, unload_generation
     from hartonomous.models where state = 'ready' order by name`,
  ).map((row) => ({
    id: Number(row.id),
    name: String(row.name),
    digest: String(row.digest),
    unloadGeneration: Number(row.unload_generation),
  }));
  const settings = new Map(
    query('select name, value::json as value from hartonomous.settings').map((row) => [String(row.name), row.value]),
  );
  return { models, settings, ...readLimits() };
}

function listNames(models: ModelRow[]): string {
  const shown = models.slice(0, MAX_NAMES_IN_ERROR).map((model) => model.name);
  const more = models.length - shown.length;
  return more > 0 ? `${shown.join(', ')} and ${more} more` : shown.join(', ');
}

/** What a model is wanted for: there is a default for each. */
export type Purpose = 'text' | 'embedding';

/** Setting that names the default model of a purpose. */
export const DEFAULT_SETTING: Readonly<Record<Purpose, string>> = {
  text: 'default_model',
  embedding: 'default_embedding_model',
};

/** Ids of the models that are made for embeddings, and whether they only rank documents. */
function embedders(): Map<number, boolean> {
  const rows = query(
    `select id::float8 as id, hyperparameters ->> (architecture || '.pooling_type') = '4' as ranks
     from hartonomous.models where state = 'ready' and hartonomous._embeds(architecture, hyperparameters)`,
  );
  return new Map(rows.map((row) => [Number(row.id), row.ranks === true]));
}

/** What a model is the default of, when it is chosen as one. */
export function purposeOf(model: ModelRow): Purpose {
  return embedders().has(model.id) ? 'embedding' : 'text';
}

/** Name of the model that is used where none is named: the chosen one, else the only one that fits; null where there is none. */
export function defaultName(catalog: Catalog, purpose: Purpose): string | null {
  const chosen = catalog.settings.get(DEFAULT_SETTING[purpose]);
  if (typeof chosen === 'string') return chosen;
  const { models } = catalog;
  if (models.length > 1) {
    const made = embedders();
    const fits = models.filter(({ id }) => made.has(id) === (purpose === 'embedding'));
    // Of several a reranker is not meant: it makes no embeddings.
    const meant = fits.length === 1 ? fits : fits.filter(({ id }) => made.get(id) !== true);
    if (meant.length === 1) return meant[0]!.name;
    if (purpose === 'embedding' && meant.length > 1) return null;
  } else if (models.length === 1) return models[0]!.name;
  return purpose === 'embedding' ? defaultName(catalog, 'text') : null;
}

/** The model of this name; NAME and NAME:latest are one, unless both are there. */
function namedModel(models: readonly ModelRow[], name: string): ModelRow | undefined {
  const find = (wanted: string): ModelRow | undefined => models.find((model) => model.name === wanted);
  return find(name) ?? (name.endsWith(LATEST) ? find(name.slice(0, -LATEST.length)) : find(name + LATEST));
}

/** The model of this name, or the default one for null. Throws undefinedObject with the names there are. */
export function findModel(catalog: Catalog, name: string | null, purpose: Purpose = 'text'): ModelRow {
  const { models } = catalog;
  if (models.length === 0) {
    raise(SQLSTATE.undefinedObject, 'no model has been ingested into this database', {
      hint: 'run: hartonomous ingest FILE.gguf',
    });
  }
  const wanted = name ?? defaultName(catalog, purpose);
  if (wanted !== null) {
    const found = namedModel(models, wanted);
    if (found !== undefined) return found;
    raise(
      SQLSTATE.undefinedObject,
      name === null ? `default model ${brief(wanted)} does not exist` : `model ${brief(wanted)} does not exist`,
      { hint: `models here: ${listNames(models)}` },
    );
  }
  raise(SQLSTATE.undefinedObject, `no model named and no default set among ${models.length} models`, {
    detail: `models here: ${listNames(models)}`,
    hint: `name one, or run: select hartonomous.set_default_model('NAME')`,
  });
}

/**
 * Run what reads the rows of a model. Its statements see the database one after another, so a model that is removed
 * meanwhile looks damaged to them: then the error says that it was removed.
 */
export function readingModel<T>(model: Pick<ModelRow, 'id' | 'name'>, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (readCatalog().models.some(({ id }) => id === model.id)) throw cause;
    raise(SQLSTATE.undefinedObject, `model ${model.name} was removed while it was loaded`, { cause });
  }
}

/** Hyper-parameters, template and recommended settings of a ready model. */
export function describeModel(row: ModelRow): ModelDescription {
  const found = query(
    `select architecture, hyperparameters::json as hyperparameters, chat_template || '' as chat_template,
       default_options::json as default_options, system_prompt || '' as system_prompt
     from hartonomous.models where id = $1::bigint`,
    [row.id],
  )[0];
  if (found === undefined) raise(SQLSTATE.undefinedObject, `model ${row.name} does not exist`);
  return {
    ...row,
    architecture: String(found.architecture),
    hyperparameters: (found.hyperparameters ?? {}) as Record<string, unknown>,
    chatTemplate: found.chat_template === null ? null : String(found.chat_template),
    defaultOptions: (found.default_options ?? {}) as Record<string, unknown>,
    systemPrompt: found.system_prompt === null ? null : String(found.system_prompt),
  };
}
