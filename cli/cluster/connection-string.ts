/**
 * Connection strings as libpq reads them (https://www.postgresql.org/docs/current/libpq-connect.html): URIs,
 * `dbname=mine host=/tmp`, service files and the PG* variables, brought into the one form that pg-connection-string knows.
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError, EXIT } from '../errors.ts';

/** Values by libpq's keyword. */
type Settings = Record<string, string>;

const MAX_PORT = 65_535;
const SOCKET_FOLDERS = ['/var/run/postgresql', '/tmp']; // Debian's libpq, and everybody else's
const VARIABLES: Readonly<Record<string, string>> = {
  host: 'PGHOST',
  hostaddr: 'PGHOSTADDR',
  port: 'PGPORT',
  dbname: 'PGDATABASE',
  user: 'PGUSER',
};
const URI = /^postgres(?:ql)?:\/\/(?:([^/?#]*)@)?([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/;

function wrong(message: string): CommandError {
  return new CommandError(message, { hint: 'see: PostgreSQL, libpq, connection strings', exitCode: EXIT.usage });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function readUri(text: string): Settings {
  const parts = URI.exec(text);
  if (parts === null) throw wrong('the connection string is no URI of the form postgres://USER@HOST:PORT/DATABASE');
  const [, login = '', address = '', database = '', query = ''] = parts;
  const colon = login.indexOf(':');
  const [user, password] = colon < 0 ? [login, ''] : [login.slice(0, colon), login.slice(colon + 1)];
  const place = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/.exec(address);
  if (place === null || address.includes(',')) throw wrong(`${brief(address)} is not one host, with a port or without`);
  const settings: Settings = {
    host: decoded(place[1]!.replace(/^\[(.*)\]$/, '$1')),
    port: place[2] ?? '',
    dbname: decoded(database),
    user: decoded(user),
    password: decoded(password),
  };
  for (const [name, value] of new URLSearchParams(query)) settings[name] = value;
  return settings;
}

/** `name = value` pairs; a value with spaces stands in single quotes, a backslash takes the next character as it is. */
function readPairs(text: string): Settings {
  const settings: Settings = {};
  const pair = /\s*([^\s=]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?)(?=\s|$)/sy;
  const end = text.trimEnd().length;
  while (pair.lastIndex < end) {
    const at = pair.lastIndex;
    const found = pair.exec(text);
    if (found === null) throw wrong(`the connection string is not name=value from its character ${at + 1} on`);
    settings[found[1]!] = (found[2] ?? found[3] ?? '').replaceAll(/\\(.)/gs, '$1');
  }
  return settings;
}

/** The section of a service in the user's file, else the system's. */
function readService(name: string, env: NodeJS.ProcessEnv): Settings {
  const own = env.PGSERVICEFILE ?? join(homedir(), '.pg_service.conf');
  const system = join(env.PGSYSCONFDIR ?? '/etc/postgresql-common', 'pg_service.conf');
  for (const file of [own, system]) {
    if (!existsSync(file)) continue;
    const lines = readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.trim());
    const from = lines.indexOf(`[${name}]`);
    if (from < 0) continue;
    const settings: Settings = {};
    for (const line of lines.slice(from + 1)) {
      if (line.startsWith('[')) break;
      if (line === '' || line.startsWith('#')) continue;
      const equals = line.indexOf('=');
      if (equals < 1) throw wrong(`${brief(file)}: service ${brief(name)} has a line without "="`);
      settings[line.slice(0, equals)] = line.slice(equals + 1);
    }
    return settings;
  }
  throw wrong(`definition of service "${brief(name)}" not found`);
}

function read(text: string): Settings {
  if (text.includes('://')) return readUri(text);
  return text.includes('=') ? readPairs(text) : { dbname: text };
}

/** Whether a connection string holds a password; one that cannot be read is refused where it is used. */
export function holdsPassword(given: string): boolean {
  try {
    return Boolean(read(given).password);
  } catch {
    return false;
  }
}

/** Whether the environment names a server or a database in libpq's way. */
export function environmentNamesDatabase(env: NodeJS.ProcessEnv = process.env): boolean {
  return Boolean(env.PGSERVICE ?? env.PGHOST ?? env.PGHOSTADDR ?? env.PGDATABASE);
}

/**
 * The URI of what `given` and the environment name. What a connection string leaves out comes from its service, then from
 * PG* variables, then it is libpq's default: the user's own name, and the socket of a server on this machine.
 * @throws a CommandError where libpq could not read it either, and for several hosts, of which pg takes only one
 */
export function connectionUri(given: string, env: NodeJS.ProcessEnv = process.env): string {
  const settings: Settings = {};
  const take = (more: Settings): void => {
    for (const [name, value] of Object.entries(more)) if (value !== '') settings[name] ??= value;
  };
  take(read(given));
  const { service = env.PGSERVICE } = settings;
  if (service) take(readService(service, env));
  for (const [name, variable] of Object.entries(VARIABLES)) take({ [name]: env[variable] ?? '' });
  take({ port: '5432', user: userInfo().username });
  take({ dbname: settings.user! });
  const { hostaddr, host, dbname, ...rest } = settings;
  delete rest.service;
  const place = hostaddr ?? host ?? localServer(rest.port!);
  if (`${place}${rest.port}`.includes(','))
    throw wrong(`one host is taken, and ${brief(place)} port ${brief(rest.port!)} are several`);
  if (!/^\d{1,5}$/.test(rest.port!) || Number(rest.port) < 1 || Number(rest.port) > MAX_PORT)
    throw wrong(`port ${brief(rest.port!)} is not between 1 and ${MAX_PORT}`);
  const query = new URLSearchParams({ host: place, ...rest });
  if (rest.sslmode !== undefined && !given.includes('://')) query.set('uselibpqcompat', 'true');
  return `postgres:///${encodeURI(dbname!).replaceAll('?', '%3F').replaceAll('#', '%23')}?${query.toString().replaceAll('+', '%20')}`;
}

/** Folder of the socket of a server on this machine, or localhost. */
function localServer(port: string): string {
  return SOCKET_FOLDERS.find((folder) => existsSync(join(folder, `.s.PGSQL.${port}`))) ?? 'localhost';
}
