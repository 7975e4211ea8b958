import type { Command } from 'commander';
import { Cluster } from '../cluster/cluster.ts';
import { print, printJson } from '../output.ts';
import { globalsOf } from './globals.ts';

/** `up` and `down`: the private local database that is used when DATABASE_URL is not set. */
export function registerCluster(program: Command): void {
  program
    .command('up')
    .description('start the private local database, making it first if there is none')
    .option('--url', 'print its address alone: psql "$(npx hartonomous up --url)"')
    .action(async (options: { url?: boolean }, command: Command) => {
      const { url, started } = await new Cluster().up();
      if (globalsOf(command).format === 'json') printJson({ url });
      else if (options.url === true) print(`${url}\n`);
      else print(`${started ? 'started' : 'already running'}: ${url}\n`);
    });
  program
    .command('down')
    .description('stop the private local database; its data stays')
    .action((_options: unknown, command: Command) => {
      const stopped = new Cluster().down();
      if (globalsOf(command).format === 'json') printJson({ stopped });
      else print(stopped ? 'stopped\n' : 'was not running\n');
    });
}
