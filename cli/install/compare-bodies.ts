/** For a role that may not make the schema anew: the bodies of functions and the owners of everything, from the catalogue alone. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { packageRoot } from '../package-root.ts';
import { readBundle } from './bundle.ts';
import { PROXY_FUNCTIONS } from './proxy.ts';

/** A definition up to the end of its body: name, quote, body. */
const DEFINITION =
  /^create (?:or replace )?(?:function|procedure) hartonomous\.(\w+)\([^$]*?^as (\$\w*\$|')([^]*?)\2;?$/gm;

async function knownBodies(): Promise<Map<string, Set<string>>> {
  const folder = join(packageRoot(), 'migrations');
  const files = (await readdir(folder)).filter((file) => file.endsWith('.sql'));
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')));
  const known = new Map<string, Set<string>>();
  for (const text of [...texts, (await readBundle()).sql, PROXY_FUNCTIONS])
    for (const [, name, , body] of text.matchAll(DEFINITION))
      known.set(name!, (known.get(name!) ?? new Set()).add(body!));
  return known;
}

const FOUND = `
select p.oid::pg_catalog.regprocedure::pg_catalog.text as name, p.proname as word, p.prosrc as body,
  pg_catalog.pg_get_userbyid(p.proowner) as owner
from pg_catalog.pg_proc p where p.pronamespace = 'hartonomous'::pg_catalog.regnamespace`;

/** Relations of other owners, and views that are built upon functions from elsewhere. */
const STRANGE = `
select c.oid::pg_catalog.regclass || ' is owned by ' || pg_catalog.pg_get_userbyid(c.relowner) as text
from pg_catalog.pg_class c
where c.relnamespace = 'hartonomous'::pg_catalog.regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and pg_catalog.pg_get_userbyid(c.relowner) <> 'hartonomous_owner'
union all
select c.oid::pg_catalog.regclass || ' calls ' || p.oid::pg_catalog.regprocedure
from pg_catalog.pg_depend d join pg_catalog.pg_rewrite w on w.oid = d.objid join pg_catalog.pg_class c on c.oid = w.ev_class
join pg_catalog.pg_proc p on p.oid = d.refobjid
where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass and d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  and c.relnamespace = 'hartonomous'::pg_catalog.regnamespace
  and p.pronamespace not in ('hartonomous'::pg_catalog.regnamespace, 'pg_catalog'::pg_catalog.regnamespace)`;

/** What differs, one text each. */
export async function compareBodies(client: pg.Client): Promise<string[]> {
  const known = await knownBodies();
  const found = await client.query<{ name: string; word: string; body: string; owner: string }>(FOUND);
  const all = (await client.query<{ text: string }>(STRANGE)).rows.map(({ text }) => text);
  for (const { name, word, body, owner } of found.rows) {
    if (!known.has(word)) all.push(`function ${name} is not of hartonomous`);
    else if (!known.get(word)!.has(body)) all.push(`function ${name} differs`);
    if (owner !== 'hartonomous_owner') all.push(`owner of function ${name} is ${owner} and not hartonomous_owner`);
  }
  const there = new Set(found.rows.map(({ word }) => word));
  for (const word of known.keys())
    if (!there.has(word) && !word.startsWith('_cluster_')) all.push(`function hartonomous.${word} is missing`);
  return all;
}
