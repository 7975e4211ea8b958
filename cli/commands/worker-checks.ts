/** What `doctor` says of the background worker of searches: whether it runs, and for which owners it may not work. */
import type pg from 'pg';
import { WORKER_LIBRARY } from '../cluster/preload.ts';
import { OWN_HOST } from '../install/language.ts';
import type { Finding } from './operation-checks.ts';

/** The lock that the launcher holds, which anybody can see (host/src/worker/processes.c). */
const LAUNCHER_LOCK = `locktype = 'advisory' and database = 0 and classid = ${0x68617274} and objid = ${0x776f726b}`;

interface Facts {
  runs: boolean;
  available: boolean;
  databases: string;
  database: string;
  /** The database as a list of names has it. */
  quoted: string;
}

const FACTS = `
select exists (select from pg_locks where ${LAUNCHER_LOCK} and granted) as runs,
  exists (select from pg_available_extensions where name = '${WORKER_LIBRARY}') as available,
  coalesce(current_setting('hartonomous_worker.databases', true), 'hartonomous') as databases, current_database() as database,
  quote_ident(current_database()) as quoted`;

/** Whether a list of names, as PostgreSQL reads them, has a database. */
function names(list: string, database: string): boolean {
  const all = list.split(',').map((name) => name.trim());
  const folded = all.map((name) =>
    name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase(),
  );
  return all.includes('*') || folded.includes(database);
}

async function processes(client: pg.Client, host: string): Promise<Finding[]> {
  const check = 'worker';
  const { runs, available, databases, database, quoted } = (await client.query<Facts>(FACTS)).rows[0]!;
  if (host !== OWN_HOST && !runs) return [];
  if (runs && names(databases, database))
    return [{ check, ok: true, found: 'runs, and looks after this database', next: '' }];
  if (runs) {
    const wanted = client.escapeLiteral(databases === '' ? quoted : `${databases}, ${quoted}`);
    const found = `runs, and not for this database: hartonomous_worker.databases is ${databases || 'empty'}`;
    const next = `alter system set hartonomous_worker.databases = ${wanted}; select pg_reload_conf()`;
    return [{ check, ok: true, found, next }];
  }
  const start = `shared_preload_libraries = '${WORKER_LIBRARY}', or: create extension ${WORKER_LIBRARY}; select hartonomous_worker_start()`;
  return [
    available
      ? { check, ok: true, found: 'does not run: somebody has to call work()', next: start }
      : { check, ok: true, found: 'not installed: somebody has to call work()', next: 'host/setup.sh on the server' },
  ];
}

/** Roles whose searches no worker works for; who may not read all searches sees none. */
async function owners(client: pg.Client): Promise<Finding[]> {
  const { rows: may } = await client.query<{ may: boolean }>(
    `select has_table_privilege('hartonomous.searches', 'select') as may`,
  );
  if (may[0]?.may !== true) return [];
  const { rows } = await client.query<{ role: string; reason: string; searches: number }>(
    `select quote_ident(r.rolname) as role, count(*)::integer as searches,
       case when r.rolsuper then 'superuser' when not r.rolcanlogin then 'login' else 'connect' end as reason
     from hartonomous.searches s join pg_roles r on r.oid = s.owner
     where r.rolsuper or not r.rolcanlogin or not has_database_privilege(r.oid, current_database(), 'connect')
     group by r.rolname, r.rolsuper, r.rolcanlogin order by 1`,
  );
  return rows.map(({ role, reason, searches }) => {
    const check = 'search owner';
    const them = `${searches} search${searches === 1 ? '' : 'es'}`;
    if (reason === 'superuser') {
      const found = `${role} is a superuser, for whom no worker works: ${them}`;
      return { check, ok: true, found, next: `call hartonomous.work() as ${role}` };
    }
    const [may, mend] =
      reason === 'login'
        ? ['log in', `alter role ${role} login`]
        : ['connect', `grant connect on database ${client.database ?? ''} to ${role}`];
    return { check, ok: false, found: `${role} may not ${may}, so nobody works for its ${them}`, next: mend };
  });
}

export async function workerChecks(client: pg.Client, host: string): Promise<Finding[]> {
  return [...(await processes(client, host)), ...(await owners(client))];
}
