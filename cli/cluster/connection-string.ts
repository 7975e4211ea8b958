/**
 * Connection strings as libpq reads them (https://www.postgresql.org/docs/current/libpq-connect.html): URIs,
 * `dbname=mine host=/tmp`, service files and the PG* variables, brought into the one form that pg-connection-string knows.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
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
  passfile: 'PGPASSFILE',
  sslmode: 'PGSSLMODE',
};
/** Where TLS is asked for: pg would take it for asked for where one of these is. */
const CERTIFICATES: Readonly<Record<string, string>> = {
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  sslrootcert: 'PGSSLROOTCERT',
};
/** What libpq of PostgreSQL 18 knows, and what only pg does; of anything else a word was written wrong. */
const KEYWORDS: ReadonlySet<string> = new Set(
  `application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation gssencmode
   gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname load_balance_hosts
   max_protocol_version min_protocol_version oauth_client_id oauth_client_secret oauth_issuer oauth_scope options passfile
   password port replication require_auth requirepeer scram_client_key scram_server_key service servicefile
   ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey
   sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout user
   enableChannelBinding encoding idle_in_transaction_session_timeout lock_timeout query_timeout ssl statement_timeout
   uselibpqcompat`.split(/\s+/),
);
const SSL_MODES: ReadonlySet<string> = new Set([
  'disable',
  'allow',
  'prefer',
  'require',
  'verify-ca',
  'verify-full',
  'no-verify', // pg's own
]);
const URI = /^postgres(?:ql)?:\/\/(?:([^/@]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s;

function wrong(message: string, cause?: unknown): CommandError {
  return new CommandError(message, { hint: 'see: PostgreSQL, libpq, connection strings', exitCode: EXIT.usage, cause });
}

/** A part of a URI; a plus stands for itself. */
function decoded(text: string): string {
  try {
    const value = decodeURIComponent(text);
    if (!value.includes('\0')) return value;
  } catch {
    // as below
  }
  throw wrong('the connection string has a percent sign without the two digits of a character behind it');
}

function known(name: string): string {
  if (KEYWORDS.has(name)) return name;
  throw wrong(`invalid connection option "${brief(name)}"`);
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
  for (const parameter of query.split('&')) {
    if (parameter === '') continue;
    const [name, value, more] = parameter.split('=');
    if (value === undefined || more !== undefined) throw wrong(`URI parameter ${brief(name!)} is not name=value`);
    settings[known(decoded(name!))] = decoded(value);
  }
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
    settings[known(found[1]!)] = (found[2] ?? found[3] ?? '').replaceAll(/\\(.)/gs, '$1');
  }
  return settings;
}

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() === true;

/** The section of a service in a file; null where it has none of that name. Of a keyword that stands twice the first counts. */
function serviceIn(file: string, name: string): Settings | null {
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.trim());
  const from = lines.indexOf(`[${name}]`);
  if (from < 0) return null;
  const settings: Settings = {};
  for (const line of lines.slice(from + 1)) {
    if (line.startsWith('[')) break;
    if (line === '' || line.startsWith('#')) continue;
    const equals = line.indexOf('=');
    if (equals < 1) throw wrong(`${brief(file)}: service ${brief(name)} has a line without "="`);
    const keyword = line.slice(0, equals);
    if (!KEYWORDS.has(keyword) || keyword.startsWith('service'))
      throw wrong(`${brief(file)}: service ${brief(name)} has the line ${brief(keyword)}=, which is not for services`);
    settings[keyword] ??= line.slice(equals + 1);
  }
  return settings;
}

/** The section of a service in the file that is named, or the user's, else the system's. */
function readService(name: string, named: string | undefined, env: NodeJS.ProcessEnv): Settings {
  if (named && !isFile(named)) throw wrong(`service file ${brief(named)} not found`);
  const system = join(env.PGSYSCONFDIR ?? '/etc/postgresql-common', 'pg_service.conf');
  for (const file of [named || join(homedir(), '.pg_service.conf'), system]) {
    const settings = isFile(file) ? serviceIn(file, name) : null;
    if (settings !== null) return settings;
  }
  throw wrong(`definition of service "${brief(name)}" not found`);
}

const MAY_BE_READ_BY_OTHERS = 0o077;

/** The password of a line `host:port:database:user:password` that fits; of a file that others may read pg says so, and takes none. */
function passwordIn(file: string, wanted: { host: string; port: string; dbname: string; user: string }): string {
  if (!isFile(file) || (statSync(file).mode & MAY_BE_READ_BY_OTHERS) !== 0) return '';
  const { host, port, dbname, user } = wanted;
  const hosts = SOCKET_FOLDERS.includes(host) ? [host, 'localhost'] : [host];
  for (const line of readFileSync(file, 'utf8').split(/\r?\n/)) {
    if (line.startsWith('#')) continue;
    const fields = [...line.matchAll(/((?:[^:\\]|\\.|\\$)*)(?::|$)/g)].map((field) =>
      field[1]!.replaceAll(/\\(.)/g, '$1'),
    );
    const [theirHost, ...others] = fields.slice(0, 4);
    const fits = others.every((field, i) => field === '*' || field === [port, dbname, user][i]);
    if (fields.length > 4 && fits && (theirHost === '*' || hosts.includes(theirHost!))) return fields[4]!;
  }
  return '';
}

/** The name of the user that this process runs as, of which the system may know the number alone. */
function ownName(): string {
  try {
    return userInfo().username;
  } catch (cause) {
    throw wrong(`the system knows no user with ID ${process.getuid?.()}, and the connection string names none`, cause);
  }
}

function read(text: string): Settings {
  if (/^\w+:\/\//.test(text)) return readUri(text);
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
  return Boolean(env.PGSERVICE || env.PGHOST || env.PGHOSTADDR || env.PGDATABASE);
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
  const { service = env.PGSERVICE, servicefile = env.PGSERVICEFILE } = settings;
  if (service) take(readService(service, servicefile, env));
  for (const [name, variable] of Object.entries(VARIABLES)) take({ [name]: env[variable] ?? '' });
  take({ port: '5432' });
  settings.user ??= ownName();
  take({ dbname: settings.user });
  const { hostaddr, host, dbname, passfile, ...rest } = settings;
  delete rest.service;
  delete rest.servicefile;
  const place = hostaddr ?? host ?? localServer(rest.port!);
  if (`${place}${rest.port}`.includes(','))
    throw wrong(`one host is taken, and ${brief(place)} port ${brief(rest.port!)} are several`);
  rest.port = rest.port!.trim();
  if (!/^\d{1,9}$/.test(rest.port) || Number(rest.port) < 1 || Number(rest.port) > MAX_PORT)
    throw wrong(`port ${brief(rest.port)} is not between 1 and ${MAX_PORT}`);
  if (/[?#]/.test(dbname!)) throw wrong(`the name of database ${brief(dbname!)} has a ? or #, which pg cannot send`);
  if (rest.password === undefined && !env.PGPASSWORD) {
    const file = passfile ?? join(homedir(), '.pgpass');
    rest.password = passwordIn(file, { host: host ?? place, port: rest.port, dbname: dbname!, user: rest.user! });
    if (rest.password === '') delete rest.password;
  }
  if (rest.sslmode !== undefined) {
    if (!SSL_MODES.has(rest.sslmode)) throw wrong(`invalid sslmode value: "${brief(rest.sslmode)}"`);
    // TLS is not for sockets of this machine, and is what `allow` tries last.
    if (rest.sslmode === 'allow' || /^[/@]/.test(place)) rest.sslmode = 'disable';
    if (rest.sslmode !== 'disable')
      for (const [name, variable] of Object.entries(CERTIFICATES)) if (env[variable]) rest[name] ??= env[variable];
    rest.uselibpqcompat ??= 'true';
  }
  const query = new URLSearchParams({ host: place, ...rest });
  return `postgres:///${encodeURI(dbname!)}?${query.toString().replaceAll('+', '%20')}`;
}

/** Folder of the socket of a server on this machine, or localhost. */
function localServer(port: string): string {
  return SOCKET_FOLDERS.find((folder) => existsSync(join(folder, `.s.PGSQL.${port}`))) ?? 'localhost';
}
