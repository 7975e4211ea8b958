import type { Command } from 'commander';
import { withClient } from '../cluster/connect.ts';
import { CommandError } from '../errors.ts';
import { formatBytes, printJson, printTable } from '../output.ts';
import { globalsOf } from './globals.ts';

interface ModelRow {
  name: string;
  architecture: string;
  parameter_count: string;
  layer_count: number | null;
  context_length: number | null;
  embedding_length: number | null;
  vocabulary_size: number;
  storage_types: string;
  source: string;
  digest: string;
  source_bytes: string;
  ingested_at: Date;
  is_default: boolean;
}

/** `list`, `show` and `ps`: what is there, with ollama's columns. */
export function registerModels(program: Command): void {
  program
    .command('list')
    .alias('ls')
    .description('list the models in the database')
    .action(async (_options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const { rows } = await withClient(globals, (client) =>
        client.query<ModelRow>('select * from hartonomous.model_list'),
      );
      if (globals.format === 'json') return printJson(rows);
      printTable(
        ['name', 'id', 'size', 'modified'],
        rows.map((row) => ({
          name: row.is_default ? `${row.name} (default)` : row.name,
          id: row.digest.slice(0, 12),
          size: formatBytes(Number(row.source_bytes)),
          modified: row.ingested_at.toISOString().slice(0, 19).replace('T', ' '),
        })),
      );
    });
  program
    .command('show <model>')
    .description('show what is known of a model')
    .action(async (model: string, _options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const { rows } = await withClient(globals, (client) =>
        client.query<ModelRow>('select * from hartonomous.model_list where name = $1', [model]),
      );
      const row = rows[0];
      if (row === undefined) throw new CommandError(`model ${model} does not exist`, { hint: 'run: hartonomous list' });
      if (globals.format === 'json') return printJson(row);
      for (const [key, value] of Object.entries(row)) {
        const shown = value instanceof Date ? value.toISOString() : String(value ?? '');
        process.stdout.write(`${key.replaceAll('_', ' ').padEnd(18)}${shown}\n`);
      }
    });
  program
    .command('ps')
    .description('list the backends that run something of Hartonomous now')
    .action(async (_options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const { rows } = await withClient(globals, (client) =>
        client.query<Record<string, unknown>>(
          `select pid, usename as user, application_name as application, state, date_trunc('second', now() - query_start)::text as since
           from pg_stat_activity
           where datname = current_database() and pid <> pg_backend_pid() and query ilike '%hartonomous.%' order by pid`,
        ),
      );
      if (globals.format === 'json') return printJson(rows);
      printTable(['pid', 'user', 'application', 'state', 'since'], rows);
    });
}
