import type { Command } from 'commander';
import { withClient } from '../cluster/connect.ts';
import { formatBytes, formatSince, print, printJson, printTable, printText } from '../output.ts';
import { showSection, showText } from '../answer/show-model.ts';
import type { ShownModel } from '../answer/show-model.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';

interface ModelRow {
  name: string;
  digest: string;
  source_bytes: string;
  ingested_at: Date;
  is_default: boolean;
}

interface ShowOptions {
  license?: boolean;
  parameters?: boolean;
  system?: boolean;
  template?: boolean;
}

/** `list`, `show`, `cp` and `default`: the models of the database, with ollama's columns. */
export function registerModels(program: Command): void {
  program
    .command('list')
    .alias('ls')
    .description('list the models in the database')
    .action(async (_options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const { rows } = await withClient(globals, async (client) => {
        await requireInstalled(client);
        return client.query<ModelRow>('select * from hartonomous.model_list');
      });
      if (globals.format === 'json') return printJson(rows);
      printTable(
        ['name', 'id', 'size', 'modified'],
        rows.map((row) => ({
          name: row.is_default ? `${row.name} (default)` : row.name,
          id: row.digest.slice(0, 12),
          size: formatBytes(Number(row.source_bytes)),
          modified: formatSince(row.ingested_at),
        })),
      );
    });
  program
    .command('show <model>')
    .description('show what is known of a model')
    .option('--license', 'its license alone')
    .option('--parameters', 'the options it recommends alone')
    .option('--system', 'its system message alone')
    .option('--template', 'its chat template alone')
    .action(async (name: string, options: ShowOptions, command: Command) => {
      const globals = globalsOf(command);
      const model = await withClient(globals, async (client) => {
        await requireInstalled(client);
        const { rows } = await client.query<{ model: ShownModel }>('select hartonomous.show_model($1) as model', [
          name,
        ]);
        return rows[0]!.model;
      });
      if (globals.format === 'json') return printJson(model);
      const section = (['license', 'parameters', 'system', 'template'] as const).find((key) => options[key] === true);
      if (section === undefined) print(showText(model));
      else printText(showSection(model, section));
    });
  program
    .command('cp <source> <destination>')
    .description('give a model a second name; its content is not stored again')
    .action(async (source: string, destination: string, _options: unknown, command: Command) => {
      const globals = globalsOf(command);
      await withClient(globals, async (client) => {
        await requireInstalled(client);
        await client.query('select hartonomous.copy_model($1, $2)', [source, destination]);
      });
      if (globals.format === 'json') printJson({ source, destination });
      else print(`copied ${source} to ${destination}\n`);
    });
  program
    .command('default [model]')
    .description('show which model is used where none is named, or choose it')
    .option('--clear', 'choose none: the only model is used')
    .action(async (name: string | undefined, options: { clear?: boolean }, command: Command) => {
      const globals = globalsOf(command);
      const chosen = await withClient(globals, async (client) => {
        await requireInstalled(client);
        if (name !== undefined || options.clear === true)
          await client.query('select hartonomous.set_default_model($1)', [options.clear === true ? null : name]);
        const { rows } = await client.query<{ name: string | null }>('select hartonomous.default_model() as name');
        return rows[0]!.name;
      });
      if (globals.format === 'json') printJson({ default: chosen });
      else print(`${chosen ?? 'none'}\n`);
    });
}
