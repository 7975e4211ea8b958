/** A server to which faults happen, with one model whose answer is known. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { expect } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { runServerProgram } from '../../cli/cluster/cluster.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { ingestFile } from '../db/harness.ts';
import { smollm2File } from '../golden/smollm2-file.ts';
import { LONG } from '../long.ts';
import { query, startPrimary } from '../scale/servers.ts';

export const MODEL = 'smollm2';
/** A small model, for what does not need a long call. */
export const SMALL = join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf');
/** Moments at which a step is hit, from its first statement to near its end; `npm test` tries one of them. */
export const MOMENTS_MS = LONG ? [20, 120, 300] : [120];
/** What a client sees of a session that ended. */
export const SESSION_ENDED = /Connection terminated|57P0|ECONNRESET/;

export const ASK = `select hartonomous.generate('The capital of France is', '${MODEL}', options => '{"raw": true, "temperature": 0, "num_predict": 6}') as text`;
export const ENDLESS = `select hartonomous.generate('Once upon a time', '${MODEL}', options =>
  '{"raw": true, "temperature": 0, "num_predict": -1, "num_ctx": 2048, "record": true, "logit_bias": {"2": -1000, "0": -1000}}')`;

/** SmolLM2, for what takes long enough to be hit. */
export function largeModel(): string {
  const golden = JSON.parse(readFileSync(new URL('../golden/smollm2-135m-q4_1.json', import.meta.url), 'utf8')) as {
    sha256: string;
  };
  return smollm2File(golden.sha256);
}

export interface Session {
  client: pg.Client;
  pid: number;
}

/** SQLSTATE, or the message of an error that has none, of a statement that has to fail. */
export async function failure(running: Promise<unknown>): Promise<string> {
  try {
    await running;
  } catch (error) {
    return (error as pg.DatabaseError).code ?? (error as Error).message;
  }
  throw new Error('the statement ended by itself');
}

export async function kill(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL');
  await noticed();
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Until the postmaster has seen that a backend was killed; before that it lets others in. */
export async function noticed(): Promise<void> {
  await sleep(300);
}

export class FaultServer {
  private constructor(
    readonly cluster: Cluster,
    readonly url: string,
    readonly answer: Record<string, unknown>[],
  ) {}

  /** A private server whose only model is `file`, named MODEL. */
  static async start(file: string): Promise<FaultServer> {
    const { cluster, url } = await startPrimary();
    await ingestFile(url, file, MODEL);
    return new FaultServer(cluster, url, await query(url, ASK));
  }

  async open(options: { settings?: string[]; parameters?: string } = {}): Promise<Session> {
    await this.waitUntilUp();
    const client = new pg.Client({ connectionString: this.url, options: options.parameters ?? '' });
    client.on('error', () => undefined);
    await client.connect();
    for (const setting of options.settings ?? []) await client.query(setting);
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    return { client, pid: rows[0]!.pid };
  }

  get dataFolder(): string {
    return join(this.cluster.home, 'data');
  }

  control(...args: string[]): void {
    const done = runServerProgram('pg_ctl', ['-D', this.dataFolder, ...args]);
    if (done.status !== 0) throw new Error(`pg_ctl ${args.join(' ')}: ${done.output}`);
  }

  async waitUntilUp(): Promise<void> {
    for (let tries = 0; tries < 600; tries++) {
      try {
        await query(this.url, 'select 1');
        return;
      } catch {
        await sleep(50);
      }
    }
    throw new Error('the server did not come back');
  }

  async waitUntilDown(): Promise<void> {
    for (let tries = 0; existsSync(join(this.dataFolder, 'postmaster.pid')); tries++) {
      if (tries === 1200) throw new Error('the server did not go down');
      await sleep(50);
    }
  }

  /** Everything is as it was: the answer, the models, the data model's invariants. */
  async expectUnharmed(): Promise<void> {
    await this.waitUntilUp();
    expect(await query(this.url, ASK)).toEqual(this.answer);
    expect(await query(this.url, 'select name from hartonomous.model_list')).toEqual([{ name: MODEL }]);
    expect(await query(this.url, 'select * from hartonomous.check_integrity(false)')).toEqual([]);
  }
}
