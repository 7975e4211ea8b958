/**
 * Bring a database to this program's version: roles and tables by migrations, LANGUAGE plv8, and then every function in
 * one transaction, so that a failure leaves the old functions working and a second run completes.
 */
import pg from 'pg';
import { migrate } from 'postgres-migrations';
import { CommandError } from '../errors.ts';
import { bundleFor, labelsFit, readBundle, standsInParallelPlans, storedSetting } from './bundle.ts';
import type { Difference } from './compare.ts';
import { BOOK, compare, compareBook, notMended, repair } from './compare.ts';
import { refuseForeignSchema } from './foreign-schema.ts';
import { forMigrate, inTurn } from './install-turn.ts';
import { completeExtension, languageHost, OWN_HOST } from './language.ts';
import { libraryError } from './library-error.ts';
import { MIGRATIONS, refuseOtherSchemas } from './schema-version.ts';

const INSUFFICIENT_PRIVILEGE = '42501';
const LOCK_NOT_AVAILABLE = '55P03';
/** Seconds that an install waits for who uses what it replaces: whoever comes after it waits that long, too. */
const LOCK_SECONDS = 5;

export interface InstallResult {
  buildId: string;
  /** Migrations that this run applied. */
  migrations: string[];
  /** Whether the functions were replaced. */
  functionsReplaced: boolean;
  /** What differed from what this program makes, and was put right. */
  mended: string[];
  /** Extension that provides LANGUAGE plv8. */
  languageHost: string;
}

/** The extension that provides LANGUAGE plv8, creating one if the database has none. */
async function ensureLanguage(client: pg.Client): Promise<string> {
  const existing = await languageHost(client);
  if (existing !== null) return existing;
  const available = await client.query<{ name: string }>(
    `select name from pg_available_extensions where name in ('plv8', 'hartonomous_v8') order by name = 'plv8' desc`,
  );
  const extension = available.rows[0]?.name;
  if (extension === undefined) {
    throw new CommandError('this server offers neither extension plv8 nor hartonomous_v8', {
      hint: 'build and install the extension with host/setup.sh, or use a server that has PL/V8',
    });
  }
  try {
    await client.query(`create extension if not exists ${extension}`);
  } catch (cause) {
    const broken = libraryError(cause);
    if (broken !== null) throw new CommandError(broken.message, { hint: broken.hint, cause });
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CommandError(`could not create extension ${extension}: ${reason}`, {
      hint: `let a superuser run, in this database: create extension ${extension}`,
      cause,
    });
  }
  return extension;
}

/**
 * Let the owner's functions use segments, memory that backends share (docs/host.md). Only superusers can; without it every
 * backend loads a copy of its own.
 */
async function allowSegments(client: pg.Client, host: string): Promise<void> {
  if (host !== OWN_HOST) return;
  const { rows } = await client.query<{ superuser: boolean }>(
    'select rolsuper as superuser from pg_roles where rolname = current_user',
  );
  if (rows[0]?.superuser !== true) return;
  const name = 'hartonomous_v8.segment_role';
  await client.query(
    `do $$ begin execute format('alter database %I set ${name} = hartonomous_owner', current_database()); end $$`,
  );
  await client.query(`set ${name} = hartonomous_owner`);
}

/** Let the owner write functions in LANGUAGE plv8, which hartonomous_v8 does not leave to everybody as PL/V8 does. */
async function allowLanguage(client: pg.Client): Promise<void> {
  const allowed = async (): Promise<boolean> => {
    const { rows } = await client.query<{ allowed: boolean }>(
      `select has_language_privilege('hartonomous_owner', 'plv8', 'usage') as allowed`,
    );
    return rows[0]!.allowed;
  };
  if (await allowed()) return;
  const grant = 'grant usage on language plv8 to hartonomous_owner';
  const cause = await client.query(grant).then(
    () => undefined,
    (error: unknown) => error,
  );
  if (await allowed()) return;
  throw new CommandError('role hartonomous_owner may not use LANGUAGE plv8', {
    hint: `let a superuser run, in this database: ${grant}`,
    cause,
  });
}

/**
 * Make sure that the owner's role exists, that the installing role may act as it, and that it owns the schema and the
 * book of migrations. A superuser may act as anybody; a role with CREATEROLE has to be made a member first. Returns
 * whose the schema was; null where it is new.
 */
async function ensureOwner(client: pg.Client): Promise<string | null> {
  // Roles belong to the cluster, so another database's install may do the same at this moment.
  await client.query(
    `do $$
     begin
         if to_regrole('hartonomous_owner') is null then
             create role hartonomous_owner nologin;
         end if;
     exception when duplicate_object or unique_violation or internal_error then
         null;
     end
     $$`,
  );
  await becomeMember(client);
  const { rows } = await client.query<{ owner: string; book: boolean }>(
    `select pg_get_userbyid(nspowner) as owner, to_regclass('hartonomous.migrations') is not null as book
     from pg_namespace where nspname = 'hartonomous'`,
  );
  // An empty one is made anew: what somebody is making in it at this moment does not come with it.
  const anew = rows[0]?.book === false && rows[0].owner !== 'hartonomous_owner';
  await client.query(`${anew ? 'drop schema hartonomous; ' : ''}create schema if not exists hartonomous`);
  await client.query('alter schema hartonomous owner to hartonomous_owner');
  await client.query(BOOK);
  return rows[0]?.owner ?? null;
}

/**
 * Put right what differs from what this program would make, whoever changed it. A second round is for what stood in the way
 * in the first.
 */
async function mend(client: pg.Client, compared: () => Promise<Difference[]>): Promise<string[]> {
  const mended: string[] = [];
  for (let round = 0; ; round++) {
    const found = await compared();
    if (found.length === 0) return mended;
    if (round === 3) throw notMended(found);
    mended.push(...found.map(({ text }) => text).filter((text) => !mended.includes(text)));
    await repair(client, found);
  }
}

/** Make the installing role a member of the owner's; from PostgreSQL 16 on only a role that has it with admin option may. */
async function becomeMember(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ role: string; member: boolean }>(
    `select quote_ident(current_user) as role, pg_has_role(current_user, 'hartonomous_owner', 'usage') as member`,
  );
  const { role, member } = rows[0]!;
  if (member) return;
  const grant = `grant hartonomous_owner to ${role}`;
  try {
    await client.query(grant);
  } catch (cause) {
    if (!(cause instanceof pg.DatabaseError) || cause.code !== INSUFFICIENT_PRIVILEGE) throw cause;
    throw new CommandError(`role ${role} is no member of hartonomous_owner, which another role made`, {
      hint: `let a superuser, or the role that made it, run: ${grant}`,
      cause,
    });
  }
}

/** An install that waited for others in vain, with who they are. */
async function heldUp(client: pg.Client, cause: unknown): Promise<CommandError> {
  const { rows } = await client.query<{ sessions: string }>(
    `select string_agg(distinct format('%s (%s)', a.pid, a.usename), ', ') as sessions
     from pg_locks l join pg_class c on c.oid = l.relation join pg_stat_activity a on a.pid = l.pid
     where c.relnamespace = to_regnamespace('hartonomous') and l.granted and l.pid <> pg_backend_pid()
       and l.database = (select d.oid from pg_database d where d.datname = current_database())`,
  );
  return new CommandError(
    `others have used the schema for more than ${LOCK_SECONDS} seconds: ${rows[0]?.sessions ?? 'gone by now'}`,
    {
      hint: 'install again once these sessions have ended their transactions',
      cause,
    },
  );
}

/** Install or upgrade. The client's role must be a superuser, or one with CREATEROLE that may create schemas here. */
export async function install(client: pg.Client): Promise<InstallResult> {
  const { sql, buildId } = await readBundle();
  const encoding = await client.query<{ server_encoding: string }>('show server_encoding');
  if (encoding.rows[0]?.server_encoding !== 'UTF8') {
    throw new CommandError(`the database has encoding ${encoding.rows[0]?.server_encoding}, hartonomous needs UTF8`, {
      hint: `create one with: createdb -E UTF8 -T template0 NAME`,
    });
  }
  // Nothing that others have made is found before it is known what there is.
  await client.query('set search_path = pg_catalog');
  return inTurn(client, async () => {
    try {
      // Before anything there is read or changed.
      await refuseForeignSchema(client);
      await refuseOtherSchemas(client);
      // The language first: what a role may not do about roles means nothing on a server without it.
      const host = await ensureLanguage(client);
      await completeExtension(client, host);
      const owner = await ensureOwner(client);
      const mended: string[] = [];
      if (owner !== null && owner !== 'hartonomous_owner')
        mended.push(`owner of schema hartonomous is ${owner} and not hartonomous_owner`);
      if (owner !== null) mended.push(...(await mend(client, () => compareBook(client))));
      await refuseOtherSchemas(client); // now that its book can be read
      await allowLanguage(client);
      await allowSegments(client, host);
      const before = await client.query<{ id: number }>('select id from hartonomous.migrations');
      const done = new Set(before.rows.map((row) => row.id));
      const completed = await migrate({ client: forMigrate(client) }, MIGRATIONS);
      const outdated = !(await isCurrent(client, buildId, host));
      if (outdated && owner !== null) mended.push(...(await disarm(client, host)));
      if (outdated) await replaceFunctions(client, sql, buildId, host);
      if (owner !== null) mended.push(...(await mend(client, () => compare(client, host))));
      return {
        buildId,
        migrations: completed.filter((migration) => !done.has(migration.id)).map((migration) => migration.name),
        functionsReplaced: outdated,
        mended,
        languageHost: host,
      };
    } finally {
      await client.query('reset search_path');
    }
  });
}

/** Whether the functions are those of this build, for this language. */
async function isCurrent(client: pg.Client, buildId: string, host: string): Promise<boolean> {
  return (await storedSetting(client, 'build_id')) === buildId && (await labelsFit(client, host));
}

/** What comes with the functions, and is replaced with them. */
const REPLACED = /^(grant of|(owner of |options of )?(function|view)) /;

/**
 * Put right what others have changed and would run, or stand in the way, while the functions are replaced: triggers, rules,
 * casts, operators and the like.
 */
async function disarm(client: pg.Client, host: string): Promise<string[]> {
  const all = await compare(client, host);
  const found = all.filter(({ line, text }) => !REPLACED.test(line.name) && !text.endsWith(' is missing'));
  await repair(client, found);
  return found.map(({ text }) => text);
}

async function replaceFunctions(client: pg.Client, sql: string, buildId: string, host: string): Promise<void> {
  await client.query('begin');
  try {
    await client.query(`set local lock_timeout = '${LOCK_SECONDS}s'`);
    // Nothing of the database's or the role's runs in the owner's isolate, either.
    await client.query(`set local plv8.start_proc = ''`);
    await client.query('set local role hartonomous_owner');
    await client.query(await bundleFor(client, sql, host));
    await client.query(
      `insert into hartonomous.settings (name, value, comment) values
         ('build_id', to_jsonb($1::text), 'build of the installed functions'),
         ('parallel_plans', to_jsonb($2::boolean), 'whether they were installed with the labels of a language that can stand in parallel plans')
       on conflict (name) do update set value = excluded.value`,
      [buildId, await standsInParallelPlans(client, host)],
    );
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    if (error instanceof pg.DatabaseError && error.code === LOCK_NOT_AVAILABLE) throw await heldUp(client, error);
    throw error;
  }
}
