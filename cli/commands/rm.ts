import type { Command } from 'commander';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { withClient } from '../cluster/connect.ts';
import { CommandError } from '../errors.ts';
import { print, printJson } from '../output.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';

/** SQLSTATE of a model that does not exist. */
const UNDEFINED_OBJECT = '42704';

export function registerRm(program: Command): void {
  program
    .command('rm')
    .description('remove models, and the atoms that no other model uses')
    .argument('<model...>', 'names of models')
    .action(async (models: string[], _options: unknown, command: Command) => {
      const options = globalsOf(command);
      await withClient(options, async (client) => {
        await requireInstalled(client);
        const removed: { model: string; atoms: number }[] = [];
        for (const model of models) {
          try {
            const { rows } = await client.query<{ atoms: string }>('select hartonomous.remove_model($1) as atoms', [
              model,
            ]);
            removed.push({ model, atoms: Number(rows[0]?.atoms) });
          } catch (cause) {
            if ((cause as { code?: string }).code !== UNDEFINED_OBJECT) throw cause;
            throw new CommandError(`model ${brief(model)} does not exist`, { hint: 'see: hartonomous list', cause });
          }
          if (options.format !== 'json') {
            print(`removed ${model} and ${removed.at(-1)?.atoms} atoms that no other model uses\n`);
          }
        }
        if (options.format === 'json') printJson(removed);
      });
    });
}
