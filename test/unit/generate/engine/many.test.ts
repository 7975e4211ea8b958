/** Many prompts of a call, as an engine makes them ready. */
import { afterAll, expect, it, vi } from 'vitest';
import type { UsedModel } from '../../../../plv8/src/backend/registry.ts';
import { newEngineFacts } from '../../../../plv8/src/generate/engine/facts.ts';
import { Grammars } from '../../../../plv8/src/generate/engine/grammars.ts';
import { Many } from '../../../../plv8/src/generate/engine/many.ts';
import type { ManyRequest } from '../../../../plv8/src/generate/engine/messages.ts';
import type { Client } from '../../../../plv8/src/generate/engine/serving.ts';
import { createTokenizer } from '../../../../plv8/src/tokenizer/tokenizer.ts';
import { readGgufVocabulary } from '../../../golden/gguf-vocabulary.ts';
import { goldenPath } from '../../golden-model.ts';

vi.stubGlobal('plv8', { prepare: () => ({ execute: () => [] }) });
afterAll(() => vi.unstubAllGlobals());

const tokenizer = createTokenizer(readGgufVocabulary(goldenPath('llama-260k/llama-260k-q8_0.gguf')));
const description = { name: 'stories', chatTemplate: null, defaultOptions: {}, systemPrompt: null };
const used = { entry: { model: { config: { contextLength: 64 } }, description }, tokenizer } as unknown as UsedModel;

/** Prompts of these that are cut into tokens before each pause in which it is somebody else's turn. */
function turnsOf(prompts: ManyRequest['prompts']): number[] {
  const request = { prompts, options: '{"raw": true}', limits: [], onError: 'null' } as unknown as ManyRequest;
  const nothing = (): void => undefined;
  const client: Client<ManyRequest> = {
    ...{ role: 10, priority: 0, since: 0, request },
    ...{ send: nothing, reply: nothing, note: nothing },
  };
  const many = new Many(used, newEngineFacts(), client, new Grammars(() => new Set()));
  const turns: number[] = [];
  let cut = 0;
  for (const pause of many.prepare(nothing)) {
    cut++;
    if (pause === 'between') turns.push(cut);
    if (cut === prompts.filter((text) => text !== null).length) break;
  }
  return turns;
}

it('leave a turn to others after every sixteen prompts, wherever nulls stand among them', () => {
  const every = Array.from({ length: 48 }, (_, i) => `${i}`);
  const without = (left: number): ManyRequest['prompts'] => every.map((text, i) => (i % 16 === left ? null : text));
  expect(turnsOf(every)).toEqual([16, 32, 48]);
  for (const left of [0, 7, 15]) expect(turnsOf(without(left))).toEqual([16, 32]);
});
