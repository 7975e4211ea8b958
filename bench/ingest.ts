/**
 * Ingest beside a plain binary COPY of the same bytes in the same chunks, in one run, in a cluster of its own.
 *   npx tsx bench/ingest.ts [FILE.gguf]     the random Qwen2.5-0.5B of `npm run bench` by default
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';
import { copyRows, int8 } from '../cli/ingest/copy-binary.ts';
import { ingest } from '../cli/ingest/ingest.ts';
import { install } from '../cli/install/install.ts';
import { randomModel } from './random-model.ts';
import { median } from './statistics.ts';

const CHUNK_BYTES = 1 << 20;
const BATCH_CHUNKS = 16;

const seconds = (from: number, to: number): number => (to - from) / 1000;

/** Seconds to copy the file in rows of a megabyte, one statement for sixteen of them. */
async function plainCopy(client: pg.Client, path: string): Promise<number> {
  await client.query('create table plain (id bigint primary key, content bytea)');
  await client.query('alter table plain alter column content set storage external');
  const file = await open(path, 'r');
  const buffer = Buffer.allocUnsafe(BATCH_CHUNKS * CHUNK_BYTES);
  const started = performance.now();
  for (let id = 0, ended = false; !ended;) {
    const rows: Buffer[][] = [];
    while (rows.length < BATCH_CHUNKS && !ended) {
      const content = buffer.subarray(rows.length * CHUNK_BYTES, (rows.length + 1) * CHUNK_BYTES);
      const { bytesRead } = await file.read(content, 0, CHUNK_BYTES, id * CHUNK_BYTES);
      ended = bytesRead < CHUNK_BYTES;
      if (bytesRead > 0) rows.push([int8(id++), content.subarray(0, bytesRead)]);
    }
    if (rows.length > 0) await copyRows(client, 'plain (id, content)', rows);
  }
  const ended = performance.now();
  await file.close();
  await client.query('drop table plain');
  return seconds(started, ended);
}

const path = process.argv[2] ?? randomModel('qwen2.5-0.5b-q8_0');
const home = mkdtempSync(join(tmpdir(), 'hartonomous-bench-'));
chmodSync(home, 0o755);
mkdirSync(join(home, 'cluster'));
const cluster = new Cluster(join(home, 'cluster'));
try {
  await cluster.up();
  const client = new pg.Client({ connectionString: cluster.url('postgres') });
  await client.connect();
  await install(client);
  const copies = [await plainCopy(client, path)];
  const began = new Map<string, number>();
  const started = performance.now();
  const result = await ingest(client, path, {
    name: 'bench',
    onProgress: (phase) => {
      if (!began.has(phase)) began.set(phase, performance.now());
    },
  });
  const first = seconds(started, performance.now());
  const clientBytes = process.resourceUsage().maxRSS * 1024;
  const at = (phase: string): number => began.get(phase) ?? NaN;
  const tensorPhase = seconds(at('hash'), at('vocabulary')) + seconds(at('tensors'), at('embeddings'));
  const tokens = seconds(at('vocabulary'), at('tensors'));
  const again = performance.now();
  await ingest(client, path, { name: 'bench' });
  const second = seconds(again, performance.now());
  copies.push(await plainCopy(client, path));
  const size = async (tables: string[]): Promise<number> => {
    const { rows } = await client.query<{ bytes: string }>(
      `select sum(pg_total_relation_size(('hartonomous.' || name)::regclass)) as bytes from unnest($1::text[]) as name`,
      [tables],
    );
    return Number(rows[0]!.bytes);
  };
  const tileBytes = await size(['atoms_tile']);
  const tokenBytes = await size([
    'atoms_token',
    'compositions_token',
    'tokens',
    'relations',
    'token_embeddings',
    'source_files',
  ]);
  await client.end();
  console.log(
    JSON.stringify(
      {
        bytes: result.bytes,
        tokens: result.tokens,
        firstSeconds: first,
        tensorPhaseSeconds: tensorPhase,
        plainCopySeconds: copies,
        rateOfPlainCopy: median(copies) / tensorPhase,
        tokensSeconds: tokens,
        secondSeconds: second,
        secondOfFirst: second / first,
        clientMegabytes: clientBytes / 1e6,
        tilesOfTensorBytes: tileBytes / result.bytes,
        tokenTablesMegabytes: tokenBytes / 1e6,
      },
      null,
      2,
    ),
  );
} finally {
  cluster.destroy();
  rmSync(home, { recursive: true, force: true });
}
