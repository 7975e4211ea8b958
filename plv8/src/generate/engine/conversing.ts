/** What a caller and the engine of its database say to one another, from the caller's side. */
import type { Catalog, ModelDescription, ModelRow } from '../../backend/catalog.ts';
import { noteTokens } from '../../backend/call-note.ts';
import { chargeTokens } from '../../backend/hourly-counts.ts';
import type { Limits } from '../../backend/limits.ts';
import type { EngineHost } from '../../db.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { buildIdOf } from '../record.ts';
import type { EngineMessage, EngineRequest, LastMessage, Part, RequestHead, UnloadRequest } from './messages.ts';
import { receivedError, storedOf } from './messages.ts';

/** Characters of a request that the engine takes, its options included; a longer one would hold up others before its first pass. */
export const MAX_INPUT = 1_000_000;

/** SQLSTATE of the host's error: too_many_connections. */
const ENGINE_IS_FULL = '53300';

/** Limits on what a backend holds: an engine has none of a role's. */
const OF_BACKENDS = ['max_model_bytes', 'max_loaded_models'];

/** Whether limits leave a call to the engine. */
export function mayAsk(limits: Limits): boolean {
  return OF_BACKENDS.every((name) => !limits.has(name));
}

/** What every request says, of the model as the caller sees it. */
export function requestHead(
  catalog: Catalog,
  { id, name, digest, unloadGeneration }: ModelRow,
  said: Omit<RequestHead, 'build' | 'model'>,
): RequestHead {
  return { build: buildIdOf(catalog), model: { id, name, digest, unloadGeneration }, ...said };
}

/** The same of a call that is made now: the model is as the tables have it, and the limits are the caller's. */
export function headOf(
  catalog: Catalog,
  model: ModelDescription,
  precision: RequestHead['precision'],
  options: string,
): RequestHead {
  return requestHead(catalog, model, { stored: storedOf(model), precision, options, limits: [...catalog.limits] });
}

/** The caller's options with the seed that they came to, a JSON text. */
export function seeded(given: Record<string, unknown>, { sampler }: GenerateOptions): string {
  return writeJson({ ...given, seed: sampler.seed });
}

/**
 * Leave a request with the engine and hear what it comes to; null where it is to be computed here. Throws what the engine found
 * wrong with it. `see` sees what many texts come to, one after the other.
 */
export function converse(
  host: EngineHost,
  role: number,
  request: EngineRequest | UnloadRequest,
  see: (part: Part) => void = () => undefined,
): LastMessage | null {
  const heard: { last: LastMessage | null; rows: number } = { last: null, rows: 0 };
  const count = (rows: number): void => {
    chargeTokens(rows);
    noteTokens(rows);
    heard.rows += rows;
  };
  const hear = (text: string): boolean => {
    const message = JSON.parse(text) as EngineMessage;
    if ('rows' in message) {
      count(message.rows);
      return false;
    }
    if ('places' in message || 'place' in message) {
      see(message);
      return false;
    }
    heard.last = message;
    return true;
  };
  const came = host.ask(role, JSON.stringify(request), hear, 'model' in request ? request.model.id : 0);
  if (came !== 'done' || heard.last === null || 'unseen' in heard.last) {
    if (heard.rows > 0) count(-heard.rows); // they are evaluated here, and counted then
    return null;
  }
  if ('error' in heard.last) throw receivedError(heard.last.error);
  return heard.last;
}

/** What `work` comes to; null where the engine takes no more requests. */
export function unlessFull<Result>(work: () => Result): Result | null {
  try {
    return work();
  } catch (error) {
    if ((error as { sqlerrcode?: unknown }).sqlerrcode !== ENGINE_IS_FULL) throw error;
    return null;
  }
}
