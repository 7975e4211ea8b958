import { eachRow, query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { OTHER_PARTS } from '../format/tensor-names.ts';
import { RowAssembler } from '../format/tiles.ts';
import type { TensorInfo, WeightSource } from './source.ts';

/** Tiles in transit at once; each is about 1 MiB. */
const TILES_PER_FETCH = 4;

/** Call `visit` with the content of every tile, in the order of `ids`. Throws dataCorrupted where one is gone. */
export function eachTile(ids: readonly number[], visit: (content: Uint8Array, index: number) => void): void {
  let index = 0;
  eachRow(
    `select a.content || ''::bytea as content from unnest($1::bigint[]) with ordinality as k (id, place)
     left join hartonomous.atoms a on a.kind = 'tile' and a.id = k.id order by k.place`,
    ids,
    TILES_PER_FETCH,
    (row) => {
      if (row.content === null) raise(SQLSTATE.dataCorrupted, `tile ${ids[index]} does not exist`);
      visit(row.content as Uint8Array, index++);
    },
  );
}

/** A ready model's tensors but those of other parts than the text model, whose tiles are read in the order in which they were stored; `read` is told of every tile. */
export function dbWeightSource(
  modelId: number,
  read: (bytes: number, of: number) => void = () => undefined,
): WeightSource {
  const rows = query(
    `select name, storage_type, array_to_json(shape) as shape, row_bytes, sum(size_bytes) over ()::float8 as model_bytes
     from hartonomous.weight_matrices where model_id = $1::bigint and name !~ $2::text order by load_ordinal`,
    [modelId, OTHER_PARTS],
  );
  const tensors = rows.map((row): TensorInfo => ({
    name: String(row.name),
    type: String(row.storage_type),
    shape: (row.shape as unknown[]).map(Number),
  }));
  const byName = new Map(tensors.map((tensor, i) => [tensor.name, { tensor, rowBytes: Number(rows[i]?.row_bytes) }]));
  return {
    tensors: () => tensors,
    eachTile(visit) {
      const tiles = query(
        `select m.name, c.child_id::float8 as id
         from hartonomous.weight_matrices m
         join hartonomous.compositions c on c.parent_kind = 'composite' and c.parent_id = m.atom_id
         where m.model_id = $1::bigint and m.name !~ $2::text order by m.load_ordinal, c.ordinal`,
        [modelId, OTHER_PARTS],
      );
      let current = '';
      let assembler = new RowAssembler(1);
      eachTile(
        tiles.map((tile) => Number(tile.id)),
        (content, index) => {
          const name = String(tiles[index]!.name);
          const known = byName.get(name);
          if (known === undefined) raise(SQLSTATE.dataCorrupted, `tensor ${name} appeared while loading`);
          if (name !== current) {
            current = name;
            assembler = new RowAssembler(known.rowBytes);
          }
          assembler.add(content, (firstRow, bytes) => visit(known.tensor, firstRow, bytes));
          read(content.length, Number(rows[0]?.model_bytes));
        },
      );
    },
  };
}
