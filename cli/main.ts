/** The program `hartonomous`: one command a file in commands/, errors in one line here. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError, Option } from 'commander';
import pg from 'pg';
import { brief } from '../plv8/src/format/visible-text.ts';
import { holdsPassword } from './cluster/connection-string.ts';
import { registerBackends } from './commands/backends.ts';
import { registerCluster } from './commands/cluster.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerExplain } from './commands/explain.ts';
import { registerExport } from './commands/export.ts';
import { registerIngest } from './commands/ingest.ts';
import { registerInstall } from './commands/install.ts';
import { registerModels } from './commands/models.ts';
import { registerProxyCluster } from './commands/proxy-cluster.ts';
import { registerQuery } from './commands/query.ts';
import { registerRm } from './commands/rm.ts';
import { registerRun } from './commands/run.ts';
import { registerServe } from './commands/serve.ts';
import { registerStatus } from './commands/status.ts';
import { registerVerify } from './commands/verify.ts';
import { registerWork } from './commands/work.ts';
import { globalsOf } from './commands/globals.ts';
import { CommandError, EXIT } from './errors.ts';
import { libraryError } from './install/library-error.ts';
import { print, tell } from './output.ts';
import { packageRoot } from './package-root.ts';

/** SQLSTATEs of a database that has no such function, relation or schema: Hartonomous is not installed there. */
const NOT_INSTALLED: ReadonlySet<string> = new Set(['42883', '42P01', '3F000']);

const INSUFFICIENT_PRIVILEGE = '42501';
const RIGHTS =
  'rights come with roles: grant hartonomous_user to NAME, who may ask then; hartonomous_admin ingests and removes';

/** Characters of an error's line, whatever a server or a driver has put into it. */
const MAX_LINE = 1000;

function version(): string {
  const { version: text } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string;
  };
  return text;
}

/** The first line, in which drivers and servers may quote words of any length. */
function oneLine(text: string): string {
  const [line = ''] = text.split('\n');
  return brief(
    line.trim().replaceAll(/\S+/g, (word) => brief(word)),
    MAX_LINE,
  );
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT.usage;
  let hint: string | undefined;
  let code: number = EXIT.failure;
  let message = error instanceof Error ? error.message : String(error);
  if (error instanceof CommandError) {
    hint = error.hint;
    code = error.exitCode;
  } else if (error instanceof pg.DatabaseError) {
    hint = error.hint ?? error.detail;
    if (error.code !== undefined && NOT_INSTALLED.has(error.code) && message.includes('hartonomous')) {
      message = 'hartonomous is not installed in this database';
      hint = 'run: hartonomous install';
      code = EXIT.schemaMismatch;
    }
    if (error.code === INSUFFICIENT_PRIVILEGE && message.includes('hartonomous')) hint ??= RIGHTS;
    ({ message, hint } = libraryError(error) ?? { message, hint });
  }
  tell(`hartonomous: ${oneLine(message)}\n`);
  if (hint !== undefined) tell(`${oneLine(hint)}\n`);
  return code;
}

const program = new Command('hartonomous')
  .description('a language model that runs inside PostgreSQL')
  .version(version())
  .option('--database-url <url>', 'database to use (default: DATABASE_URL, else the private cluster)')
  .addOption(new Option('--format <format>', 'output format').choices(['text', 'json']).default('text'))
  .showHelpAfterError('(hartonomous --help lists the commands)')
  .configureOutput({
    writeOut: print,
    writeErr: tell,
    outputError: (text, write) => write(text.replaceAll(/'[^']{200,}'/gs, (given) => `'${brief(given.slice(1, -1))}'`)),
  })
  .exitOverride();

program.hook('preAction', (_program, command) => {
  // As other users see it in the list of processes: a URL may be an argument too, as in cluster add.
  const { databaseUrl = '' } = globalsOf(command);
  const urls = command.args.filter((text) => /^postgres(ql)?:\/\//.test(text));
  if ([databaseUrl, ...urls].some(holdsPassword))
    tell(
      'hartonomous: a password on the command line can be read by every user of this machine; DATABASE_URL, PGPASSWORD and ~/.pgpass keep it\n',
    );
});

for (const register of [
  registerCluster,
  registerInstall,
  registerIngest,
  registerRun,
  registerModels,
  registerBackends,
  registerServe,
  registerStatus,
  registerQuery,
  registerVerify,
  registerExplain,
  registerExport,
  registerRm,
  registerProxyCluster,
  registerWork,
  registerDoctor,
]) {
  register(program);
}
for (const command of program.commands) {
  for (const each of [command, ...command.commands]) each.exitOverride().configureHelp({ showGlobalOptions: true });
}
// Ollama's words for what is done otherwise here.
for (const [word, instead] of [
  ['pull', 'hartonomous ingest NAME (a model of Ollama or of a hub by its name)'],
  ['create', 'hartonomous ingest FILE --name NAME, and select hartonomous.set_default_model'],
  ['push', 'hartonomous export MODEL FILE'],
] as const) {
  program
    .command(word, { hidden: true })
    .argument('[words...]')
    .allowUnknownOption()
    .action(() => {
      throw new CommandError(`there is no command ${word}`, { hint: `run: ${instead}`, exitCode: EXIT.usage });
    });
}

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // `hartonomous list | head` closes the pipe: not an error.
  if (error.code === 'EPIPE') process.exit(0);
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
