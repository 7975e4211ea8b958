/** An ingest that is killed, cut off, or runs out of disk: what was there stays, and the next run completes. */
import pg from 'pg';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { ingest } from '../../cli/ingest/ingest.ts';
import { verify } from '../../cli/ingest/verify.ts';
import { growDisk, releaseDisk, smallDisk } from '../faults/small-disk.ts';
import { ADMIN_URL, createDatabase, ingestFile } from '../db/harness.ts';
import { LONG } from '../long.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { FileFolder, llamaBytes } from '../unit/gguf-writer.ts';
import { hartonomous } from './program.ts';

const SEED = Number(process.env.FAULT_SEED ?? 1);
/** Each in its part of the time that an ingest takes. */
const KILLS = LONG ? 10 : 2;
const QWEN = modelPath('zoo/qwen2-tiny-f32.gguf');

/** Lehmer's generator. */
let state = (SEED * 7919) % 0x7fffffff || 1;
function random(): number {
  state = (state * 48271) % 0x7fffffff;
  return state / 0x7fffffff;
}

const folder = new FileFolder();
afterAll(() => folder.remove());
/** 45 MB in three batches and a bit. */
const file = folder.write(
  llamaBytes({ dim: 512, hidden: 1536, vocab: 16_384 }, () => random() - 0.5),
  'noise.gguf',
);

let database: TestDatabase;
beforeEach(async () => {
  database = await createDatabase();
});
afterEach(() => database.drop());

async function query(sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  return (await database.pool.query(sql, values)).rows as Record<string, unknown>[];
}

async function expectHealthy(): Promise<void> {
  expect(await query('select * from hartonomous.check_integrity()')).toEqual([]);
}

/** Tiles that are committed: id and bytes. */
async function committed(): Promise<Map<string, number>> {
  const rows = await query(`select id, size_bytes::int as bytes from hartonomous.atoms where kind = 'tile'`);
  return new Map(rows.map((row) => [String(row.id), Number(row.bytes)]));
}

function bytesOf(tiles: Map<string, number>): number {
  return [...tiles.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/** Run the ingest and kill it after some milliseconds; whether it died of that. Returns when the server has noticed. */
async function killedIngest(name: string, afterMs: number): Promise<boolean> {
  const { code } = await hartonomous(['ingest', file, '--name', name], {
    url: database.url,
    onStart: (child) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), afterMs);
      child.once('close', () => clearTimeout(timer));
    },
  });
  const others = `select from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
    and (state <> 'idle' or pid in (select pid from pg_locks where locktype = 'advisory'))`;
  for (let tries = 0; (await query(others)).length > 0; tries++) {
    expect(tries).toBeLessThan(600);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return code !== 0;
}

test(`killed at ${KILLS} random moments completes on repeat and sends no committed tile again`, async () => {
  const started = performance.now();
  expect((await hartonomous(['ingest', file, '--name', 'whole'], { url: database.url })).code).toBe(0);
  const whole = performance.now() - started;
  await query(`select hartonomous.remove_model('whole')`);
  let killed = 0;
  let resumed = 0;
  for (let i = 0; i < KILLS; i++) {
    const moment = ((i + random()) / KILLS) * whole;
    const name = `killed${i}`;
    const wasKilled = await killedIngest(name, moment);
    const what = `kill ${i} of seed ${SEED} after ${Math.round(moment)} ms`;
    // The last moments are after the model was published: then it is complete.
    const published = (await query('select name from hartonomous.model_list')).length > 0;
    const before = await committed();
    if (!wasKilled) expect(published, what).toBe(true);
    if (!published) {
      killed++;
      if (before.size > 0) resumed++;
    }
    await expectHealthy();
    const again = await hartonomous(['ingest', file, '--name', name, '--format', 'json'], { url: database.url });
    expect(again.code, `${what}: ${again.stderr}`).toBe(0);
    const after = await committed();
    for (const id of before.keys()) expect(after.has(id), what).toBe(true);
    const { sentBytes } = JSON.parse(again.stdout) as { sentBytes: number };
    expect(sentBytes, what).toBe(bytesOf(after) - bytesOf(before));
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    expect((await verify(client, name)).differences, what).toEqual([]);
    await client.end();
    await query('select hartonomous.remove_model($1)', [name]);
    expect((await committed()).size).toBe(0);
  }
  console.log(`${killed} of ${KILLS} were killed before they were through, ${resumed} of them with tiles committed`);
  expect(killed).toBeGreaterThan(KILLS / 3);
});

test('doctor --fix sweeps an abandoned one', async () => {
  const stop = new AbortController();
  await expect(
    ingestFile(database.url, file, 'left', {
      signal: stop.signal,
      onProgress: (phase, done) => void (phase === 'tensors' && done > 0 && stop.abort()),
    }),
  ).rejects.toThrow(/abort/);
  expect((await committed()).size).toBeGreaterThan(0);
  const told = await hartonomous(['doctor'], { url: database.url });
  expect(told.stdout).toMatch(
    /FAIL unfinished ingest\s+left -> ingest the same file again, or run: hartonomous doctor --fix/,
  );
  expect((await hartonomous(['doctor', '--fix'], { url: database.url })).stdout).toMatch(
    /unfinished ingest\s+left: swept/,
  );
  expect((await committed()).size).toBe(0);
  expect(await query('select * from hartonomous.models')).toEqual([]);
  await expectHealthy();
});

/** What the model says; the same as long as it is the same model. */
const LOGITS = `select hartonomous.logits(array[1, 2, 3], 'model') as logits`;

test('a connection that drops while a model is replaced leaves the one that was there', async () => {
  await ingestFile(database.url, QWEN, 'model');
  const before = await query(LOGITS);
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  client.on('error', () => undefined);
  const { stream } = (client as pg.Client & { connection: { stream: { destroy(): void } } }).connection;
  await expect(
    ingest(client, file, {
      name: 'model',
      replace: true,
      onProgress: (phase, done) => void (phase === 'tensors' && done > 0 && stream.destroy()),
    }),
  ).rejects.toThrow();
  expect(await query(LOGITS)).toEqual(before);
  await expectHealthy();
  const result = await ingestFile(database.url, file, 'model', { replace: true });
  expect(result.sentBytes).toBeLessThan(result.bytes);
  expect(await query('select name from hartonomous.model_list')).toEqual([{ name: 'model' }]);
  await expectHealthy();
});

test('a full disk is one error, and leaves the models that were there', async (context) => {
  const disk = smallDisk(44);
  if (disk === null) return context.skip();
  const admin = new pg.Client({ connectionString: ADMIN_URL });
  await admin.connect();
  const name = `small_${process.pid}`;
  const url = new URL(ADMIN_URL);
  url.pathname = `/${name}`;
  try {
    await admin.query(`create tablespace ${name} location '${disk}'`);
    await admin.query(`create database ${name} template hartonomous_template tablespace ${name}`);
    const small = url.toString();
    await ingestFile(small, QWEN, 'model');
    const client = new pg.Client({ connectionString: small });
    client.on('error', () => undefined);
    await client.connect();
    const rows = async (sql: string): Promise<unknown[]> => (await client.query(sql)).rows as unknown[];
    const before = await rows(LOGITS);
    const full = await hartonomous(['ingest', file, '--name', 'big'], { url: small });
    expect(full.code).toBe(1);
    expect(full.stderr).toMatch(/could not extend file .*: No space left on device/);
    expect(full.stderr).not.toMatch(/\n\s+at /);
    expect(await rows('select name from hartonomous.model_list')).toEqual([{ name: 'model' }]);
    expect(await rows(LOGITS)).toEqual(before);
    expect(await rows('select * from hartonomous.check_integrity()')).toEqual([]);
    // With room again the same command goes on.
    growDisk(disk, 160);
    const again = await hartonomous(['ingest', file, '--name', 'big'], { url: small });
    expect(again.code, again.stderr).toBe(0);
    expect((await verify(client, 'big')).differences).toEqual([]);
    expect(await rows('select * from hartonomous.check_integrity()')).toEqual([]);
    await client.end();
  } finally {
    await admin.query(`drop database if exists ${name} with (force)`);
    await admin.query(`drop tablespace if exists ${name}`);
    await admin.end();
    releaseDisk(disk);
  }
});
