/**
 * Whether what stands under our name is what an install made. A role that may create schemas can make one before us, with views
 * and functions that would run with the rights of whoever reads or calls them: this is known before either is done.
 */
import { text as readAll } from 'node:stream/consumers';
import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { CommandError, EXIT } from '../errors.ts';

/** Objects that an error names. */
const NAMED = 5;

/** Whether the role with this oid may have made what is ours; the names of all functions stand, since any search path may be set. */
const trusted = (
  oid: string,
): string => `exists (select from pg_catalog.pg_roles r where r.oid operator(pg_catalog.=) ${oid}
  and (r.rolsuper or r.rolname operator(pg_catalog.=) 'hartonomous_owner' or r.rolname operator(pg_catalog.=) current_user))`;

/** The schema, what is in it (the rights of what is yet to be made go with it), and its tables that are read before all else. */
const FOUND = `
select pg_catalog.pg_get_userbyid(n.nspowner)::pg_catalog.text as owner, ${trusted('n.nspowner')} as trusted,
  array(select pg_catalog.pg_describe_object(d.classid, d.objid, 0) from pg_catalog.pg_depend d
    where d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid operator(pg_catalog.=) n.oid
      and d.classid operator(pg_catalog.<>) 'pg_catalog.pg_default_acl'::pg_catalog.regclass order by d.classid, d.objid) as holds,
  (select pg_catalog.json_agg(pg_catalog.json_build_object('name', c.relname, 'ordinary', c.relkind operator(pg_catalog.=) 'r',
      'owner', pg_catalog.pg_get_userbyid(c.relowner), 'trusted', ${trusted('c.relowner')}) order by c.relname)
    from pg_catalog.pg_class c where c.relnamespace operator(pg_catalog.=) n.oid
      and (c.relname operator(pg_catalog.=) 'migrations' or c.relname operator(pg_catalog.=) 'settings')) as tables
from pg_catalog.pg_namespace n where n.nspname operator(pg_catalog.=) 'hartonomous'`;

interface Found {
  owner: string;
  trusted: boolean;
  holds: string[];
  tables: { name: string; ordinary: boolean; owner: string; trusted: boolean }[] | null;
}

/**
 * Refuse a schema that no install made: one that holds anything without the book of migrations, or whose book or settings
 * are no ordinary tables of hartonomous_owner, a superuser or the caller. One that is empty may be anybody's.
 */
export async function refuseForeignSchema(client: pg.ClientBase): Promise<void> {
  refuseForeign(await find(client));
}

function refuseForeign(found: Found | undefined): void {
  if (found === undefined || found.holds.length === 0) return;
  const tables = found.tables ?? [];
  for (const { name, ordinary, owner, trusted: ours } of tables) {
    if (!ordinary) throw foreign(`hartonomous.${name} is no table`, 'drop it, or restore the database from a backup');
    if (!ours) {
      throw foreign(
        `table hartonomous.${name} is owned by ${owner} and not hartonomous_owner`,
        `if ${owner} restored it from a dump of yours: alter table hartonomous.${name} owner to hartonomous_owner`,
      );
    }
  }
  if (tables.some(({ name }) => name === 'migrations')) return;
  const named = found.holds.slice(0, NAMED);
  if (found.holds.length > NAMED) named.push(`${found.holds.length - NAMED} more`);
  throw foreign(
    `schema hartonomous is no install's and holds ${named.join(', ')}`,
    'drop that, or the schema; then: hartonomous install',
  );
}

/** The same for a program that goes on to call what is there: the schema too is hartonomous_owner's, a superuser's or the caller's. */
export async function requireOwnSchema(client: pg.ClientBase): Promise<void> {
  const found = await find(client);
  refuseForeign(found);
  if (found === undefined || found.trusted) return;
  throw foreign(`schema hartonomous is owned by ${found.owner} and not hartonomous_owner`, 'run: hartonomous install');
}

async function find(client: pg.ClientBase): Promise<Found | undefined> {
  return (await client.query<Found>(FOUND)).rows[0];
}

function foreign(message: string, hint: string): CommandError {
  return new CommandError(message, { hint, exitCode: EXIT.schemaMismatch });
}

/**
 * Columns of a table as texts. COPY takes an ordinary table and nothing else, and plans nothing: no view, rule or expression of an
 * index is evaluated, whatever somebody has put in the table's place by now.
 */
export async function copyRows(client: pg.ClientBase, table: string, columns: string[]): Promise<string[][]> {
  const copied = await readAll(client.query(copyTo(`copy ${table} (${columns.join(', ')}) to stdout`)));
  const lines = copied.split('\n').slice(0, -1);
  return lines.map((line) =>
    line.split('\t').map((field) => field.replaceAll(/\\(.)/g, (_all, letter: string) => ESCAPED[letter] ?? letter)),
  );
}

/** What COPY writes with a backslash and a letter. */
const ESCAPED: Record<string, string> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };
