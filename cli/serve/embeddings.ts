import type { BackendPool } from './backends.ts';

export interface Embeddings {
  /** (inputs, width) */
  vectors: number[][];
  promptTokens: number;
}

/** Embeddings of texts, computed together, and the tokens these texts have. */
export async function embeddings(
  pool: BackendPool,
  model: string,
  inputs: string[],
  options: Record<string, unknown>,
  signal: AbortSignal,
): Promise<Embeddings> {
  return pool.use('', signal, (backend) =>
    backend.request(signal, async () => {
      const { rows } = await backend.client.query<{ embedding: number[]; tokens: number }>(
        `select e.embedding, hartonomous.token_count(i.input, $2) as tokens
         from hartonomous.embed($1::text[], $2, $3) e
         join unnest($1::text[]) with ordinality as i (input, ord) on i.ord = e.ord
         order by e.ord`,
        [inputs, model, JSON.stringify(options)],
      );
      return {
        vectors: rows.map((row) => row.embedding),
        promptTokens: rows.reduce((sum, row) => sum + row.tokens, 0),
      };
    }),
  );
}
