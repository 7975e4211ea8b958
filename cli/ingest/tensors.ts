/**
 * Tensors as tiles. Only what the database does not hold yet is sent, in transactions of a bounded number of bytes: a
 * killed ingest loses at most one of them, and the next batch is read from the file while one is being sent.
 */
import type { FileHandle } from 'node:fs/promises';
import type pg from 'pg';
import { tensorDepth, tensorPlace, roleRank } from '../../plv8/src/format/tensor-names.ts';
import { rowsPerTile, TILE_TARGET_BYTES } from '../../plv8/src/format/tiles.ts';
import { hilbertEncode } from '../../plv8/src/hilbert/hilbert.ts';
import { CommandError } from '../errors.ts';
import type { ModelSource, SourceTensor } from '../sources/model-source.ts';
import { copyChunks, int8, rowBefore } from './copy-binary.ts';
import type { TensorDigest, Tile } from './digests.ts';

/** Bits of each coordinate of a tile's place: (layer, role, row block, column block). */
const HILBERT_BITS = 15;
const HILBERT_LIMIT = 2 ** HILBERT_BITS - 1;
const TILE_KIND = Buffer.from('tile');
/** Bytes of tiles in one transaction unless told otherwise; two batches stand in the client's memory. */
const BATCH_BYTES = 16 << 20;
/** More than the parts of a tile's row that are not its content. */
const ROW_OVERHEAD = 128;
const SEND_BYTES = 1 << 20;

/** A tensor on its way into the database. */
interface Pending {
  tensor: SourceTensor;
  digest: TensorDigest;
  /** Place among the tensors of the source. */
  ordinal: number;
  /** Place in the order of reading. */
  loadOrdinal: number;
}

/** Work of one transaction. */
interface Batch {
  /** Rows for COPY of the tiles that the database lacks; the memory is used again two batches later. */
  rows: Buffer;
  /** Bytes of these tiles. */
  sentBytes: number;
  /** Tensors whose last tile is in this batch. */
  completed: Pending[];
  /** Tiles in this batch of the tensor that goes on in the next one. */
  unfinished: Tile[];
  /** Bytes of tensors handled up to the end of this batch. */
  doneBytes: number;
}

async function readTile(file: FileHandle, tile: Tile, name: string, into: Buffer): Promise<void> {
  for (let done = 0; done < tile.bytes;) {
    const { bytesRead } = await file.read(into, done, tile.bytes - done, tile.offset + done);
    if (bytesRead === 0)
      throw new CommandError(`file ends inside tensor ${name}: ${tile.bytes - done} bytes are missing`);
    done += bytesRead;
  }
}

/** Tensors in the order in which a forward pass reads them. */
function loadOrder(source: ModelSource): number[] {
  const nLayers = Math.max(0, ...source.tensors.map((tensor) => (tensorPlace(tensor.name).layer ?? -1) + 1));
  const key = (index: number): [number, number] => {
    const place = tensorPlace(source.tensors[index]!.name);
    return [tensorDepth(place, nLayers), roleRank(place.role)];
  };
  return source.tensors
    .map((_, index) => index)
    .sort((a, b) => {
      const [depthA, rankA] = key(a);
      const [depthB, rankB] = key(b);
      return depthA - depthB || rankA - rankB || a - b;
    });
}

function hex(tile: Tile): string {
  return tile.hash.toString('hex');
}

/** What is known of the tiles of a model: their ids by hash, and the hashes that have to be sent. */
interface TileIds {
  ids: Map<string, string>;
  missing: Set<string>;
}

/** Find the tiles that the database holds already, and reserve ids for the others. */
async function findTiles(client: pg.Client, pending: readonly Pending[]): Promise<TileIds> {
  const tiles = new Map(pending.flatMap(({ digest }) => digest.tiles.map((tile) => [hex(tile), tile.hash])));
  const held = await client.query<{ hash: Buffer; id: string }>(
    `select hash, id from hartonomous.atoms where kind = 'tile' and hash = any ($1::bytea[])`,
    [[...tiles.values()]],
  );
  const ids = new Map(held.rows.map((row) => [row.hash.toString('hex'), row.id]));
  const missing = new Set([...tiles.keys()].filter((hash) => !ids.has(hash)));
  const reserved = await client.query<{ id: string }>(
    `select nextval('hartonomous.atom_id_seq') as id from generate_series(1, $1)`,
    [missing.size],
  );
  [...missing].forEach((hash, i) => ids.set(hash, reserved.rows[i]!.id));
  return { ids, missing };
}

/** Cut the tensors into batches, reading the bytes of tiles that are missing. */
async function* batches(
  source: ModelSource,
  pending: readonly Pending[],
  { ids, missing }: TileIds,
  startBytes: number,
  limit: number,
): AsyncGenerator<Batch> {
  const capacity = limit + TILE_TARGET_BYTES + ROW_OVERHEAD;
  const buffers = [Buffer.allocUnsafe(capacity), Buffer.allocUnsafe(capacity)] as const;
  let turn = 0;
  let used = 0;
  let sentBytes = 0;
  let doneBytes = startBytes;
  let completed: Pending[] = [];
  const toSend = new Set(missing);
  const finish = (unfinished: Tile[]): Batch => {
    const batch = { rows: buffers[turn & 1]!.subarray(0, used), sentBytes, completed, unfinished, doneBytes };
    turn++;
    used = sentBytes = 0;
    completed = [];
    return batch;
  };
  for (const item of pending) {
    const { tiles } = item.digest;
    let first = 0;
    for (const [i, tile] of tiles.entries()) {
      if (toSend.delete(hex(tile))) {
        const buffer = buffers[turn & 1]!;
        const before = rowBefore(
          [TILE_KIND, int8(BigInt(ids.get(hex(tile))!)), tile.hash, int8(tile.bytes)],
          tile.bytes,
        );
        used += before.copy(buffer, used);
        const content = buffer.subarray(used, used + tile.bytes);
        await readTile(source.files[item.tensor.file]!.handle, tile, item.tensor.name, content);
        used += tile.bytes;
        sentBytes += tile.bytes;
      }
      doneBytes += tile.bytes;
      if (used >= limit && i < tiles.length - 1) {
        yield finish(tiles.slice(first, i + 1));
        first = i + 1;
      }
    }
    completed.push(item);
    if (used >= limit) yield finish([]);
  }
  if (completed.length > 0) yield finish([]);
}

async function sendTiles(client: pg.Client, rows: Buffer): Promise<void> {
  const chunks = function* (): Generator<Buffer> {
    for (let at = 0; at < rows.length; at += SEND_BYTES) yield rows.subarray(at, at + SEND_BYTES);
  };
  await copyChunks(client, 'hartonomous.atoms (kind, id, hash, size_bytes, content)', chunks());
}

/** Make the composites that are new, put their tiles in order, and enter the tensors. */
async function enterTensors(
  client: pg.Client,
  modelId: string,
  completed: readonly Pending[],
  ids: ReadonlyMap<string, string>,
): Promise<void> {
  const composites = await client.query<{ id: string; hash: Buffer; is_new: boolean }>(
    `with wanted as (select distinct t.hash, t.bytes from unnest($1::bytea[], $2::bigint[]) as t (hash, bytes)),
     added as (
       insert into hartonomous.atoms (kind, hash, size_bytes) select 'composite', hash, bytes from wanted
       on conflict (kind, hash) do nothing returning id, hash)
     select id, hash, true as is_new from added
     union all
     select a.id, a.hash, false from hartonomous.atoms a join wanted w on w.hash = a.hash where a.kind = 'composite'`,
    [completed.map((item) => item.digest.digest), completed.map((item) => item.tensor.sizeBytes)],
  );
  const byHash = new Map(composites.rows.map((row) => [row.hash.toString('hex'), row]));
  const parents: string[] = [];
  const ordinals: number[] = [];
  const children: string[] = [];
  const places: string[] = [];
  for (const { tensor, digest } of completed) {
    const composite = byHash.get(digest.digest.toString('hex'))!;
    if (!composite.is_new) continue;
    composite.is_new = false;
    const place = tensorPlace(tensor.name);
    const layer = Math.min(HILBERT_LIMIT, (place.layer ?? -1) + 1);
    const role = Math.min(HILBERT_LIMIT, roleRank(place.role));
    digest.tiles.forEach((tile, i) => {
      parents.push(composite.id);
      ordinals.push(i);
      children.push(ids.get(hex(tile))!);
      places.push(hilbertEncode([layer, role, Math.min(HILBERT_LIMIT, i), 0], HILBERT_BITS).toString());
    });
  }
  await client.query(
    `insert into hartonomous.compositions (parent_kind, parent_id, ordinal, child_kind, child_id, hilbert)
     select 'composite', t.parent, t.ordinal, 'tile', t.child, t.hilbert
     from unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[]) as t (parent, ordinal, child, hilbert)`,
    [parents, ordinals, children, places],
  );
  await client.query(
    `insert into hartonomous.weight_matrices (model_id, name, layer, role, storage_type, shape, row_count, row_bytes,
       rows_per_tile, size_bytes, atom_id, digest, ordinal, load_ordinal, source_offset, source_file, source_name)
     select $1, t.name, t.layer, t.role, t.storage_type, t.shape::bigint[], t.row_count, t.row_bytes, t.rows_per_tile,
       t.size_bytes, t.atom_id, decode(t.digest, 'hex'), t.ordinal, t.load_ordinal, t.source_offset,
       t.source_file, t.source_name
     from jsonb_to_recordset($2::jsonb) as t (name text, layer integer, role text, storage_type text, shape text,
       row_count bigint, row_bytes bigint, rows_per_tile integer, size_bytes bigint, atom_id bigint, digest text,
       ordinal integer, load_ordinal integer, source_offset bigint, source_file integer, source_name text)`,
    [
      modelId,
      JSON.stringify(
        completed.map(({ tensor, digest, ordinal, loadOrdinal }) => ({
          name: tensor.name,
          ...tensorPlace(tensor.name),
          storage_type: tensor.type.name,
          shape: `{${tensor.shape.join(',')}}`,
          row_count: tensor.rowCount,
          row_bytes: tensor.rowBytes,
          rows_per_tile: rowsPerTile(tensor.rowBytes),
          size_bytes: tensor.sizeBytes,
          atom_id: byHash.get(digest.digest.toString('hex'))!.id,
          digest: digest.digest.toString('hex'),
          ordinal,
          load_ordinal: loadOrdinal,
          source_offset: tensor.offset,
          source_file: tensor.file,
          source_name: tensor.sourceName,
        })),
      ),
    ],
  );
}

/** Keep the tiles of the tensor that is being sent referred to: those of one that is complete have their composite. */
async function referToUnfinished(
  client: pg.Client,
  modelId: string,
  batch: Batch,
  ids: ReadonlyMap<string, string>,
): Promise<void> {
  if (batch.completed.length > 0)
    await client.query('delete from hartonomous.ingest_tiles where model_id = $1', [modelId]);
  if (batch.unfinished.length > 0)
    await client.query(
      `insert into hartonomous.ingest_tiles (model_id, tile_id) select distinct $1::bigint, id from unnest($2::bigint[]) as id
       on conflict do nothing`,
      [modelId, batch.unfinished.map((tile) => ids.get(hex(tile))!)],
    );
}

async function storeBatch(
  client: pg.Client,
  modelId: string,
  batch: Batch,
  ids: ReadonlyMap<string, string>,
): Promise<void> {
  // A crash of the server may lose the last of these transactions, never one before it; publishing waits for the disk.
  await client.query('begin; set local synchronous_commit = off');
  try {
    if (batch.rows.length > 0) await sendTiles(client, batch.rows);
    if (batch.completed.length > 0) await enterTensors(client, modelId, batch.completed, ids);
    await referToUnfinished(client, modelId, batch, ids);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}

export interface TensorOptions {
  /** Bytes of tiles in one transaction. */
  batchBytes?: number;
  onBytes?(done: number): void;
  signal?: AbortSignal;
}

/** Store every tensor the model does not have yet; the bytes that had to be sent. */
export async function ingestTensors(
  client: pg.Client,
  source: ModelSource,
  modelId: string,
  digests: readonly TensorDigest[],
  options: TensorOptions = {},
): Promise<number> {
  const present = await client.query<{ name: string }>(
    'select name from hartonomous.weight_matrices where model_id = $1',
    [modelId],
  );
  const have = new Set(present.rows.map((row) => row.name));
  const all = loadOrder(source).map((index, loadOrdinal): Pending => {
    return { tensor: source.tensors[index]!, digest: digests[index]!, ordinal: index, loadOrdinal };
  });
  const pending = all.filter(({ tensor }) => !have.has(tensor.name));
  const startBytes = all.reduce((sum, { tensor }) => sum + (have.has(tensor.name) ? tensor.sizeBytes : 0), 0);
  const tiles = await findTiles(client, pending);
  const queue = batches(source, pending, tiles, startBytes, options.batchBytes ?? BATCH_BYTES);
  let sent = 0;
  options.onBytes?.(startBytes);
  let next = queue.next();
  for (;;) {
    const { value: batch, done } = await next;
    if (done === true) return sent;
    options.signal?.throwIfAborted();
    next = queue.next();
    next.catch(() => undefined); // reported when it is awaited, unless this batch fails first
    await storeBatch(client, modelId, batch, tiles.ids);
    sent += batch.sentBytes;
    options.onBytes?.(batch.doneBytes);
  }
}
