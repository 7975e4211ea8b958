/** What is on disk after a power cut, and after the disk of the write-ahead log was full. */
import { chownSync, cpSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { serverUser } from '../../cli/cluster/cluster.ts';
import { ingest } from '../../cli/ingest/ingest.ts';
import { verify } from '../../cli/ingest/verify.ts';
import { query } from '../scale/servers.ts';
import { FileFolder, llamaBytes } from '../unit/gguf-writer.ts';
import { childrenOf } from './kernel-threads.ts';
import { ASK, failure, FaultServer, isAlive, SMALL } from './server.ts';
import { growDisk, releaseDisk, smallDisk } from './small-disk.ts';

const SEGMENT_BYTES = 16n * 1024n * 1024n;
const RECORDED = ASK.replace('"raw"', '"record": true, "raw"');
const RUNS = 'select id, done_reason from hartonomous.run_list order by id';

let server: FaultServer;
const folder = new FileFolder();
/** 24 MB, more than one transaction of an ingest. */
const large = folder.write(
  llamaBytes({ dim: 512, hidden: 1536, vocab: 8192 }, (i) => ((i * 48271) % 65521) / 65521 - 0.5),
  'large.gguf',
);

beforeEach(async () => {
  server = await FaultServer.start(SMALL);
});
afterEach(() => server.cluster.destroy());

/**
 * End every process of the server in one instant, and take away what of the write-ahead log nobody had waited for the
 * disk to have: more than that a power cut cannot lose. Returns the bytes that were lost.
 */
async function cutPower(): Promise<number> {
  const witness = await server.open();
  const position = `select pg_current_wal_flush_lsn() - '0/0'::pg_lsn as flushed, pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() as lost,
    (select timeline_id from pg_control_checkpoint()) as timeline`;
  await witness.client.query(position); // what the query needs of the catalog is known from here on
  const postmaster = Number(readFileSync(join(server.dataFolder, 'postmaster.pid'), 'utf8').split('\n')[0]);
  process.kill(postmaster, 'SIGSTOP');
  let children: number[];
  let positions: { flushed: string; lost: string; timeline: number } | undefined;
  do {
    children = childrenOf(postmaster);
    const others = children.filter((pid) => pid !== witness.pid);
    for (const pid of others) process.kill(pid, 'SIGSTOP');
    const asked = witness.client.query<{ flushed: string; lost: string; timeline: number }>(position);
    positions = (await Promise.race([asked, sleep(1000, null)]))?.rows[0];
    if (positions === undefined) {
      // One of them was stopped while it held a lock that the query waits for: they go on, and are stopped at another moment.
      for (const pid of others) process.kill(pid, 'SIGCONT');
      await asked;
    }
  } while (positions === undefined);
  for (const pid of [...children, postmaster]) process.kill(pid, 'SIGKILL');
  while ([...children, postmaster].some(isAlive)) await sleep(10);
  await witness.client.end().catch(() => undefined);

  const { flushed, lost, timeline } = positions;
  const end = BigInt(flushed);
  const hexadecimal = (value: bigint): string => value.toString(16).toUpperCase().padStart(8, '0');
  // The file of the last byte that is there, which may be the last of its file.
  const segment = (end - 1n) / SEGMENT_BYTES;
  const perFile = 0x1_0000_0000n / SEGMENT_BYTES;
  const last = hexadecimal(BigInt(timeline)) + hexadecimal(segment / perFile) + hexadecimal(segment % perFile);
  const wal = join(server.dataFolder, 'pg_wal');
  for (const name of readdirSync(wal)) if (/^[0-9A-F]{24}$/.test(name) && name > last) rmSync(join(wal, name));
  truncateSync(join(wal, last), Number(end - segment * SEGMENT_BYTES));
  truncateSync(join(wal, last), Number(SEGMENT_BYTES)); // the rest is zeros
  return Number(lost);
}

describe('the power is cut', () => {
  test('in an ingest and after a recorded run: the run is there, nothing of the ingest is visible, and the repeat completes', async () => {
    const { client } = await server.open();
    await client.query(RECORDED);
    const runs = await query(server.url, RUNS);
    expect(runs).toHaveLength(1);
    let lost = -1;
    let cutting: Promise<void> | null = null;
    const cut = async (): Promise<void> => {
      lost = await cutPower();
    };
    await failure(
      ingest(client, large, {
        name: 'second',
        onProgress: (phase, done) => void (phase === 'tensors' && done > 0 && (cutting ??= cut())),
      }),
    );
    await cutting;
    console.log(`${lost} bytes of the log were lost`);
    expect(lost).toBeGreaterThanOrEqual(0);
    await server.cluster.up();
    await server.expectUnharmed();
    expect(await query(server.url, RUNS)).toEqual(runs);
    const again = await server.open();
    await ingest(again.client, large, { name: 'second' });
    expect(await verify(again.client, 'second')).toMatchObject({ differences: [] });
    await again.client.query(`select hartonomous.remove_model('second')`);
    await again.client.end();
    await server.expectUnharmed();
  });
});

describe('the disk is full', () => {
  test('of the write-ahead log: the server stops, and with room it starts and has everything', async (context) => {
    const disk = smallDisk(64);
    if (disk === null) return context.skip();
    try {
      server.cluster.down();
      const wal = join(server.dataFolder, 'pg_wal');
      cpSync(wal, join(disk, 'wal'), { recursive: true });
      renameSync(wal, `${wal}.before`);
      symlinkSync(join(disk, 'wal'), wal);
      const { uid, gid } = serverUser();
      if (uid !== undefined && gid !== undefined) {
        for (const name of ['', ...readdirSync(join(disk, 'wal'), { recursive: true, encoding: 'utf8' })])
          chownSync(join(disk, 'wal', name), uid, gid);
      }
      await server.cluster.up();
      const { client } = await server.open();
      await client.query(RECORDED);
      const runs = await query(server.url, RUNS);
      const ended = await failure(
        (async () => {
          for (let i = 0; i < 10; i++) {
            await ingest(client, large, { name: 'second', replace: true });
            await client.query(`select hartonomous.remove_model('second')`);
          }
        })(),
      );
      expect(ended).toMatch(/Connection terminated|57P0|ECONNRESET|53100/);
      expect(readFileSync(join(server.cluster.home, 'postgresql.log'), 'utf8')).toMatch(/No space left on device/);
      growDisk(disk, 600);
      await sleep(1000);
      await server.cluster.up();
      await server.waitUntilUp();
      const again = new pg.Client({ connectionString: server.url });
      await again.connect();
      await ingest(again, large, { name: 'second', replace: true });
      expect(await verify(again, 'second')).toMatchObject({ differences: [] });
      await again.query(`select hartonomous.remove_model('second')`);
      await again.end();
      await server.expectUnharmed();
      expect(await query(server.url, RUNS)).toEqual(runs);
    } finally {
      server.cluster.down();
      releaseDisk(disk);
    }
  });
});
