/** A private PostgreSQL for this user: a folder with its data, a port on 127.0.0.1, and a generated password. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { CommandError } from '../errors.ts';

const SUPERUSER = 'hartonomous';
const DATABASE = 'hartonomous';
const DUPLICATE_DATABASE = '42P04';
/** PostgreSQL refuses to run as root; Debian's package brings this user. */
const SERVER_USER = 'postgres';

const SETTINGS = `
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = '256MB'
max_wal_size = '4GB'
checkpoint_timeout = '15min'
max_connections = 100
log_min_messages = warning
client_connection_check_interval = '5s'
hartonomous_v8.threads = -1
`;

/** Folder of the private cluster: HARTONOMOUS_HOME, else a system folder for root, else the user's data folder. */
export function clusterHome(): string {
  if (process.env.HARTONOMOUS_HOME) return process.env.HARTONOMOUS_HOME;
  if (process.getuid?.() === 0) return '/var/lib/hartonomous';
  return join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local/share'), 'hartonomous');
}

/** Folder of PostgreSQL's programs: by PG_BIN, PG_CONFIG or PG_MAJOR, else the newest of Debian's; as host/postgres.sh. */
export function postgresBin(): string {
  const { PG_BIN: bin, PG_CONFIG: config, PG_MAJOR: major } = process.env;
  if (bin) return bin;
  if (config) {
    const { stdout, error } = spawnSync(config, ['--bindir'], { encoding: 'utf8' });
    if (error) throw new CommandError(`could not run PG_CONFIG: ${error.message}`);
    return stdout.trim();
  }
  const base = '/usr/lib/postgresql';
  if (major) return join(base, major, 'bin');
  const majors = existsSync(base) ? readdirSync(base).filter((name) => existsSync(join(base, name, 'bin/initdb'))) : [];
  const newest = majors.sort((a, b) => Number(b) - Number(a))[0];
  if (newest === undefined) {
    throw new CommandError('no PostgreSQL server is installed', {
      hint: 'run: host/setup.sh (or set PG_BIN, PG_CONFIG or PG_MAJOR)',
    });
  }
  return join(base, newest, 'bin');
}

export interface ServerUser {
  uid?: number;
  gid?: number;
}

/** Who runs the server: the user postgres where this process is root, else nobody else. */
export function serverUser(): ServerUser {
  if (process.getuid?.() !== 0) return {};
  const id = (flag: string): number => Number(execFileSync('id', [flag, SERVER_USER], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

/** A port on 127.0.0.1 that nobody listens on at this moment. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === 'string') reject(new Error('no port'));
        else resolve(address.port);
      });
    });
  });
}

/** Run one of PostgreSQL's programs as the user that the server runs as. */
export function runServerProgram(
  program: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
): { status: number | null; output: string } {
  const result = spawnSync(join(postgresBin(), program), args, {
    ...serverUser(),
    cwd: '/',
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (result.error) throw new CommandError(`could not run ${program}: ${result.error.message}`);
  return { status: result.status, output: `${result.stdout}${result.stderr}`.trim() };
}

export class Cluster {
  private readonly data: string;
  private readonly log: string;
  private readonly passwordFile: string;
  private readonly portFile: string;

  constructor(readonly home: string = clusterHome()) {
    this.data = join(home, 'data');
    this.log = join(home, 'postgresql.log');
    this.passwordFile = join(home, 'password');
    this.portFile = join(home, 'port');
  }

  get exists(): boolean {
    return existsSync(join(this.data, 'PG_VERSION'));
  }

  get isRunning(): boolean {
    return this.exists && runServerProgram('pg_ctl', ['-D', this.data, 'status']).status === 0;
  }

  /** Connection string of a database in the cluster. */
  url(database: string = DATABASE): string {
    const password = readFileSync(this.passwordFile, 'utf8').trim();
    const port = readFileSync(this.portFile, 'utf8').trim();
    return `postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/${database}`;
  }

  /** Make the cluster if there is none and start it if it is not running. */
  async up(): Promise<{ url: string; started: boolean }> {
    if (!this.exists) this.initialise();
    if (this.isRunning) {
      await this.ensureDatabase();
      return { url: this.url(), started: false };
    }
    const port = existsSync(this.portFile) ? Number(readFileSync(this.portFile, 'utf8')) : await freePort();
    if (!this.start(port)) {
      // The remembered port may have been taken since.
      const other = await freePort();
      if (!this.start(other)) {
        const tail = existsSync(this.log) ? readFileSync(this.log, 'utf8').trim().split('\n').slice(-1)[0] : '';
        throw new CommandError(`PostgreSQL did not start: ${tail}`, { hint: `see ${this.log}` });
      }
    }
    try {
      await this.ensureDatabase();
    } catch (error) {
      this.down();
      throw error;
    }
    return { url: this.url(), started: true };
  }

  private initialise(): void {
    const { uid, gid } = serverUser();
    mkdirSync(this.home, { recursive: true, mode: 0o755 });
    chmodSync(this.home, 0o755);
    if (uid !== undefined && gid !== undefined) chownSync(this.home, uid, gid);
    const password = randomBytes(18).toString('hex');
    writeFileSync(this.passwordFile, password, { mode: 0o600 });
    if (uid !== undefined && gid !== undefined) chownSync(this.passwordFile, uid, gid);
    const fresh = `${this.data}.part`;
    rmSync(fresh, { recursive: true, force: true });
    const made = runServerProgram('initdb', [
      '-D',
      fresh,
      '-U',
      SUPERUSER,
      '--pwfile',
      this.passwordFile,
      '-A',
      'scram-sha-256',
      '-E',
      'UTF8',
      '--locale',
      'C.UTF-8',
    ]);
    if (made.status !== 0) throw new CommandError(`initdb failed: ${made.output.split('\n').slice(-1)[0]}`);
    writeFileSync(join(fresh, 'postgresql.auto.conf'), SETTINGS);
    if (uid !== undefined && gid !== undefined) chownSync(join(fresh, 'postgresql.auto.conf'), uid, gid);
    renameSync(fresh, this.data);
  }

  private start(port: number): boolean {
    const started = runServerProgram('pg_ctl', [
      '-D',
      this.data,
      '-l',
      this.log,
      '-w',
      '-t',
      '60',
      '-o',
      `-p ${port}`,
      'start',
    ]);
    if (started.status !== 0) return false;
    writeFileSync(this.portFile, String(port));
    return true;
  }

  private async ensureDatabase(): Promise<void> {
    const client = new pg.Client({ connectionString: this.url('postgres'), application_name: 'hartonomous' });
    client.on('error', () => undefined);
    try {
      await client.connect();
      const { rowCount } = await client.query('select from pg_database where datname = $1', [DATABASE]);
      if (rowCount === 0) await client.query(`create database ${DATABASE} template template0`);
    } catch (cause) {
      if (cause instanceof pg.DatabaseError && cause.code === DUPLICATE_DATABASE) return; // another `up` was faster
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new CommandError(`could not create database ${DATABASE}: ${reason}`, { hint: `see ${this.log}`, cause });
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** Stop the server; whether it was running. */
  down(): boolean {
    if (!this.isRunning) return false;
    const stopped = runServerProgram('pg_ctl', ['-D', this.data, '-m', 'fast', '-w', 'stop']);
    if (stopped.status !== 0) throw new CommandError(`PostgreSQL did not stop: ${stopped.output}`);
    return true;
  }

  /** Stop the server and delete its folder. For tests. */
  destroy(): void {
    if (this.exists) this.down();
    rmSync(this.home, { recursive: true, force: true });
  }
}
