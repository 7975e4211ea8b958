/**
 * Tells other sessions which models this backend holds and how many errors its calls had: shared advisory locks, one for
 * each model and one whose key is the count, which anybody can read in pg_locks, on a standby too, and which end with the
 * backend. The views loaded_everywhere and call_errors_everywhere put names to them.
 */
import { query } from '../db.ts';

/** First keys of the locks, "HART" and "HERR" in ASCII; the second is the model's id, or the number of errors. plv8/sql/presence.sql looks for the same. */
const MODEL_CLASS = 0x48415254;
const ERROR_CLASS = 0x48455252;
/** The largest second key. */
const MAX_KEY = 2 ** 31 - 1;

/** `discard all` releases session locks behind our back, so they are compared with what is loaded once in a while. */
const CHECK_INTERVAL_MS = 1000;

let shown: string | null = null;
let checkedAt = 0;
let checks = 0;
let models: ReadonlySet<number> = new Set();
let errors = 0;

/** How often the locks were looked at: a call that has done so may run statements. */
export function presenceChecks(): number {
  return checks;
}

/**
 * Make the locks of this backend those of these models (by id) and of so many errors; what is not given is as it was. Cheap
 * when nothing changed since the last second.
 */
export function showPresence(now: { models?: ReadonlySet<number>; errors?: number }): void {
  ({ models = models, errors = errors } = now);
  checks++;
  const keys = [...models].sort((a, b) => a - b).map((id): [number, number] => [MODEL_CLASS, id]);
  if (errors > 0) keys.push([ERROR_CLASS, Math.min(errors, MAX_KEY)]);
  const wanted = keys.join();
  const time = Date.now();
  if (wanted === shown && (wanted === '' || Math.abs(time - checkedAt) < CHECK_INTERVAL_MS)) return;
  query(
    `with held as materialized (
       select l.classid::integer as class, l.objid::integer as id from pg_catalog.pg_locks l
       where l.pid = pg_backend_pid() and l.locktype = 'advisory' and l.objsubid = 2
         and l.classid in ($1::integer::oid, $2::integer::oid)
     ), wanted as (select w.class, w.id from unnest($3::integer[], $4::integer[]) as w (class, id))
     select pg_try_advisory_lock_shared(w.class, w.id) from wanted w where (w.class, w.id) not in (select h.class, h.id from held h)
     union all
     select pg_advisory_unlock_shared(h.class, h.id) from held h where (h.class, h.id) not in (select w.class, w.id from wanted w)`,
    [MODEL_CLASS, ERROR_CLASS, keys.map(([lockClass]) => lockClass), keys.map(([, id]) => id)],
  );
  shown = wanted;
  checkedAt = time;
}
