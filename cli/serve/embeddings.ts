import type { Backends } from './backends.ts';

export interface Embeddings {
  /** (inputs, width) */
  vectors: number[][];
  promptTokens: number;
}

/** Embeddings of texts, computed together, and the tokens that the model read. */
export async function embeddings(
  pool: Backends,
  model: string,
  inputs: string[],
  options: Record<string, unknown>,
  signal: AbortSignal,
): Promise<Embeddings> {
  return pool.use('', signal, (backend) =>
    backend.request(signal, async () => {
      const { rows } = await backend.client.query<{ embedding: number[]; tokens: number }>(
        `select embedding, prompt_eval_count as tokens from hartonomous.embed($1::text[], $2, $3) order by ord`,
        [inputs, model, JSON.stringify(options)],
      );
      return {
        vectors: rows.map((row) => row.embedding),
        promptTokens: rows.reduce((sum, row) => sum + row.tokens, 0),
      };
    }),
  );
}
