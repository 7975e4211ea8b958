import type { Command } from 'commander';
import { Cluster } from '../cluster/cluster.ts';
import { usesPrivateCluster, withClient } from '../cluster/connect.ts';
import { install } from '../install/install.ts';
import { print, printJson } from '../output.ts';
import { globalsOf } from './globals.ts';

export function registerInstall(program: Command): void {
  program
    .command('install')
    .description('install or upgrade Hartonomous in the database: tables, roles, functions')
    .action(async (_options: unknown, command: Command) => {
      const options = globalsOf(command);
      const own = usesPrivateCluster(options);
      const result = await withClient({ ...options, login: 'superuser' }, (client) => install(client));
      if (own) await new Cluster().provide();
      if (options.format === 'json') {
        printJson(result);
        return;
      }
      const { migrations, functionsReplaced, buildId, languageHost, mended } = result;
      const changed = migrations.length > 0 || functionsReplaced;
      for (const text of mended) print(`put right: ${text}\n`);
      print(
        `build ${buildId} ${changed ? 'installed' : 'was installed already'}: ${migrations.length} migrations applied, ` +
          `functions ${functionsReplaced ? 'replaced' : 'unchanged'}, LANGUAGE plv8 by ${languageHost}\n`,
      );
    });
}
