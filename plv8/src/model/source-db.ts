import { eachRow, query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { TensorInfo, WeightSource } from './source.ts';

/** Tiles in transit at once; each is about 1 MiB. */
const TILES_PER_FETCH = 4;

/** A ready model's tensors, read through one cursor in the order in which they were stored. */
export function dbWeightSource(modelId: number): WeightSource {
  const rows = query(
    `select name, storage_type, array_to_json(shape) as shape, rows_per_tile
     from hartonomous.weight_matrices where model_id = $1::bigint order by load_ordinal`,
    [modelId],
  );
  const tensors = rows.map((row): TensorInfo => ({
    name: String(row.name),
    type: String(row.storage_type),
    shape: (row.shape as unknown[]).map(Number),
  }));
  const byName = new Map(
    tensors.map((tensor, i) => [tensor.name, { tensor, rowsPerTile: Number(rows[i]?.rows_per_tile) }]),
  );
  return {
    tensors: () => tensors,
    eachTile(visit) {
      eachRow(
        `select m.name, c.ordinal, a.content
         from hartonomous.weight_matrices m
         join hartonomous.compositions c on c.parent_kind = 'composite' and c.parent_id = m.atom_id
         join hartonomous.atoms a on a.kind = 'tile' and a.id = c.child_id
         where m.model_id = $1 order by m.load_ordinal, c.ordinal`,
        ['bigint'],
        [modelId],
        TILES_PER_FETCH,
        (row) => {
          const known = byName.get(String(row.name));
          if (known === undefined) raise(SQLSTATE.dataCorrupted, `tensor ${String(row.name)} appeared while loading`);
          visit(known.tensor, Number(row.ordinal) * known.rowsPerTile, row.content as Uint8Array);
        },
      );
    },
  };
}
