/** A call about one model with the options of `generate`, as far as it goes before the engine is asked. */
import { callerRole } from '../../backend/caller.ts';
import type { Catalog, ModelDescription } from '../../backend/catalog.ts';
import { refuseUnrecorded } from '../../backend/limits.ts';
import { admit, currentCatalog, note, useDescription } from '../../backend/registry.ts';
import type { EngineHost } from '../../db.ts';
import { engineHost, noticeOnce } from '../../db.ts';
import { writeJson } from '../../format/ordered-json.ts';
import type { Grammar } from '../../sampling/constraint/grammar.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../../sampling/options.ts';
import { headOf } from './conversing.ts';
import type { RequestHead } from './messages.ts';

export interface OpenedCall {
  host: EngineHost;
  /** oid of the caller */
  role: number;
  catalog: Catalog;
  caller: string;
  description: ModelDescription;
  options: GenerateOptions;
  head: RequestHead;
}

/** A call that was admitted; null where the engine does not take it, which `isTaken` says, and which is not admitted yet. */
export function openCall(
  model: string | null,
  given: Record<string, unknown>,
  isTaken: (options: GenerateOptions, catalog: Catalog) => boolean,
  grammar?: Grammar,
): OpenedCall | null {
  const host = engineHost();
  if (host === null) return null;
  const catalog = currentCatalog();
  refuseUnrecorded(catalog.limits);
  const description = useDescription(catalog, model);
  const options = parseOptions(given, description.defaultOptions, grammar);
  const caller = callerRole();
  const account = catalog.accounts.find(({ role }) => role === caller);
  if (!isTaken(options, catalog) || account === undefined) return null;
  const ignored = ignoredOptions(given);
  if (ignored.length > 0) noticeOnce(`options about hardware change nothing here: ${ignored.join(', ')}`);
  admit(catalog);
  note(catalog, description);
  const head = headOf(catalog, description, options.precision, writeJson(given));
  return { host, role: account.oid, catalog, caller, description, options, head };
}
