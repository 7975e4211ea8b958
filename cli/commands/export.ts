import type { Command } from 'commander';
import { trustNoPath, withClient } from '../cluster/connect.ts';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { cancelOnInterrupt, EXIT_INTERRUPTED } from '../cluster/interrupt.ts';
import { CommandError } from '../errors.ts';
import { exportModel } from '../ingest/export.ts';
import { formatBytes, print, printJson } from '../output.ts';
import type { Format } from '../output.ts';
import { requireInstalled } from './installed.ts';
import { ProgressReport } from './progress.ts';

type ExportCommandOptions = ConnectionOptions & { format?: Format; force?: boolean };

export function registerExport(program: Command): void {
  program
    .command('export')
    .description('write a model back as the file it came from, byte for byte')
    .argument('<model>', 'name of a model')
    .argument('<path>', 'file to write; a folder for a model of several files')
    .option('--force', 'write over what is there')
    .action(async (model: string, path: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<ExportCommandOptions>();
      const result = await withClient(options, async (client) => {
        await trustNoPath(client);
        await requireInstalled(client);
        const progress = new ProgressReport();
        const interrupt = cancelOnInterrupt(client, options);
        try {
          return await exportModel(client, model, path, {
            force: options.force ?? false,
            signal: interrupt.signal,
            onBytes: (done, total) => progress.show('writing', done, total),
          });
        } catch (cause) {
          if (!interrupt.interrupted()) throw cause;
          throw new CommandError('interrupted; nothing was written', { exitCode: EXIT_INTERRUPTED, cause });
        } finally {
          progress.stop();
          interrupt.stop();
        }
      });
      if (options.format === 'json') return printJson(result);
      const what = result.files.length === 1 ? result.files[0] : `${result.files.length} files below ${path}`;
      print(`wrote ${what}: ${formatBytes(result.bytes)}, SHA-256 ${result.digest.slice(0, 12)} as at its source\n`);
    });
}
