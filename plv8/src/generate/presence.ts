/**
 * Tells other sessions which models this backend holds: for each one a shared advisory lock, which anybody can read in
 * pg_locks, on a standby too, and which ends with the backend. The view loaded_everywhere puts names to the locks.
 */
import { query } from '../db.ts';

/** First key of the locks, "HART" in ASCII; the second is the model's id. plv8/sql/presence.sql looks for the same. */
const LOCK_CLASS = 0x48415254;

/** `discard all` releases session locks behind our back, so they are compared with what is loaded once in a while. */
const CHECK_INTERVAL_MS = 1000;

let shown: string | null = null;
let checkedAt = 0;

/** Make the locks of this backend those of these models. Cheap when nothing changed since the last second. */
export function showPresence(modelIds: ReadonlySet<number>): void {
  const wanted = [...modelIds].sort((a, b) => a - b).join();
  const now = Date.now();
  if (wanted === shown && (wanted === '' || Math.abs(now - checkedAt) < CHECK_INTERVAL_MS)) return;
  query(
    `with held as materialized (
       select l.objid::integer as id from pg_catalog.pg_locks l
       where l.pid = pg_backend_pid() and l.locktype = 'advisory' and l.classid = $1::integer::oid and l.objsubid = 2
     ), wanted as (select w.id from unnest($2::integer[]) as w (id))
     select pg_try_advisory_lock_shared($1::integer, w.id) from wanted w where w.id not in (select h.id from held h)
     union all
     select pg_advisory_unlock_shared($1::integer, h.id) from held h where h.id not in (select w.id from wanted w)`,
    [LOCK_CLASS, [...modelIds]],
  );
  shown = wanted;
  checkedAt = now;
}
