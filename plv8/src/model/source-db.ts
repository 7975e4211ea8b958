import { eachRow, query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { RowAssembler } from '../format/tiles.ts';
import type { TensorInfo, WeightSource } from './source.ts';

/** Tiles in transit at once; each is about 1 MiB. */
const TILES_PER_FETCH = 4;

/** A ready model's tensors, read through one cursor in the order in which they were stored; `read` is told of every tile. */
export function dbWeightSource(
  modelId: number,
  read: (bytes: number, of: number) => void = () => undefined,
): WeightSource {
  const rows = query(
    `select name, storage_type, array_to_json(shape) as shape, row_bytes, sum(size_bytes) over ()::float8 as model_bytes
     from hartonomous.weight_matrices where model_id = $1::bigint order by load_ordinal`,
    [modelId],
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
      let current = '';
      let assembler = new RowAssembler(1);
      eachRow(
        `select m.name, a.content
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
          if (known.tensor.name !== current) {
            current = known.tensor.name;
            assembler = new RowAssembler(known.rowBytes);
          }
          const content = row.content as Uint8Array;
          assembler.add(content, (firstRow, bytes) => visit(known.tensor, firstRow, bytes));
          read(content.length, Number(rows[0]?.model_bytes));
        },
      );
    },
  };
}
