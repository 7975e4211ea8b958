/** Real servers for tests of more than one: a primary with Hartonomous, streaming standbys of it, pgbouncer before them. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { Cluster, freePort, postgresBin, runServerProgram, serverUser } from '../../cli/cluster/cluster.ts';
import { install } from '../../cli/install/install.ts';
import { startCluster } from '../db/portable-cluster.ts';

/** A folder that the server's user may write into. */
export function serverFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'hartonomous-scale-'));
  chmodSync(folder, 0o755);
  const { uid, gid } = serverUser();
  if (uid !== undefined && gid !== undefined) chownSync(folder, uid, gid);
  return folder;
}

export async function query(url: string, sql: string, args: unknown[] = []): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined); // a server that goes down says so once more after the statement's own error
  await client.connect();
  try {
    return (await client.query(sql, args)).rows as Record<string, unknown>[];
  } finally {
    await client.end();
  }
}

/** A private cluster of its own with Hartonomous installed. */
export async function startPrimary(): Promise<{ cluster: Cluster; url: string }> {
  const cluster = new Cluster(join(serverFolder(), 'primary'));
  const url = await startCluster(cluster);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await install(client);
  await client.end();
  return { cluster, url };
}

export class Standby {
  private constructor(
    private readonly folder: string,
    readonly url: string,
    readonly port: number,
  ) {}

  /** Copy a running server with pg_basebackup and follow it. `host` is the loopback address to listen on. */
  static async follow(primaryUrl: string, host = '127.0.0.1', port?: number): Promise<Standby> {
    const folder = serverFolder();
    const data = join(folder, 'data');
    const from = new URL(primaryUrl);
    const made = runServerProgram('pg_basebackup', ['-d', primaryUrl, '-D', data, '-R', '-c', 'fast', '-X', 'stream']);
    if (made.status !== 0) throw new Error(`pg_basebackup failed: ${made.output}`);
    const chosen = port ?? (await freePort());
    const started = runServerProgram('pg_ctl', [
      ...['-D', data, '-l', join(folder, 'log'), '-w', '-o', `-p ${chosen} -c listen_addresses=${host}`, 'start'],
    ]);
    if (started.status !== 0) throw new Error(`standby did not start: ${readFileSync(join(folder, 'log'), 'utf8')}`);
    const url = new URL(from);
    url.hostname = host;
    url.port = String(chosen);
    return new Standby(folder, url.toString(), chosen);
  }

  /** Wait until it has replayed what the primary has written by now. */
  async catchUp(primaryUrl: string): Promise<void> {
    const [row] = await query(primaryUrl, 'select pg_current_wal_lsn()::text as lsn');
    for (let tries = 0; tries < 600; tries++) {
      const [there] = await query(this.url, 'select pg_last_wal_replay_lsn() >= $1::pg_lsn as done', [row?.lsn]);
      if (there?.done === true) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`standby did not reach ${String(row?.lsn)}`);
  }

  get dataFolder(): string {
    return join(this.folder, 'data');
  }

  promote(): void {
    const done = runServerProgram('pg_ctl', ['-D', this.dataFolder, '-w', 'promote']);
    if (done.status !== 0) throw new Error(`promotion failed: ${done.output}`);
  }

  /** Stop as a power cut would. */
  kill(): void {
    runServerProgram('pg_ctl', ['-D', this.dataFolder, '-m', 'immediate', '-w', 'stop']);
  }

  destroy(): void {
    this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Path of pgbouncer; null where it is not installed. */
export function pgbouncerProgram(): string | null {
  return ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find((path) => existsSync(path)) ?? null;
}

/** Whether the server that tests use offers PL/Proxy. */
export function hasPlproxy(): boolean {
  const folder = spawnSync(join(postgresBin(), 'pg_config'), ['--sharedir'], { encoding: 'utf8' }).stdout.trim();
  return existsSync(join(folder, 'extension/plproxy.control'));
}

/** What a missing Debian package means: an error under CI, else a printed reason. */
export function missing(what: string): boolean {
  if (process.env.CI === 'true') throw new Error(`${what} is not installed`);
  console.log(`skipped: ${what} is not installed`);
  return true;
}

export class Pgbouncer {
  private constructor(
    private readonly process: ChildProcess,
    private readonly folder: string,
    readonly url: string,
  ) {}

  /** One pool in front of a database; `servers` is pgbouncer's database line without the name. */
  static async start(serverUrl: string, servers: string, settings: Record<string, string> = {}): Promise<Pgbouncer> {
    const program = pgbouncerProgram();
    if (program === null) throw new Error('pgbouncer is not installed');
    const folder = serverFolder();
    const port = await freePort();
    const { username, password } = new URL(serverUrl);
    const login = `${decodeURIComponent(username)}`;
    mkdirSync(join(folder, 'run'));
    writeFileSync(join(folder, 'users'), `"${login}" "${decodeURIComponent(password)}"\n`);
    const all = {
      listen_addr: '127.0.0.1',
      listen_port: String(port),
      unix_socket_dir: '',
      auth_type: 'scram-sha-256',
      auth_file: join(folder, 'users'),
      pool_mode: 'transaction',
      default_pool_size: '4',
      ignore_startup_parameters: 'extra_float_digits',
      admin_users: login,
      ...settings,
    };
    const lines = Object.entries(all).map(([key, value]) => `${key} = ${value}`);
    writeFileSync(
      join(folder, 'pgbouncer.ini'),
      `[databases]\nhartonomous = ${servers}\n[pgbouncer]\n${lines.join('\n')}\n`,
    );
    const { uid, gid } = serverUser();
    if (uid !== undefined && gid !== undefined) {
      for (const name of ['users', 'pgbouncer.ini', 'run']) chownSync(join(folder, name), uid, gid);
    }
    const child = spawn(program, [join(folder, 'pgbouncer.ini')], { uid, gid, cwd: folder, stdio: 'ignore' });
    const url = new URL(serverUrl);
    url.hostname = '127.0.0.1';
    url.port = String(port);
    url.pathname = '/hartonomous';
    await listening(port);
    return new Pgbouncer(child, folder, url.toString());
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    if (this.process.kill('SIGINT')) await ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function listening(port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connectSocket(port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing listens on port ${port}`);
}
