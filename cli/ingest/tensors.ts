/**
 * Tensors as tiles. Only what the database does not hold yet is sent, in transactions of a bounded number of bytes: a
 * killed ingest loses at most one of them, and the next batch is read from the file while one is being sent.
 */
import type { FileHandle } from 'node:fs/promises';
import type pg from 'pg';
import { tensorDepth, tensorPlace, roleRank } from '../../plv8/src/format/tensor-names.ts';
import { rowsPerTile } from '../../plv8/src/format/tiles.ts';
import { hilbertEncode } from '../../plv8/src/hilbert/hilbert.ts';
import { CommandError } from '../errors.ts';
import type { ModelSource, SourceTensor } from '../sources/model-source.ts';
import { copyRows, int8 } from './copy-binary.ts';
import type { TensorDigest, Tile } from './digests.ts';

/** Bits of each coordinate of a tile's place: (layer, role, row block, column block). */
const HILBERT_BITS = 15;
const HILBERT_LIMIT = 2 ** HILBERT_BITS - 1;
const TILE_KIND = Buffer.from('tile');
/** Bytes of tiles in one transaction unless told otherwise; two batches stand in the client's memory. */
const BATCH_BYTES = 16 << 20;

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
  /** Tiles that the database lacked when the batch was made, with their bytes. */
  missing: { tile: Tile; content: Buffer }[];
  /** Tensors whose last tile is in this batch. */
  completed: Pending[];
  /** Tiles of the tensor that goes on in the next batch. */
  unfinished: Tile[];
  /** Bytes of tensors handled up to the end of this batch. */
  doneBytes: number;
}

async function readTile(file: FileHandle, tile: Tile, name: string): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(tile.bytes);
  for (let done = 0; done < tile.bytes;) {
    const { bytesRead } = await file.read(buffer, done, tile.bytes - done, tile.offset + done);
    if (bytesRead === 0)
      throw new CommandError(`file ends inside tensor ${name}: ${tile.bytes - done} bytes are missing`);
    done += bytesRead;
  }
  return buffer;
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

/** Hashes of the model's tiles that the database holds already. */
async function knownTiles(client: pg.Client, pending: readonly Pending[]): Promise<Set<string>> {
  const { rows } = await client.query<{ hash: Buffer }>(
    `select hash from hartonomous.atoms where kind = 'tile' and hash = any ($1::bytea[])`,
    [pending.flatMap(({ digest }) => digest.tiles.map((tile) => tile.hash))],
  );
  return new Set(rows.map((row) => row.hash.toString('hex')));
}

/** Cut the tensors into batches, reading the bytes of tiles that are not `known`. */
async function* batches(
  source: ModelSource,
  pending: readonly Pending[],
  known: Set<string>,
  startBytes: number,
  limit: number,
): AsyncGenerator<Batch> {
  let doneBytes = startBytes;
  let batch: Batch = { missing: [], completed: [], unfinished: [], doneBytes };
  let batchBytes = 0;
  const finish = (unfinished: Tile[]): Batch => {
    const done = { ...batch, unfinished, doneBytes };
    batch = { missing: [], completed: [], unfinished: [], doneBytes };
    batchBytes = 0;
    return done;
  };
  for (const item of pending) {
    const { tiles } = item.digest;
    for (const [i, tile] of tiles.entries()) {
      if (!known.has(hex(tile))) {
        known.add(hex(tile));
        batch.missing.push({
          tile,
          content: await readTile(source.files[item.tensor.file]!.handle, tile, item.tensor.name),
        });
        batchBytes += tile.bytes;
      }
      doneBytes += tile.bytes;
      if (batchBytes >= limit && i < tiles.length - 1) yield finish(tiles.slice(0, i + 1));
    }
    batch.completed.push(item);
    if (batchBytes >= limit) yield finish([]);
  }
  if (batch.completed.length > 0) yield finish([]);
}

/** Send the tiles of a batch; ids of all tiles it touches, by hash. */
async function sendTiles(client: pg.Client, batch: Batch): Promise<Map<string, string>> {
  const ids = new Map<string, string>();
  if (batch.missing.length > 0) {
    const reserved = await client.query<{ id: string }>(
      `select nextval('hartonomous.atom_id_seq') as id from generate_series(1, $1)`,
      [batch.missing.length],
    );
    batch.missing.forEach(({ tile }, i) => ids.set(hex(tile), reserved.rows[i]!.id));
    const rows = function* (): Generator<Buffer[]> {
      for (const { tile, content } of batch.missing)
        yield [TILE_KIND, int8(BigInt(ids.get(hex(tile))!)), tile.hash, int8(tile.bytes), content];
    };
    await copyRows(client, 'hartonomous.atoms (kind, id, hash, size_bytes, content)', rows());
  }
  const others = [...batch.completed.flatMap((item) => item.digest.tiles), ...batch.unfinished].filter(
    (tile) => !ids.has(hex(tile)),
  );
  const { rows } = await client.query<{ hash: Buffer; id: string }>(
    `select hash, id from hartonomous.atoms where kind = 'tile' and hash = any ($1::bytea[])`,
    [others.map((tile) => tile.hash)],
  );
  for (const row of rows) ids.set(row.hash.toString('hex'), row.id);
  return ids;
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

async function storeBatch(client: pg.Client, modelId: string, batch: Batch): Promise<number> {
  await client.query('begin');
  try {
    const ids = await sendTiles(client, batch);
    if (batch.completed.length > 0) await enterTensors(client, modelId, batch.completed, ids);
    await client.query('delete from hartonomous.ingest_tiles where model_id = $1', [modelId]);
    await client.query(
      `insert into hartonomous.ingest_tiles (model_id, tile_id) select distinct $1::bigint, id from unnest($2::bigint[]) as id`,
      [modelId, batch.unfinished.map((tile) => ids.get(hex(tile))!)],
    );
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
  return batch.missing.reduce((sum, { tile }) => sum + tile.bytes, 0);
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
  const known = await knownTiles(client, pending);
  const queue = batches(source, pending, known, startBytes, options.batchBytes ?? BATCH_BYTES);
  let sent = 0;
  let next = queue.next();
  for (;;) {
    const { value: batch, done } = await next;
    if (done === true) return sent;
    options.signal?.throwIfAborted();
    next = queue.next();
    next.catch(() => undefined); // reported when it is awaited, unless this batch fails first
    sent += await storeBatch(client, modelId, batch);
    options.onBytes?.(batch.doneBytes);
  }
}
