import { availableParallelism } from 'node:os';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { withClient } from '../cluster/connect.ts';
import { CommandError } from '../errors.ts';
import { print, printJson } from '../output.ts';
import { checkRoles, isLoopback, readTokens } from '../serve/access.ts';
import { startServer } from '../serve/server.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';

interface ServeOptions {
  host: string;
  port: number;
  backends: number;
  queue: number;
  record?: boolean;
  tokens?: string;
  origins: string[];
  withoutToken?: boolean;
}

function count(least: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new InvalidArgumentError(`an integer from ${least} to ${most} is needed.`);
    }
    return value;
  };
}

/** `serve`: OpenAI's and Ollama's HTTP interfaces over the database. */
export function registerServe(program: Command): void {
  program
    .command('serve')
    .description("answer over HTTP as OpenAI's and Ollama's servers do (token: HARTONOMOUS_TOKEN)")
    .option('--host <address>', 'address to listen at', '127.0.0.1')
    .option('--port <number>', 'port to listen at, 0 for any', count(0, 65535), 11435)
    .option('--backends <number>', 'connections that compute', count(1, 64), Math.min(4, availableParallelism()))
    .option('--queue <number>', 'requests that may wait', count(0, 10_000), 32)
    .option('--record', 'record what is generated in hartonomous.runs')
    .option('--tokens <file>', 'bearer tokens of roles: a role and its token a line')
    .addOption(
      new Option(
        '--origins <list>',
        'origins of pages that may ask, beside those of this machine, as https://*.example.com',
      )
        .env('HARTONOMOUS_ORIGINS')
        .argParser((text) => text.split(',').map((origin) => origin.trim()))
        .default([], 'none'),
    )
    .option('--without-token', 'let anybody ask who reaches another address than loopback')
    .action(async (options: ServeOptions, command: Command) => {
      const globals = globalsOf(command);
      const token = process.env.HARTONOMOUS_TOKEN;
      if (token === '') throw new CommandError('HARTONOMOUS_TOKEN is empty', { exitCode: 2 });
      const tokens = options.tokens === undefined ? [] : await readTokens(options.tokens);
      if (token !== undefined) tokens.push({ token, role: null });
      if (tokens.length === 0 && !isLoopback(options.host) && options.withoutToken !== true) {
        throw new CommandError(`without a token anybody who reaches ${options.host} might ask`, {
          hint: 'set HARTONOMOUS_TOKEN, give --tokens FILE, or say --without-token',
          exitCode: 2,
        });
      }
      await withClient(globals, async (client) => {
        await requireInstalled(client);
        await checkRoles(client, tokens);
      });
      const server = await startServer({
        connection: globals,
        host: options.host,
        port: options.port,
        backends: options.backends,
        queue: options.queue,
        tokens,
        origins: options.origins,
        record: options.record === true,
        version: program.version() ?? '',
      });
      if (globals.format === 'json') printJson({ url: server.url });
      else print(`listening at ${server.url} (OpenAI: /v1, Ollama: /api)\n`);
      await new Promise<void>((resolve) => {
        process.once('SIGINT', resolve);
        process.once('SIGTERM', resolve);
      });
      await server.close();
    });
}
