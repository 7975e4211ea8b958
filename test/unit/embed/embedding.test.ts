/** Texts that are embedded in pieces, between which others compute. */
import { afterAll, expect, it, vi } from 'vitest';
import type { UsedModel } from '../../../plv8/src/backend/registry.ts';
import { embedInPieces } from '../../../plv8/src/embed/embedding.ts';
import { parseEmbeddingOptions } from '../../../plv8/src/embed/embedding-options.ts';
import { createTokenizer } from '../../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from '../../golden/gguf-vocabulary.ts';
import { goldenPath } from '../golden-model.ts';

vi.stubGlobal('plv8', { prepare: () => ({ execute: () => [] }) });
afterAll(() => vi.unstubAllGlobals());

const tokenizer = createTokenizer(readGgufVocabulary(goldenPath('llama-260k/llama-260k-q8_0.gguf')));
const config = { pooling: 'mean', dim: 4, embeddingTokens: 2, normalizedEmbeddings: false };
const entry = {
  model: { config, hiddenStatesInPieces: () => [] },
  description: { name: 'stories', hyperparameters: {} },
  usage: { calls: 0, promptTokens: 0, reusedTokens: 0, cacheHits: 0 },
};
const used = { entry, tokenizer } as unknown as UsedModel;

it('a text that is too long is cut for one of its places in each piece', () => {
  const options = parseEmbeddingOptions({ truncate: false, on_error: 'null' });
  const texts = Array<string>(20).fill('one two three four five');
  const see = vi.fn<(places: readonly number[], came: unknown) => void>();
  const pieces = embedInPieces(used, { texts, options, owner: '10' }, see);
  for (let told = 0, done: boolean | undefined = false; done !== true; told = see.mock.calls.length) {
    ({ done } = pieces.next());
    expect(see.mock.calls.length - told).toBeLessThanOrEqual(1);
  }
  const errorOf = (place: number): unknown =>
    expect.stringMatching(`^text ${place} has \\d+ tokens, the model reads 2$`);
  expect(see.mock.calls).toEqual(texts.map((_, i) => [[i], errorOf(i + 1)]));
});
