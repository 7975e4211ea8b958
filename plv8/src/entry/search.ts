/** chunk, and the vectors of a search where there is no pgvector. */
import { poll, returnNext } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { currentCatalog, useTokenizer } from '../backend/registry.ts';
import { chunkText } from '../embed/chunk/chunk.ts';
import { parseChunkOptions } from '../embed/chunk/chunk-options.ts';
import { innerProduct } from '../embed/inner-product.ts';
import { Ranking } from '../embed/nearest.ts';

/** Most tokens of a chunk where nobody says how many: what models for embeddings are trained with. */
const USUAL_TOKENS = 256;
/** Tokens that are left for what goes before a text. */
const FOR_PREFIX = 16;

export function chunk(input: string | null, model: string | null, given: Record<string, unknown> | null): void {
  if (input === null) return;
  const options = parseChunkOptions(given ?? {});
  const { tokenizer, description } = useTokenizer(currentCatalog(), model, 'auto', 'embedding');
  const { architecture, hyperparameters } = description;
  const reads = Number(
    hyperparameters['hartonomous.embedding.max_tokens'] ?? hyperparameters[`${architecture}.context_length`],
  );
  const special = tokenizer.encode('', { addSpecial: true, parseSpecial: false }).length;
  const largest = Math.max(1, Math.min(USUAL_TOKENS, (reads || USUAL_TOKENS) - special - FOR_PREFIX));
  const count = (text: string): number =>
    tokenizer.encode(text, { addSpecial: false, parseSpecial: false, poll }).length;
  chunkText(input, options, largest, count).forEach(({ from, to, text }, i) =>
    returnNext({ number: i + 1, from, to, text }),
  );
}

export function vectorBytes(vector: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(vector).buffer);
}

/** Bytes of little-endian floats, as all machines have them that this runs on. */
function floatsOf(bytes: Uint8Array): Float32Array {
  const aligned = bytes.byteOffset % Float32Array.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / Float32Array.BYTES_PER_ELEMENT);
}

export function nearestVectors(vectors: Uint8Array, query: Uint8Array, k: number): void {
  const wanted = floatsOf(query); // (dim)
  const dim = wanted.length;
  if (dim === 0 || vectors.length % query.length !== 0)
    raise(
      SQLSTATE.invalidParameterValue,
      `different vectors: ${vectors.length} bytes of them, one has ${query.length}`,
    );
  const all = floatsOf(vectors); // (n, dim)
  const ranking = new Ranking(k);
  for (let at = 0, ord = 1; at < all.length; at += dim, ord++) {
    const product = innerProduct(all, at, wanted);
    if (!Number.isNaN(product)) ranking.offer(ord, product);
  }
  for (const { id, cosine } of ranking.best) returnNext({ ord: id, score: cosine });
}
