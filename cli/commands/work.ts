import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type pg from 'pg';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { withClient } from '../cluster/connect.ts';
import { interruptible } from '../cluster/interrupt.ts';
import { CommandError } from '../errors.ts';
import { print, printJson } from '../output.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';

const POLL_MS = 1000;

interface SearchState {
  search: string;
  waiting: string | null;
  failed: string | null;
  rows_done: string;
  error: string | null;
}

async function statesOf(client: pg.Client, search: string | undefined): Promise<SearchState[]> {
  const { rows } = await client.query<SearchState>(
    `select search::text, waiting, failed, rows_done, error from hartonomous.search_list
     where $1::regclass is null or search = $1::regclass`,
    [search ?? null],
  );
  if (rows.length > 0) return rows;
  const { rows: who } = await client.query<{ role: string }>('select current_user as role');
  throw new CommandError(`${search ?? 'nothing'} is no search of ${who[0]!.role}`, {
    hint: `connect as the owner of the table; select hartonomous.create_search('TABLE', '{COLUMN}') makes one`,
  });
}

function line({ search, waiting, failed, rows_done: done, error }: SearchState): string {
  const trouble = error === null ? '' : `: ${error}`;
  return `${search}: ${done} changes done in all, ${waiting ?? 0} wait, ${failed ?? 0} given up${trouble}\n`;
}

/** Work off what waits, over a connection of its own, so that nobody holds the database while nothing does. */
function drain(connection: ConnectionOptions, search: string | undefined): Promise<SearchState[]> {
  return withClient(connection, async (client) => {
    await requireInstalled(client);
    await statesOf(client, search);
    await client.query('set statement_timeout = 0');
    await interruptible(client, connection, () =>
      client.query('call hartonomous.work($1::regclass)', [search ?? null]),
    );
    return statesOf(client, search);
  });
}

/** `work`: embed what is queued for the searches of the role that connects. */
export function registerWork(program: Command): void {
  program
    .command('work [search]')
    .description('embed what has changed in the tables of your searches, until nothing waits')
    .option('--follow', 'go on with what comes later, until interrupted')
    .action(async (search: string | undefined, options: { follow?: boolean }, command: Command) => {
      const globals = globalsOf(command);
      let told = '';
      for (;;) {
        const states = await drain(globals, search);
        const text = states.map(line).join('');
        if (globals.format === 'json' && text !== told) printJson(states);
        else if (text !== told) print(text);
        told = text;
        if (options.follow !== true) {
          if (states.some(({ error }) => error !== null)) process.exitCode = 1;
          return;
        }
        await sleep(POLL_MS);
      }
    });
}
