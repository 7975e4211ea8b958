/** chunk. */
import { poll, returnNext } from '../db.ts';
import { currentCatalog, useTokenizer } from '../backend/registry.ts';
import { chunkText } from '../embed/chunk/chunk.ts';
import { parseChunkOptions } from '../embed/chunk/chunk-options.ts';

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
