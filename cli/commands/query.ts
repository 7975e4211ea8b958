import { Option, type Command } from 'commander';
import type pg from 'pg';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { withClient } from '../cluster/connect.ts';
import { interruptible } from '../cluster/interrupt.ts';
import { print, printJson, printTable, tell } from '../output.ts';
import { globalsOf } from './globals.ts';

/**
 * Where the login is a superuser, go on in this transaction as a role that may only read, and say so. What a superuser runs can
 * come back from it: it is for mistakes, a login with fewer rights is for others.
 */
async function readAsUser(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ role: string; superuser: boolean; there: boolean }>(
    `select current_user::text as role, rolsuper as superuser, pg_catalog.to_regrole('hartonomous_user') is not null as there
     from pg_catalog.pg_roles where rolname operator(pg_catalog.=) current_user`,
  );
  const { role, superuser, there } = rows[0]!;
  if (!superuser) return;
  const reader = there ? 'hartonomous_user' : 'pg_read_all_data';
  await client.query(`set local role ${reader}`);
  tell(`hartonomous: ${role} is a superuser; this runs as ${reader} (--write: as ${role})\n`);
}

/** Run one statement in a transaction that may write or may not. */
export async function queryOnce(
  client: pg.Client,
  connection: ConnectionOptions,
  sql: string,
  write: boolean,
): Promise<pg.QueryResult<Record<string, unknown>>> {
  await client.query(write ? 'begin' : 'begin read only');
  if (!write) await readAsUser(client);
  // With the extended protocol there is one statement and no way out of this transaction.
  const answer = await interruptible(client, connection, () =>
    client.query<Record<string, unknown>>({ text: sql, values: [], queryMode: 'extended' } as { text: string }),
  );
  await client.query('commit');
  return answer;
}

/** `query`: one SQL statement, in a read-only transaction unless asked otherwise. */
export function registerQuery(program: Command): void {
  program
    .command('query <sql>')
    .description('run one SQL statement, read-only by default')
    .addOption(new Option('--write', 'let the statement change the database'))
    .action(async (sql: string, options: { write?: boolean }, command: Command) => {
      const globals = globalsOf(command);
      const write = options.write === true;
      const connection = write ? globals : { ...globals, login: 'reader' as const };
      const result = await withClient(connection, (client) => queryOnce(client, connection, sql, write));
      if (globals.format === 'json') printJson(result.rows);
      else if (result.fields.length > 0)
        printTable(
          result.fields.map((field) => field.name),
          result.rows,
        );
      else print(`${result.command} ${result.rowCount ?? 0}\n`);
    });
}
