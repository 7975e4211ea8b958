import pg from 'pg';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import { Cluster } from './cluster.ts';
import { connectionUri, environmentNamesDatabase } from './connection-string.ts';

export interface ConnectionOptions {
  databaseUrl?: string;
  /** As whom to use the private cluster; daily work where nothing else is said. */
  login?: 'superuser' | 'reader';
}

/** Codes of Node.js where no server answers. */
const UNREACHABLE: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ETIMEDOUT',
]);

/** What pg says where it has none. */
const NO_PASSWORD = /client password must be a (?:non-empty )?string/;

/** Whether neither --database-url nor DATABASE_URL names a database. */
export function usesPrivateCluster(options: ConnectionOptions): boolean {
  return !(options.databaseUrl ?? process.env.DATABASE_URL) && !environmentNamesDatabase();
}

/**
 * --database-url, else DATABASE_URL, else what PGSERVICE, PGHOST and PGDATABASE name, else the private cluster; throws with
 * the next step when none is there.
 */
export function databaseUrl(options: ConnectionOptions): string {
  const given = options.databaseUrl ?? process.env.DATABASE_URL;
  if (given || environmentNamesDatabase()) {
    const url = connectionUri(given ?? '');
    return taken.get(url) ?? url;
  }
  const cluster = new Cluster();
  if (!cluster.isRunning) {
    throw new CommandError('no database: DATABASE_URL is not set and the private cluster is not running', {
      hint: 'run: hartonomous up',
    });
  }
  const url = options.login === 'superuser' ? cluster.url() : cluster.loginUrl(options.login ?? 'daily');
  return `${url}?sslmode=disable`; // whatever PGSSLMODE asks of other servers
}

/** Addresses for which a server would not have what was tried first, and what it takes. */
const taken = new Map<string, string>();

/** SQLSTATE where pg_hba.conf lets nobody in. */
const REJECTED = '28000';

/**
 * The address with the other choice of TLS where libpq would try it, too: `prefer` goes on without it, and where nothing is said,
 * which libpq takes for `prefer` and pg for none, a server that wants it gets it. Null where there is none to try.
 */
export function otherEncryption(url: string, error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const other = new URL(url);
  const mode = other.searchParams.get('sslmode');
  const wantsIt =
    error instanceof pg.DatabaseError && error.code === REJECTED && /no encryption|SSL off/.test(error.message);
  if (mode === 'prefer' && error.message.includes('server does not support SSL')) {
    other.searchParams.set('sslmode', 'disable');
  } else if (mode === null && wantsIt) {
    other.searchParams.set('sslmode', 'require');
    other.searchParams.set('uselibpqcompat', 'true');
  } else return null;
  return other.toString().replaceAll('+', '%20');
}

/** A connected client; the caller ends it. */
export async function connect(options: ConnectionOptions): Promise<pg.Client> {
  const url = databaseUrl(options);
  try {
    return await open(url);
  } catch (error) {
    const other = error instanceof CommandError ? otherEncryption(url, error.cause) : null;
    if (other === null) throw error;
    const client = await open(other);
    taken.set(url, other);
    return client;
  }
}

async function open(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'hartonomous' });
  // From the start: a backend that is ended at once may say so together with its readiness, before anybody comes back here.
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (cause) {
    // A server that still waits for a password would keep this process for a minute.
    void client.end().catch(() => undefined);
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (NO_PASSWORD.test(reason))
      throw new CommandError(`could not connect to the database: it wants a password of user ${brief(client.user!)}`, {
        cause,
        hint: 'give it in the address, in PGPASSWORD, or in ~/.pgpass, which only its owner may read',
      });
    const tried = UNREACHABLE.has((cause as NodeJS.ErrnoException).code ?? '')
      ? `tried database ${client.database} at ${client.host}:${client.port}; an address is postgres://USER@HOST:PORT/DATABASE`
      : undefined;
    throw new CommandError(`could not connect to the database: ${reason}`, {
      cause,
      ...(tried === undefined ? {} : { hint: tried }),
    });
  }
  return client;
}

/**
 * Let what follows find PostgreSQL's own functions and operators: on the path of a database, others may have put some that fit
 * better, and that would run as this login. Not behind a pooler that gives each transaction another session.
 */
export async function trustNoPath(client: pg.Client): Promise<void> {
  await client.query('set search_path = pg_catalog');
}

/** Run `body` with a client and end it afterwards, whatever happens. */
export async function withClient<T>(options: ConnectionOptions, body: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await connect(options);
  let lost: Error | null = null;
  client.once('error', (error) => (lost = error));
  try {
    return await body(client);
  } catch (cause) {
    // What came while nothing was asked says more than the next question's failure.
    if (lost === null || cause instanceof CommandError || cause instanceof pg.DatabaseError) throw cause;
    throw new CommandError(`the connection to the database was lost: ${(lost as Error).message}`, {
      cause,
      hint: 'run it again',
    });
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** Cancel what the server does for the backend with this process id. */
export async function cancelBackend(options: ConnectionOptions, pid: number): Promise<void> {
  await withClient(options, (client) => client.query('select pg_cancel_backend($1)', [pid]));
}
