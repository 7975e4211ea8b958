/** Tensors as tiles: only what the database does not hold yet is sent, and every tensor is committed by itself. */
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import type pg from 'pg';
import { tensorDepth, tensorPlace, roleRank } from '../../plv8/src/format/tensor-names.ts';
import { rowsPerTile } from '../../plv8/src/format/tiles.ts';
import { hilbertEncode } from '../../plv8/src/hilbert/hilbert.ts';
import { CommandError } from '../errors.ts';
import type { GgufHeader, GgufTensor } from '../sources/gguf.ts';
import { copyRows, int8 } from './copy-binary.ts';

/** Bits of each coordinate of a tile's place: (layer, role, row block, column block). */
const HILBERT_BITS = 15;
const TILE_KIND = Buffer.from('tile');

interface Tile {
  hash: Buffer;
  offset: number;
  bytes: number;
}

function readTile(fd: number, tile: { offset: number; bytes: number }, name: string): Buffer {
  const buffer = Buffer.allocUnsafe(tile.bytes);
  for (let done = 0; done < tile.bytes;) {
    const n = readSync(fd, buffer, done, tile.bytes - done, tile.offset + done);
    if (n === 0) throw new CommandError(`file ends inside tensor ${name}: ${tile.bytes - done} bytes are missing`);
    done += n;
  }
  return buffer;
}

/** Tensors in the order in which a forward pass reads them. */
function loadOrder(header: GgufHeader): number[] {
  const nLayers = Math.max(0, ...header.tensors.map((tensor) => (tensorPlace(tensor.name).layer ?? -1) + 1));
  const key = (index: number): [number, number] => {
    const place = tensorPlace(header.tensors[index]!.name);
    return [tensorDepth(place, nLayers), roleRank(place.role)];
  };
  return header.tensors
    .map((_, index) => index)
    .sort((a, b) => {
      const [depthA, rankA] = key(a);
      const [depthB, rankB] = key(b);
      return depthA - depthB || rankA - rankB || a - b;
    });
}

async function ingestTensor(
  client: pg.Client,
  fd: number,
  modelId: string,
  tensor: GgufTensor,
  digest: Buffer,
  ordinal: number,
  loadOrdinal: number,
): Promise<number> {
  const perTile = rowsPerTile(tensor.rowBytes);
  const tiles: Tile[] = [];
  for (let row = 0; row < tensor.rowCount; row += perTile) {
    const bytes = Math.min(perTile, tensor.rowCount - row) * tensor.rowBytes;
    const offset = tensor.offset + row * tensor.rowBytes;
    tiles.push({
      offset,
      bytes,
      hash: createHash('sha256')
        .update(readTile(fd, { offset, bytes }, tensor.name))
        .digest(),
    });
  }
  const place = tensorPlace(tensor.name);
  let sent = 0;
  await client.query('begin');
  try {
    const known = await client.query<{ hash: Buffer; id: string }>(
      `select hash, id from hartonomous.atoms where kind = 'tile' and hash = any ($1::bytea[])`,
      [tiles.map((tile) => tile.hash)],
    );
    const ids = new Map(known.rows.map((row) => [row.hash.toString('hex'), row.id]));
    const missing = [
      ...new Map(
        tiles.filter((tile) => !ids.has(tile.hash.toString('hex'))).map((tile) => [tile.hash.toString('hex'), tile]),
      ).values(),
    ];
    if (missing.length > 0) {
      const reserved = await client.query<{ id: string }>(
        `select nextval('hartonomous.atom_id_seq') as id from generate_series(1, $1)`,
        [missing.length],
      );
      missing.forEach((tile, i) => ids.set(tile.hash.toString('hex'), reserved.rows[i]!.id));
      const rows = function* (): Generator<Buffer[]> {
        for (const tile of missing) {
          sent += tile.bytes;
          yield [
            TILE_KIND,
            int8(BigInt(ids.get(tile.hash.toString('hex'))!)),
            tile.hash,
            int8(tile.bytes),
            readTile(fd, tile, tensor.name),
          ];
        }
      };
      await copyRows(client, 'hartonomous.atoms (kind, id, hash, size_bytes, content)', rows());
    }
    const composite = await client.query<{ id: string }>(
      `with added as (
         insert into hartonomous.atoms (kind, hash, size_bytes) values ('composite', $1, $2)
         on conflict (kind, hash) do nothing returning id)
       select id from added`,
      [digest, tensor.sizeBytes],
    );
    let atomId = composite.rows[0]?.id;
    if (atomId === undefined) {
      const found = await client.query<{ id: string }>(
        `select id from hartonomous.atoms where kind = 'composite' and hash = $1`,
        [digest],
      );
      atomId = found.rows[0]!.id;
    } else {
      const limit = 2 ** HILBERT_BITS - 1;
      await client.query(
        `insert into hartonomous.compositions (parent_kind, parent_id, ordinal, child_kind, child_id, hilbert)
         select 'composite', $1, t.ordinality - 1, 'tile', t.id, t.hilbert
         from unnest($2::bigint[], $3::bigint[]) with ordinality as t (id, hilbert, ordinality)`,
        [
          atomId,
          tiles.map((tile) => ids.get(tile.hash.toString('hex'))),
          tiles.map((_, i) =>
            hilbertEncode(
              [Math.min(limit, (place.layer ?? -1) + 1), Math.min(limit, roleRank(place.role)), Math.min(limit, i), 0],
              HILBERT_BITS,
            ).toString(),
          ),
        ],
      );
    }
    await client.query(
      `insert into hartonomous.weight_matrices (model_id, name, layer, role, storage_type, shape, row_count, row_bytes,
         rows_per_tile, size_bytes, atom_id, digest, ordinal, load_ordinal, source_offset)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
      [
        modelId,
        tensor.name,
        place.layer,
        place.role,
        tensor.type.name,
        tensor.shape,
        tensor.rowCount,
        tensor.rowBytes,
        perTile,
        tensor.sizeBytes,
        atomId,
        digest,
        ordinal,
        loadOrdinal,
        tensor.offset,
      ],
    );
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
  return sent;
}

/** Store every tensor the model does not have yet; the bytes that had to be sent. */
export async function ingestTensors(
  client: pg.Client,
  fd: number,
  modelId: string,
  header: GgufHeader,
  digests: readonly Buffer[],
  onBytes: (done: number) => void,
): Promise<number> {
  const present = await client.query<{ name: string }>(
    'select name from hartonomous.weight_matrices where model_id = $1',
    [modelId],
  );
  const have = new Set(present.rows.map((row) => row.name));
  let sent = 0;
  let done = 0;
  for (const [loadOrdinal, index] of loadOrder(header).entries()) {
    const tensor = header.tensors[index]!;
    if (!have.has(tensor.name))
      sent += await ingestTensor(client, fd, modelId, tensor, digests[index]!, index, loadOrdinal);
    done += tensor.sizeBytes;
    onBytes(done);
  }
  return sent;
}
