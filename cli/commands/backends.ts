import type { Command } from 'commander';
import { withClient } from '../cluster/connect.ts';
import { formatBytes, print, printJson, printTable } from '../output.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';

interface LoadedRow {
  model: string;
  digest: string;
  source_bytes: string;
  context_length: number | null;
  pid: number;
  user: string | null;
  application_name: string | null;
  state: string | null;
}

/** Context of a call that names none; the bundle's generate.ts has the same. */
const DEFAULT_CONTEXT = 4096;

/** `ps` and `stop`: the backends that hold a model in memory. */
export function registerBackends(program: Command): void {
  program
    .command('ps')
    .description('list the models that backends hold in memory')
    .action(async (_options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const { rows } = await withClient(globals, async (client) => {
        await requireInstalled(client);
        return client.query<LoadedRow>(
          `select e.model, m.digest, m.source_bytes, m.context_length, e.pid, e."user", e.application_name, e.state
           from hartonomous.loaded_everywhere e join hartonomous.model_list m on m.name = e.model
           where e.pid <> pg_backend_pid() order by e.model, e.pid`,
        );
      });
      if (globals.format === 'json') return printJson(rows);
      printTable(
        ['name', 'id', 'size', 'processor', 'context', 'until', 'pid', 'user', 'state'],
        rows.map((row) => ({
          name: row.model,
          id: row.digest.slice(0, 12),
          size: formatBytes(Number(row.source_bytes)),
          processor: '100% CPU',
          context: Math.min(DEFAULT_CONTEXT, row.context_length ?? DEFAULT_CONTEXT),
          until: 'Session ends',
          pid: row.pid,
          user: row.user,
          state: row.state,
        })),
      );
    });
  program
    .command('stop <model>')
    .description('let every backend free a model at its next call')
    .action(async (model: string, _options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const backends = await withClient(globals, async (client) => {
        await requireInstalled(client);
        const { rows } = await client.query<{ n: string }>('select hartonomous.stop_model($1) as n', [model]);
        return Number(rows[0]!.n);
      });
      if (globals.format === 'json') printJson({ model, backends });
      else if (backends === 0) print(`no backend holds ${model}\n`);
      else print(`${backends} ${backends === 1 ? 'backend frees' : 'backends free'} ${model} at the next call\n`);
    });
}
