import { availableParallelism } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import { withClient } from '../cluster/connect.ts';
import { CommandError } from '../errors.ts';
import { printJson } from '../output.ts';
import { isLoopback, startServer } from '../serve/server.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';

interface ServeOptions {
  host: string;
  port: number;
  backends: number;
  queue: number;
  record?: boolean;
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
    .action(async (options: ServeOptions, command: Command) => {
      const globals = globalsOf(command);
      await withClient(globals, requireInstalled);
      const token = process.env.HARTONOMOUS_TOKEN ?? null;
      if (token === '') throw new CommandError('HARTONOMOUS_TOKEN is empty', { exitCode: 2 });
      if (token === null && !isLoopback(options.host)) {
        process.stderr.write(
          `hartonomous: anybody who reaches ${options.host} may ask; HARTONOMOUS_TOKEN asks for a token\n`,
        );
      }
      const server = await startServer({
        connection: globals,
        host: options.host,
        port: options.port,
        backends: options.backends,
        queue: options.queue,
        token,
        record: options.record === true,
        version: program.version() ?? '',
      });
      if (globals.format === 'json') printJson({ url: server.url });
      else process.stdout.write(`listening at ${server.url} (OpenAI: /v1, Ollama: /api)\n`);
      await new Promise<void>((resolve) => {
        process.once('SIGINT', resolve);
        process.once('SIGTERM', resolve);
      });
      await server.close();
    });
}
