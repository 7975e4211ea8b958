/** One install at a time works in a database, and nobody who could not install holds it up. */
import { setTimeout } from 'node:timers/promises';
import type pg from 'pg';

/** First half of the keys of advisory locks that installs hold; the second is drawn, so that nobody can take it before. */
const INSTALLS = 1_215_328_594;
/** Milliseconds until an install that met another looks again, at least and at most. */
const LOOK_AGAIN_MS = [20, 120] as const;

/** Other sessions that install here; what a role without the rights to do that holds does not count. */
const OTHERS = `select 1 from pg_catalog.pg_locks l
  join pg_catalog.pg_stat_activity a on a.pid = l.pid
  join pg_catalog.pg_roles r on r.oid = a.usesysid
  where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid = ${INSTALLS} and l.pid <> pg_backend_pid()
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
    and (r.rolsuper or r.rolcreaterole
      or pg_has_role(r.oid, (select o.oid from pg_catalog.pg_roles o where o.rolname = 'hartonomous_owner'), 'member'))`;

/** Wait until no other session installs, run `body`, and let others go on. */
export async function inTurn<T>(client: pg.Client, body: () => Promise<T>): Promise<T> {
  for (;;) {
    const key = Math.floor(Math.random() * 2 ** 31);
    const { rows } = await client.query<{ got: boolean }>('select pg_try_advisory_lock($1, $2) as got', [
      INSTALLS,
      key,
    ]);
    if (rows[0]!.got) {
      try {
        // Whoever comes at the same moment sees this one too: both step back, and one is the first to come again.
        if ((await client.query(OTHERS)).rows.length === 0) return await body();
      } finally {
        await client.query('select pg_advisory_unlock($1, $2)', [INSTALLS, key]);
      }
    }
    const [least, most] = LOOK_AGAIN_MS;
    await setTimeout(least + Math.random() * (most - least));
  }
}

/** What postgres-migrations writes before the name of its book, which it does not qualify. */
const BEFORE_BOOK = /^(create table if not exists|select \* from|insert into) (?=migrations )/i;

/**
 * The client as postgres-migrations is to have it: without its lock, whose key everybody knows (inTurn has done what that is
 * for), and with its book found by name, so that nothing in the schema is found instead of what the migrations mean.
 */
export function forMigrate(client: pg.Client): pg.Client {
  const query = (statement: string | { text: string; values?: unknown[] }): unknown => {
    const { text, values } = typeof statement === 'string' ? { text: statement, values: undefined } : statement;
    if (/^select pg_(try_advisory_lock|advisory_unlock)\(/i.test(text))
      return Promise.resolve({ rows: [{ pg_try_advisory_lock: true }] });
    return client.query(text.replace(BEFORE_BOOK, '$1 hartonomous.'), values);
  };
  return new Proxy(client, {
    get(target, name) {
      if (name === 'query') return query;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === 'function' ? (member.bind(target) as unknown) : member;
    },
  });
}
