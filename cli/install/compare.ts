/**
 * What is in the schema beside what this program would put there. Nothing is taken from the database's word: the migrations
 * and the functions are made once more, in a transaction that is taken back, while the schema that is there has another name.
 */
import { randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { CommandError } from '../errors.ts';
import { packageRoot } from '../package-root.ts';
import { bundleFor, readBundle } from './bundle.ts';
import type { Line } from './catalogue.ts';
import { catalogue } from './catalogue.ts';
import { PROXY_FUNCTIONS } from './proxy.ts';

export interface Difference {
  /** What differs and how, for a person. */
  text: string;
  line: Line;
  /** Whether the line should be there; else it is one too many. */
  wanted: boolean;
}

/** The table in which postgres-migrations keeps its book. It looks for an unqualified name, so it is made before. */
export const BOOK = `
create table if not exists hartonomous.migrations (
    id integer primary key, name varchar(100) unique not null, hash varchar(40) not null,
    executed_at timestamp default current_timestamp);
alter table hartonomous.migrations owner to hartonomous_owner;
comment on table hartonomous.migrations is 'migrations applied to this schema'`;

/** Whether the client's role may make the schema anew to compare with; null, or the reason why not. */
export async function cannotCompare(client: pg.Client): Promise<string | null> {
  const { rows } = await client.query<{ standby: boolean; owner: boolean; create: boolean; role: string }>(
    `select pg_catalog.pg_is_in_recovery() as standby, current_user::text as role,
       pg_catalog.pg_has_role(n.nspowner, 'usage') as owner,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create') as create
     from pg_catalog.pg_namespace n where n.nspname operator(pg_catalog.=) 'hartonomous'`,
  );
  const { standby, owner, create, role } = rows[0]!;
  if (standby) return 'this server is a standby';
  if (!owner) return `role ${role} is not a member of hartonomous_owner`;
  return create ? null : `role ${role} may not create a schema in this database`;
}

/** Make all that stands in the schema as this program would, in the transaction at hand. */
async function makeEverything(client: pg.Client, host: string): Promise<void> {
  const folder = join(packageRoot(), 'migrations');
  for (const name of (await readdir(folder)).filter((file) => file.endsWith('.sql')).sort())
    await client.query(await readFile(join(folder, name), 'utf8'));
  await client.query(
    `set local plv8.start_proc = ''; set local check_function_bodies = off; set local role hartonomous_owner`,
  );
  await client.query(await bundleFor(client, (await readBundle()).sql, host));
  await client.query('reset role');
}

/** The functions in PL/Proxy's language, which only a superuser can make, and which are there on demand. */
const PROXY = /^(.* )?function hartonomous\._cluster_(ping|share)\(/;

/** Compare what is there with what should be. The client may be in no transaction. */
export async function compare(client: pg.Client, host: string): Promise<Difference[]> {
  await client.query('begin');
  try {
    const found = await catalogue(client);
    await besideFound(client);
    await makeEverything(client, host);
    const proxied = [...found.keys()].some((name) => PROXY.test(name));
    const { rows } = await client.query<{ superuser: boolean }>(
      'select rolsuper as superuser from pg_catalog.pg_roles where rolname = current_user',
    );
    const mayMake = rows[0]?.superuser === true;
    if (proxied && mayMake) await client.query(PROXY_FUNCTIONS);
    if (proxied && !mayMake) for (const name of found.keys()) if (PROXY.test(name)) found.delete(name);
    return differences(found, await catalogue(client));
  } finally {
    await client.query('rollback');
  }
}

const BOOKS_NAME = /\bhartonomous\.migrations\b/;

/** The same for the book of migrations alone, which is read and written before everything else is known. */
export async function compareBook(client: pg.Client): Promise<Difference[]> {
  await client.query('begin');
  try {
    const found = await catalogue(client);
    await besideFound(client);
    const all = differences(found, await catalogue(client));
    // Grants are the functions' business; they say nothing of what runs when the book is read or written.
    const isOfBook = ({ name, value }: Line): boolean =>
      !name.startsWith('grant ') && BOOKS_NAME.test(name.startsWith('index ') ? value : name);
    return all.filter(({ line }) => isOfBook(line));
  } finally {
    await client.query('rollback');
  }
}

/** Another schema under our name, with the book. */
async function besideFound(client: pg.Client): Promise<void> {
  await client.query(`alter schema hartonomous rename to found_${randomBytes(8).toString('hex')}`);
  await client.query('create schema hartonomous');
  await client.query('alter schema hartonomous owner to hartonomous_owner');
  await client.query(BOOK);
}

function differences(found: Map<string, Line>, wanted: Map<string, Line>): Difference[] {
  const all: Difference[] = [];
  for (const line of wanted.values()) {
    const there = found.get(line.name);
    if (there === undefined) all.push({ text: `${line.name} is missing`, line, wanted: true });
    else if (there.value !== line.value) {
      const text = line.owner ? `${line.name} is ${there.value} and not ${line.value}` : `${line.name} differs`;
      all.push({ text, line: { ...line, remove: there.remove }, wanted: true });
    }
  }
  const more = [...found.values()].filter(({ name }) => !wanted.has(name));
  // A table that is not ours goes as a whole, with all that belongs to it.
  const tables = more.map(({ name }) => /^table (.*)$/.exec(name)?.[1]).filter((name) => name !== undefined);
  for (const line of more) {
    const table = tables.find((name) => line.name.includes(` ${name}`));
    if (table === undefined || line.name === `table ${table}`)
      all.push({ text: `${line.name} is not of hartonomous`, line, wanted: false });
  }
  return all;
}

/** Put differences right, as far as statements can; the caller compares again. In one transaction. */
export async function repair(client: pg.Client, found: Difference[]): Promise<void> {
  await client.query('begin');
  try {
    await client.query(`set local search_path = pg_catalog; set local plv8.start_proc = ''`);
    // Owners first: only an owner changes the rest, and nothing runs as the caller's role that somebody else has made.
    await attempt(
      client,
      found.filter(({ line }) => line.owner),
    );
    const rest = found.filter(({ line }) => !line.owner);
    await client.query('set local role hartonomous_owner');
    const left = await attempt(client, rest);
    await client.query('reset role');
    // What others own and has come in; to remove it runs nothing of theirs.
    await attempt(
      client,
      left.filter(({ wanted }) => !wanted),
    );
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

/** How many objects there are outside of the schema: what others have built upon ours is never dropped with it. */
const OUTSIDE = `select (select count(*) from pg_catalog.pg_class where relnamespace <> 'hartonomous'::regnamespace)
  + (select count(*) from pg_catalog.pg_proc where pronamespace <> 'hartonomous'::regnamespace) as n`;

/** Returns those that the current role could not put right. */
async function attempt(client: pg.Client, found: Difference[]): Promise<Difference[]> {
  const left: Difference[] = [];
  const outside = async (): Promise<unknown> => (await client.query<{ n: string }>(OUTSIDE)).rows[0]?.n;
  for (const difference of [...found.filter((one) => !one.wanted), ...found.filter((one) => one.wanted)]) {
    const { line, wanted } = difference;
    let done = false;
    const cascade = line.remove !== null && line.remove.startsWith('drop') ? `${line.remove} cascade` : null;
    const ways = wanted ? [[line.make], [line.remove, line.make], [cascade, line.make]] : [[line.remove], [cascade]];
    for (const way of ways) {
      if (way.includes(null)) continue;
      const before = await outside();
      await client.query('savepoint attempt');
      try {
        for (const statement of way) await client.query(statement!);
        done = !way.includes(cascade) || (await outside()) === before;
      } catch {
        // What stays is named by the next comparison.
      }
      if (done) break;
      await client.query('rollback to savepoint attempt');
    }
    if (!done) left.push(difference);
  }
  return left;
}

/** The error for what could not be put right; names five. */
export function notMended(rest: Difference[]): CommandError {
  const shown = rest.slice(0, 5).map(({ text }) => text);
  if (rest.length > 5) shown.push(`${rest.length - 5} more`);
  return new CommandError(`could not put right: ${shown.join('; ')}`, {
    hint: 'let a superuser run install, or move what is not of hartonomous out of the schema',
  });
}
