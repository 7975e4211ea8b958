/** Models that nobody needs any more go from this backend, and from the engine of the database where it may let go of them. */
import { unloadModels } from '../../backend/registry.ts';
import { engineHost, lookAtEngine, query } from '../../db.ts';
import { converse, unlessFull } from './conversing.ts';

/**
 * Free one model, or all for null, with the caches of them; how many copies were freed. An engine keeps a model that it computes
 * with, and one that other roles have used and not unloaded, unless the caller is an admin; and all where it takes no more requests. None is
 * started for this.
 */
export function unloadEverywhere(name: string | null): number {
  const freed = unloadModels(name);
  const host = engineHost();
  if (host === null || lookAtEngine() === null) return freed;
  const caller = query(
    `select r.oid::bigint::float8 as oid, pg_catalog.pg_has_role(r.oid, 'hartonomous_admin', 'usage') as is_admin
     from pg_catalog.pg_roles r where r.rolname = hartonomous._caller()`,
  )[0];
  if (caller === undefined) return freed;
  const request = { unload: name, forAll: caller.is_admin === true };
  const heard = unlessFull(() => converse(host, Number(caller.oid), request));
  return freed + (heard !== null && 'unloaded' in heard ? heard.unloaded : 0);
}
