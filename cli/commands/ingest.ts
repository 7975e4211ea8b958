import type { Command } from 'commander';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { trustNoPath, withClient } from '../cluster/connect.ts';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { cancelOnInterrupt, EXIT_INTERRUPTED } from '../cluster/interrupt.ts';
import { CommandError, EXIT } from '../errors.ts';
import { ingestModel } from '../ingest/ingest.ts';
import type { IngestResult, Phase } from '../ingest/ingest.ts';
import { formatBytes, print, printJson, tell } from '../output.ts';
import type { Format } from '../output.ts';
import { findModel, SOURCES } from '../sources/find-model.ts';
import type { SourceKind } from '../sources/find-model.ts';
import { requireInstalled } from './installed.ts';
import { ProgressReport } from './progress.ts';

type IngestCommandOptions = ConnectionOptions & {
  format?: Format;
  model?: string;
  name?: string;
  replace?: boolean;
  source: SourceKind;
};

const PHASE_TEXT: Record<Phase, string> = {
  hash: 'reading file',
  vocabulary: 'tokens',
  tensors: 'weights',
  embeddings: 'embeddings',
};

function summary(result: IngestResult): string {
  const size = formatBytes(result.bytes);
  if (result.alreadyThere)
    return `${result.name} is already there: ${result.tensors} tensors, ${size}; nothing was stored`;
  const sent = result.sentBytes === result.bytes ? '' : ` (${formatBytes(result.sentBytes)} sent, the rest was there)`;
  const facts = `${result.tensors} tensors, ${size}${sent}, ${result.tokens} tokens`;
  const license = result.license === null ? '' : `, license ${result.license}`;
  return [`ingested ${result.name}: ${facts}${license}`, ...result.notes].join('\n');
}

export function registerIngest(program: Command): void {
  program
    .command('ingest')
    .description('read a model into the database: a GGUF file, a Hugging Face folder, or a model of Ollama or a hub')
    .argument('[model]', 'file, folder, name as qwen2.5:0.5b, or owner/name[:file]')
    .option('--model <model>', 'the same as the argument')
    .option('--source <source>', 'where it comes from: auto, file, ollama or hf', 'auto')
    .option('--name <name>', 'name in the database; by default the name given, or the name of the file without .gguf')
    .option('--replace', 'take the place of a model of the same name')
    .action(async (argument: string | undefined, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<IngestCommandOptions>();
      const wanted = argument ?? options.model;
      if (wanted === undefined) {
        throw new CommandError('no model named', { hint: 'run: hartonomous ingest FILE.gguf', exitCode: EXIT.usage });
      }
      if (!SOURCES.includes(options.source)) {
        throw new CommandError(
          `source ${brief(String(options.source))} is not known, sources are ${SOURCES.join(', ')}`,
          {
            exitCode: EXIT.usage,
          },
        );
      }
      await withClient(options, async (client) => {
        await trustNoPath(client);
        await requireInstalled(client);
        const progress = new ProgressReport();
        const interrupt = cancelOnInterrupt(client, options);
        try {
          const source = await findModel(wanted, options.source, {
            signal: interrupt.signal,
            onPull: (from) => tell(`asking ${from} for ${wanted}\n`),
            onBytes: (done, total) => progress.show('pulling', done, total),
            onCheck: (done, total) => progress.show('checking', done, total),
          });
          const result = await ingestModel(client, source, {
            ...(options.name === undefined ? {} : { name: options.name }),
            replace: options.replace ?? false,
            signal: interrupt.signal,
            onProgress: (phase, done, total) => progress.show(PHASE_TEXT[phase], done, total),
            onWait: () => tell('waiting for another ingest or removal in this database\n'),
          });
          progress.stop();
          if (options.format === 'json') printJson(result);
          else print(`${summary(result)}\n`);
        } catch (cause) {
          if (!interrupt.interrupted()) throw cause;
          throw new CommandError('interrupted; no model is visible', {
            hint: 'the same command goes on from here; hartonomous doctor --fix removes what was sent',
            exitCode: EXIT_INTERRUPTED,
            cause,
          });
        } finally {
          progress.stop();
          interrupt.stop();
        }
      });
    });
}
