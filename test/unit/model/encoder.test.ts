/** Hidden states of encoders against llama.cpp's embeddings, and of decoders against their own logits. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../../plv8/src/model/config.ts';
import { Model } from '../../../plv8/src/model/model.ts';
import { decodeFloats, maxDifference } from '../../golden/agreement.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath } from '../golden-model.ts';

const poll = () => undefined;

interface Golden {
  embeddings: { items: { ids: number[]; embedding_f32_base64: string }[] };
}

const { items } = (JSON.parse(readFileSync(goldenPath('goldens', 'bert-tiny-f32.json'), 'utf8')) as Golden).embeddings;

function load(name: string): Model {
  const file = readGguf(goldenPath('zoo', `${name}.gguf`));
  return Model.load(readConfig(file.architecture, file.hyperparameters, file.source.tensors()), file.source, {
    precision: 'f32',
    poll,
  });
}

/** Mean hidden state (dim) of each text. */
function means(model: Model, texts: number[][]): Float32Array[] {
  const sums = texts.map(() => new Float32Array(model.config.dim));
  model.hiddenStates(texts, { poll }, (text, _first, states) => {
    states.forEach((value, i) => (sums[text]![i % model.config.dim]! += value / texts[text]!.length));
  });
  return sums;
}

describe('an encoder', () => {
  it("gives llama.cpp's mean-pooled embeddings", () => {
    const found = means(
      load('bert-tiny-f32'),
      items.map(({ ids }) => ids),
    );
    for (const [i, item] of items.entries())
      expect(maxDifference(found[i]!, decodeFloats(item.embedding_f32_base64))).toBeLessThanOrEqual(2e-3);
  });

  it('gives every text the same bits alone as together with others, however many there are', () => {
    const model = load('bert-tiny-f32');
    const texts = Array.from({ length: 40 }, (_, i) => items[i % items.length]!.ids.slice(0, 1 + 5 * i));
    const together = means(model, texts);
    texts.forEach((ids, i) => expect(means(model, [ids])[0], `text ${i}`).toEqual(together[i]));
  });

  it('has no cache and takes no text longer than its context', () => {
    const model = load('bert-tiny-f32');
    expect(() => model.newCache(8)).toThrow('a model of architecture bert reads text and writes none');
    const long = new Array<number>(257).fill(5);
    expect(() => means(model, [[5], long])).toThrow("text has 257 tokens, the model's context is 256");
    expect(() => means(model, [[]])).toThrow('forward pass needs at least one token');
    expect(means(model, [long.slice(1)])[0]!.every(Number.isFinite)).toBe(true);
  });
});
