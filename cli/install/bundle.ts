/** The SQL that `npm run build` made, as it is for the LANGUAGE plv8 of a database. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { CommandError } from '../errors.ts';
import { packageRoot } from '../package-root.ts';
import { copyRows } from './foreign-schema.ts';
import { OWN_HOST } from './language.ts';

export interface Bundle {
  sql: string;
  buildId: string;
}

export async function readBundle(): Promise<Bundle> {
  const file = join(packageRoot(), 'dist/hartonomous.sql');
  let sql: string;
  try {
    sql = await readFile(file, 'utf8');
  } catch (cause) {
    throw new CommandError(`${file} is missing`, { hint: 'run: npm run build', cause });
  }
  const buildId = /^-- hartonomous build ([0-9a-f]{16});/.exec(sql)?.[1];
  if (buildId === undefined) throw new CommandError(`${file} names no build id`, { hint: 'run: npm run build' });
  return { sql, buildId };
}

/** Seconds; no end in sight. What a caller may set where a PL/V8 was built with it. */
const PINNED = { name: 'plv8.execution_timeout', value: 65536 };

/** Where a definition ends its line of labels and settings (plv8/build.ts). */
const LABELS = /^language \w+ .*$/gm;

/**
 * The SQL with the labels and settings that functions need in this language. Our own host takes them as
 * they are: it runs statements in a parallel plan, and disregards inside a SECURITY DEFINER function what a caller has set.
 * PL/V8 does neither: a statement of its own is a subtransaction, which a parallel plan allows nobody, its leader neither, and
 * the connection ends. Call it in the transaction that runs the SQL.
 */
export async function bundleFor(client: pg.Client, sql: string, host: string): Promise<string> {
  if (await standsInParallelPlans(client, host)) return sql;
  await client.query('do $$ $$ language plv8'); // loads the library, which makes its settings known
  const { rowCount } = await client.query('select from pg_settings where name = $1', [PINNED.name]);
  const pin = rowCount === 0 ? '' : ` set ${PINNED.name} = ${PINNED.value}`;
  return sql.replace(LABELS, (line) => {
    const unsafe = line.replace(/ parallel (safe|restricted)\b/, ' parallel unsafe');
    return line.startsWith('language plv8 ') && line.includes(' security definer ') ? unsafe + pin : unsafe;
  });
}

/** Whether functions in this language may stand in a parallel plan: in our own host, unless it does as PL/V8 (docs/host.md). */
export async function standsInParallelPlans(client: pg.Client, host: string): Promise<boolean> {
  if (host !== OWN_HOST) return false;
  const { rows } = await client.query<{ portable: string | null }>(
    `select current_setting('hartonomous_v8.portable', true) as portable`,
  );
  return rows[0]!.portable !== 'on';
}

/** Whether the functions were installed for this language: a dump brings the setting, and the labels, of the server it was made on. */
export async function labelsFit(client: pg.Client, host: string): Promise<boolean> {
  return (await storedSetting(client, 'parallel_plans')) === (await standsInParallelPlans(client, host));
}

/** A setting that an install stored; undefined where there is none. */
export async function storedSetting(client: pg.Client, name: string): Promise<unknown> {
  const row = (await copyRows(client, 'hartonomous.settings', ['name', 'value'])).find(([stored]) => stored === name);
  return row === undefined ? undefined : JSON.parse(row[1]!);
}
