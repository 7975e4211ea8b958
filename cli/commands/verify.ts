import type { Command } from 'commander';
import { trustNoPath, withClient } from '../cluster/connect.ts';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { CommandError } from '../errors.ts';
import { verify } from '../ingest/verify.ts';
import type { VerifyResult } from '../ingest/verify.ts';
import { formatBytes, print, printJson, tell } from '../output.ts';
import type { Format } from '../output.ts';
import { requireInstalled } from './installed.ts';

type VerifyCommandOptions = ConnectionOptions & { format?: Format; file?: string };

export function registerVerify(program: Command): void {
  program
    .command('verify')
    .description(
      "prove that every tensor's and every file's bytes are those of the source: SHA-256 over what is stored",
    )
    .argument('[model]', 'name of a model; all models by default')
    .option('--file <file>', 'source file to compare with, where it is not where it was')
    .action(async (model: string | undefined, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<VerifyCommandOptions>();
      if (options.file !== undefined && model === undefined) {
        throw new CommandError('--file needs the name of a model', {
          hint: 'run: hartonomous verify MODEL --file FILE',
          exitCode: 2,
        });
      }
      const results = await withClient(options, async (client) => {
        await trustNoPath(client);
        await requireInstalled(client);
        const all = await client.query<{ name: string }>('select name from hartonomous.model_list order by name');
        const names = model === undefined ? all.rows.map((row) => row.name) : [model];
        const done: VerifyResult[] = [];
        for (const name of names)
          done.push(await verify(client, name, options.file === undefined ? {} : { file: options.file }));
        // Broken segments are dropped and made again at the next load, so they are no difference.
        const segments = await client.query<{ whole: boolean }>('select whole from hartonomous._check_segments()');
        const broken = segments.rows.filter((row) => !row.whole).length;
        if (broken > 0) tell(`${broken} segments of shared weights were damaged and are dropped\n`);
        return done;
      });
      if (options.format === 'json') printJson(results);
      else for (const result of results) printResult(result);
      const bad = results.filter((result) => result.differences.length > 0);
      if (bad.length > 0) {
        throw new CommandError(
          `${bad.map((result) => result.model).join(', ')}: ${bad.reduce((n, r) => n + r.differences.length, 0)} differences`,
          {
            hint: 'ingest the file again with --replace',
          },
        );
      }
    });
}

function printResult(result: VerifyResult): void {
  for (const line of result.differences) print(`${result.model}: ${line}\n`);
  if (result.differences.length > 0) return;
  const source = result.file === null ? 'its source file is not there' : `its source file ${result.file} was compared`;
  print(
    `${result.model}: ${result.tensors} tensors, ${formatBytes(result.bytes)}, ${result.files === 0 ? 'every SHA-256' : 'every SHA-256 and that of the whole file'} as recorded; ${source}\n`,
  );
}
