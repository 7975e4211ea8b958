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
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import pg from 'pg';
import { CommandError } from '../errors.ts';
import { libraryFault } from '../install/library-error.ts';
import { providePgvector } from './pgvector.ts';
import { hasWorker, preloadOption } from './preload.ts';

/** Makes the database and installs into it. Not the name of our schema, which "$user" in a search path would mean. */
const SUPERUSER = 'postgres';
/** For daily use: a member of hartonomous_admin with a schema of its own. */
const DAILY = 'local';
/** For `query` without --write: a member of hartonomous_user that reads what the daily login has made. */
const READER = 'local_reader';
const DATABASE = 'hartonomous';
const DUPLICATE_DATABASE = '42P04';
/** SQLSTATE of a server that starts, stops or recovers. */
const CANNOT_CONNECT_NOW = '57P03';

/** Time that recovery from a crash is waited for. */
const RECOVERY_MS = 60_000;
/** What this program and PostgreSQL's say of a full disk. */
const FULL_DISK = /ENOSPC|No space left on device/i;
/** Lines at the end of the server's log that may say why it did not start. */
const LOG_LINES = 20;
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
    const { stdout, status, error } = spawnSync(config, ['--bindir'], { encoding: 'utf8' });
    if (error) throw new CommandError(`could not run PG_CONFIG: ${error.message}`);
    if (status !== 0)
      throw new CommandError(`${config} --bindir, which PG_CONFIG names, ended with exit code ${status}`);
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

function makeLogin(name: string, password: string): string {
  return `do $$ begin
      if to_regrole('${name}') is null then create role ${name}; end if;
    end $$;
    alter role ${name} login nosuperuser nocreaterole nocreatedb noreplication password '${password}';
    `;
}

/**
 * What the logins may. Reading needs neither locks that outlast a statement nor large objects nor the end of other sessions nor all of the disk, so
 * in this database PUBLIC may not, and who needs it is granted it.
 */
const RIGHTS = `
create schema if not exists ${DAILY} authorization ${DAILY};
grant usage on schema ${DAILY} to ${READER};
alter default privileges for role ${DAILY} in schema ${DAILY} grant select on tables to ${READER};
alter role ${READER} set search_path = ${DAILY}, public;
alter role ${READER} set temp_file_limit = '4GB';
do $$
declare
    f regprocedure;
begin
    -- Our own functions take locks as their owner, who is there once hartonomous is installed.
    for f in select p.oid from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace
        and p.proname ~ '^(pg_(try_)?advisory|lo_|lo(read|write)|lowrite|pg_terminate_backend|pg_logical_emit_message)'
        and to_regrole('hartonomous_owner') is not null
        -- lo_import and lo_export, which read and write the server's files, are nobody's to begin with.
        and not exists (select from pg_init_privs i where i.classoid = 'pg_proc'::regclass and i.objoid = p.oid) loop
        execute format('revoke execute on function %s from public', f);
        execute format('grant execute on function %s to ${DAILY}, hartonomous_owner', f);
    end loop;
    if to_regrole('hartonomous_admin') is not null then
        grant hartonomous_admin to ${DAILY};
        grant hartonomous_user, hartonomous_reader to ${READER};
    end if;
    if to_regprocedure('hartonomous.grant_runs(text, text)') is not null then
        set local role hartonomous_owner;
        insert into hartonomous.run_grants (reader, caller) values ('${READER}', '${DAILY}') on conflict do nothing;
        reset role;
    end if;
end
$$`;

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

/** The line of a program's output that says why it failed. */
function reasonIn(output: string): string {
  const lines = output.split('\n');
  return lines.find((line) => FULL_DISK.test(line)) ?? lines.at(-1)!;
}

/** Why a server ended, by its log; a library of the extension that is built for another one is told apart, with the cure. */
function fatalIn(log: string): { message: string; hint?: string } | null {
  const lines = log.split('\n');
  const at = lines.findLastIndex((line) => /(?:FATAL|PANIC): /.test(line));
  if (at < 0 || FULL_DISK.test(log)) return null;
  const message = lines[at]!.replace(/^.*?(?:FATAL|PANIC): +/, '');
  return libraryFault(message, /DETAIL: +(.*)/.exec(lines[at + 1] ?? '')?.[1]) ?? { message };
}

export class Cluster {
  private readonly data: string;
  private readonly log: string;
  private readonly passwordFile: string;
  private readonly loginFile: string;
  private readonly portFile: string;

  constructor(readonly home: string = clusterHome()) {
    this.data = join(home, 'data');
    this.log = join(home, 'postgresql.log');
    this.passwordFile = join(home, 'password');
    this.loginFile = join(home, 'logins');
    this.portFile = join(home, 'port');
  }

  get exists(): boolean {
    return existsSync(join(this.data, 'PG_VERSION'));
  }

  get isRunning(): boolean {
    return this.exists && this.ownServer && runServerProgram('pg_ctl', ['-D', this.data, 'status']).status === 0;
  }

  /**
   * Whether the process that postmaster.pid names works in this folder. In a copy of the folder of a running server it is the
   * original's, which is none of our business; in a folder that was renamed it is ours still.
   */
  private get ownServer(): boolean {
    const file = join(this.data, 'postmaster.pid');
    if (!existsSync(file)) return false;
    const [pid, folder] = readFileSync(file, 'utf8').split('\n');
    const data = statSync(this.data);
    try {
      const other = statSync(`/proc/${Number(pid)}/cwd`);
      return other.dev === data.dev && other.ino === data.ino;
    } catch {
      return folder === this.data; // no such process, or a system without /proc
    }
  }

  /** Connection string of a database in the cluster, as its superuser. */
  url(database: string = DATABASE): string {
    return this.urlOf(SUPERUSER, readFileSync(this.passwordFile, 'utf8').split('\n')[0]!, database);
  }

  /** The same for daily use, or to read only. */
  loginUrl(login: 'daily' | 'reader'): string {
    const [daily, reader] = readFileSync(this.loginFile, 'utf8').split('\n');
    return login === 'daily' ? this.urlOf(DAILY, daily!, DATABASE) : this.urlOf(READER, reader!, DATABASE);
  }

  private urlOf(user: string, password: string, database: string): string {
    const port = readFileSync(this.portFile, 'utf8').trim();
    return `postgres://${user}:${password}@127.0.0.1:${port}/${database}`;
  }

  /** Make the cluster if there is none and start it if it is not running. */
  async up(): Promise<{ url: string; started: boolean }> {
    try {
      return await this.bringUp();
    } catch (cause) {
      if (!(cause instanceof Error) || !FULL_DISK.test(cause.message)) throw cause;
      throw new CommandError(`no space is left on the disk of ${this.home}: ${cause.message}`, {
        hint: 'free some there, or have HARTONOMOUS_HOME name a folder on another disk; the same command goes on',
        cause,
      });
    }
  }

  private async bringUp(): Promise<{ url: string; started: boolean }> {
    if (!this.exists) this.initialise();
    const started = !this.isRunning;
    if (started) await this.startAnywhere();
    try {
      await this.ensureDatabase();
      await this.provide();
    } catch (error) {
      if (started) this.down();
      throw error;
    }
    return { url: this.loginUrl('daily'), started };
  }

  private async startAnywhere(): Promise<void> {
    // Of a copied folder: PostgreSQL would take the original's server for one that works here.
    if (!this.ownServer) rmSync(join(this.data, 'postmaster.pid'), { force: true });
    const port = existsSync(this.portFile) ? Number(readFileSync(this.portFile, 'utf8')) : await freePort();
    if (this.start(port)) return;
    // The remembered port may have been taken since.
    if (this.start(await freePort())) return;
    this.checkVersion();
    const log = existsSync(this.log)
      ? readFileSync(this.log, 'utf8').trim().split('\n').slice(-LOG_LINES).join('\n')
      : '';
    const { message, hint = `see ${this.log}` } = fatalIn(log) ?? { message: reasonIn(log) };
    throw new CommandError(`PostgreSQL did not start: ${message}`, { hint });
  }

  /** PostgreSQL starts no data of another major version, as they are after an upgrade of Debian. */
  private checkVersion(): void {
    const made = readFileSync(join(this.data, 'PG_VERSION'), 'utf8').trim();
    const program = /\d+/.exec(runServerProgram('postgres', ['--version']).output)![0];
    if (made === program) return;
    throw new CommandError(`the private database is of PostgreSQL ${made}, and ${postgresBin()} is ${program}`, {
      hint: `PG_MAJOR=${made} hartonomous up, while that is installed; host/upgrade.sh OLD_BIN brings the data over`,
    });
  }

  /** Make the logins, and their rights as far as hartonomous is installed; pgvector, where the system has it. */
  async provide(): Promise<void> {
    let client: pg.Client | null = null;
    try {
      client = await this.connect();
      if (!existsSync(this.loginFile)) {
        const passwords = [randomBytes(18).toString('hex'), randomBytes(18).toString('hex')] as const;
        await client.query(makeLogin(DAILY, passwords[0]) + makeLogin(READER, passwords[1]));
        this.writeSecret(this.loginFile, passwords.join('\n'));
      }
      await client.query(RIGHTS);
      await providePgvector(client);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new CommandError(`could not make the logins of the private database: ${reason}`, {
        hint: `a private database from before 0.1.0 has another superuser: move ${this.home} away`,
        cause,
      });
    } finally {
      await client?.end().catch(() => undefined);
    }
  }

  /** Write a file that only the owner reads, and never through a link. */
  private writeSecret(file: string, text: string): void {
    const { uid, gid } = serverUser();
    rmSync(file, { force: true });
    writeFileSync(file, text, { mode: 0o600, flag: 'wx' });
    if (uid !== undefined && gid !== undefined) chownSync(file, uid, gid);
  }

  private initialise(): void {
    const { uid, gid } = serverUser();
    mkdirSync(this.home, { recursive: true, mode: 0o755 });
    chmodSync(this.home, 0o755);
    if (uid !== undefined && gid !== undefined) chownSync(this.home, uid, gid);
    this.writeSecret(this.passwordFile, randomBytes(18).toString('hex'));
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
    if (made.status !== 0) throw new CommandError(`initdb failed: ${reasonIn(made.output)}`);
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
      `-p ${port}${this.preload()}`,
      'start',
    ]);
    if (started.status !== 0) return false;
    writeFileSync(this.portFile, String(port));
    return true;
  }

  /** Have the worker of searches loaded, where it is installed, beside what the configuration has loaded. */
  private preload(): string {
    if (!hasWorker(postgresBin())) return '';
    const args = ['-D', this.data, '-c', 'log_min_messages=panic', '-C', 'shared_preload_libraries'];
    const { status, output } = runServerProgram('postgres', args);
    return status === 0 ? preloadOption(output) : ''; // the start itself tells what is wrong with the configuration
  }

  private async ensureDatabase(): Promise<void> {
    let client: pg.Client | null = null;
    try {
      client = await this.connect('postgres');
      const { rowCount } = await client.query('select from pg_database where datname = $1', [DATABASE]);
      if (rowCount === 0) await client.query(`create database ${DATABASE} template template0`);
    } catch (cause) {
      if (cause instanceof pg.DatabaseError && cause.code === DUPLICATE_DATABASE) return; // another `up` was faster
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new CommandError(`could not create database ${DATABASE}: ${reason}`, { hint: `see ${this.log}`, cause });
    } finally {
      await client?.end().catch(() => undefined);
    }
  }

  /** A session of the superuser; a server that recovers from a crash is waited for. */
  private async connect(database: string = DATABASE): Promise<pg.Client> {
    const until = Date.now() + RECOVERY_MS;
    for (;;) {
      const client = new pg.Client({
        connectionString: this.url(database),
        application_name: 'hartonomous',
        ssl: false, // whatever PGSSLMODE asks of other servers
      });
      client.on('error', () => undefined);
      try {
        await client.connect();
        return client;
      } catch (error) {
        await client.end().catch(() => undefined);
        const recovers = error instanceof pg.DatabaseError && error.code === CANNOT_CONNECT_NOW;
        if (!recovers || Date.now() > until) throw error;
        await setTimeout(200);
      }
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
