import { Option, type Command } from 'commander';
import { withClient } from '../cluster/connect.ts';
import { interruptible } from '../cluster/interrupt.ts';
import { printJson, printTable } from '../output.ts';
import { globalsOf } from './globals.ts';

/** `query`: one SQL statement, in a read-only transaction unless asked otherwise. */
export function registerQuery(program: Command): void {
  program
    .command('query <sql>')
    .description('run one SQL statement, read-only by default')
    .addOption(new Option('--write', 'let the statement change the database'))
    .action(async (sql: string, options: { write?: boolean }, command: Command) => {
      const globals = globalsOf(command);
      const result = await withClient(globals, async (client) => {
        await client.query(options.write === true ? 'begin' : 'begin read only');
        // With the extended protocol there is one statement and no way out of this transaction.
        const answer = await interruptible(client, globals, () =>
          client.query<Record<string, unknown>>({ text: sql, values: [], queryMode: 'extended' } as { text: string }),
        );
        await client.query('commit');
        return answer;
      });
      if (globals.format === 'json') printJson(result.rows);
      else if (result.fields.length > 0)
        printTable(
          result.fields.map((field) => field.name),
          result.rows,
        );
      else process.stdout.write(`${result.command} ${result.rowCount ?? 0}\n`);
    });
}
