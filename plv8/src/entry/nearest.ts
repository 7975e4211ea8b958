/** embedding, nearest_tokens and store_nearest. */
import { execute, returnNext } from '../db.ts';
import { embeddingOf, nearest, tokenNamed } from '../embed/nearest.ts';
import { currentCatalog, useTokenizer } from '../backend/registry.ts';
import { shownToken } from '../generate/request.ts';

export function embedding(token: string | null, model: string | null): number[] | null {
  if (token === null) return null;
  const { tokenizer, description } = useTokenizer(currentCatalog(), model);
  return Array.from(embeddingOf(description.id, tokenNamed(tokenizer, description.id, token)));
}

export function nearestTokens(token: string | null, k: number | null, model: string | null, method: string): void {
  if (token === null || k === null) return;
  const { tokenizer, neighbours } = nearest(token, k, model, method);
  for (const { id, cosine } of neighbours) returnNext({ token: shownToken(tokenizer, id), token_id: id, cosine });
}

/** Make the neighbours of tokens edges of kind `nearest`; how many edges there are new or changed. */
export function storeNearest(
  tokens: (string | null)[] | null,
  k: number,
  model: string | null,
  method: string,
): number {
  let stored = 0;
  for (const token of tokens ?? []) {
    if (token === null) continue;
    const { modelId, id, neighbours } = nearest(token, k, model, method);
    // Two ids may have one spelling, and so one atom.
    stored += execute(
      `insert into hartonomous.relations (model_id, kind, from_id, to_id, weight)
       select distinct on (f.atom_id, t.atom_id) $1::bigint, 'nearest', f.atom_id, t.atom_id, n.cosine
       from unnest($3::integer[], $4::float8[]) as n (id, cosine)
       join hartonomous.tokens f on f.model_id = $1::bigint and f.token_id = $2::integer
       join hartonomous.tokens t on t.model_id = $1::bigint and t.token_id = n.id
       where t.atom_id <> f.atom_id order by f.atom_id, t.atom_id, n.cosine desc
       on conflict (model_id, kind, from_id, to_id) do update set weight = excluded.weight`,
      [modelId, id, neighbours.map((neighbour) => neighbour.id), neighbours.map((neighbour) => neighbour.cosine)],
    );
  }
  return stored;
}
