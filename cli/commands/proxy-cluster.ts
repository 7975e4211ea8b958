import type { Command } from 'commander';
import parseConnection from 'pg-connection-string';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { withClient } from '../cluster/connect.ts';
import { CommandError } from '../errors.ts';
import { ensureProxy } from '../install/proxy.ts';
import { print, printJson, printTable } from '../output.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';

/** Seconds until a node that does not accept a connection counts as dead. */
const CONNECT_TIMEOUT_S = 5;

interface NodeAddress {
  /** libpq keywords without the login */
  connection: string;
  user: string | null;
  password: string | null;
}

/** A value of a libpq connection string. */
function quoted(value: string): string {
  return `'${value.replace(/[\\']/g, '\\$&')}'`;
}

/** Divide a URL or keywords into the part everybody may see and the login. Throws for what names no database. */
function readAddress(name: string, url: string): NodeAddress {
  const config = /^postgres(ql)?:\/\//.test(url) ? parseConnection.parse(url) : null;
  if (!config?.host || !config.database) {
    throw new CommandError(
      `node ${brief(name)} needs a host and a database, got ${brief(url.replace(/:[^:@/]*@/, ':***@'))}`,
      {
        hint: 'write: postgres://USER:PASSWORD@HOST:PORT/DATABASE',
      },
    );
  }
  const parts = {
    host: config.host,
    port: config.port || '5432',
    dbname: config.database,
    connect_timeout: String(CONNECT_TIMEOUT_S),
    application_name: 'hartonomous',
  };
  return {
    connection: Object.entries(parts)
      .map(([key, value]) => `${key}=${quoted(value)}`)
      .join(' '),
    user: config.user ?? null,
    password: config.password ?? null,
  };
}

/** `cluster add | list | remove`: the servers among which cluster_generate divides its prompts. */
export function registerProxyCluster(program: Command): void {
  const cluster = program.command('cluster').description('servers that share the work of cluster_generate');
  cluster
    .command('add <name> <url>')
    .description('add a server that has the model; the first time as a superuser, since PL/Proxy is set up')
    .action(async (name: string, url: string, _options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const { connection, user, password } = readAddress(name, url);
      // Only a superuser may set PL/Proxy up, in the private database too.
      await withClient({ ...globals, login: 'superuser' }, async (client) => {
        await requireInstalled(client);
        await ensureProxy(client);
      });
      await withClient(globals, (client) =>
        client.query('select hartonomous.cluster_add($1, $2, $3, $4)', [name, connection, user, password]),
      );
      if (globals.format === 'json') printJson({ name, connection });
      else print(`added ${name}\n`);
    });
  cluster
    .command('list')
    .alias('ls')
    .description('list the servers')
    .action(async (_options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const rows = await withClient(globals, async (client) => {
        await requireInstalled(client);
        return (await client.query<{ name: string; connection: string }>('select * from hartonomous.cluster_node_list'))
          .rows;
      });
      if (globals.format === 'json') printJson(rows);
      else printTable(['name', 'connection'], rows);
    });
  cluster
    .command('remove <name>')
    .alias('rm')
    .description('take a server out; nothing on it changes')
    .action(async (name: string, _options: unknown, command: Command) => {
      const globals = globalsOf(command);
      await withClient(globals, async (client) => {
        await requireInstalled(client);
        await client.query('select hartonomous.cluster_remove($1)', [name]);
      });
      if (globals.format === 'json') printJson({ name });
      else print(`removed ${name}\n`);
    });
}
