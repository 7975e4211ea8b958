import { Option, type Command } from 'commander';
import type pg from 'pg';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { withClient } from '../cluster/connect.ts';
import { interruptible } from '../cluster/interrupt.ts';
import { printJson, printTable } from '../output.ts';
import { globalsOf } from './globals.ts';

/** Run one statement in a transaction that may write or may not. */
export async function queryOnce(
  client: pg.Client,
  connection: ConnectionOptions,
  sql: string,
  write: boolean,
): Promise<pg.QueryResult<Record<string, unknown>>> {
  await client.query(write ? 'begin' : 'begin read only');
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
      const result = await withClient(globals, (client) => queryOnce(client, globals, sql, options.write === true));
      if (globals.format === 'json') printJson(result.rows);
      else if (result.fields.length > 0)
        printTable(
          result.fields.map((field) => field.name),
          result.rows,
        );
      else process.stdout.write(`${result.command} ${result.rowCount ?? 0}\n`);
    });
}
