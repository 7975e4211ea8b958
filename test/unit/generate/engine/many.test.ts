/** Many prompts of a call, as an engine makes them ready. */
import type { Mock } from 'vitest';
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
const nothing = (): void => undefined;
const used = { entry: { model: { config: { contextLength: 64 } }, description }, tokenizer } as unknown as UsedModel;

interface Prepared {
  many: Many;
  send: Mock<() => void>;
}

function prepared(prompts: ManyRequest['prompts'], options: object = {}): Prepared {
  const given = JSON.stringify({ raw: true, ...options });
  const request = { prompts, options: given, limits: [], onError: 'null' } as unknown as ManyRequest;
  const send = vi.fn<() => void>();
  const client: Client<ManyRequest> = {
    ...{ role: 10, priority: 0, since: 0, request },
    ...{ send, reply: nothing, note: nothing },
  };
  return { many: new Many(used, newEngineFacts(), client, new Grammars(() => new Set())), send };
}

/** Prompts of these that are cut into tokens before each pause in which it is somebody else's turn. */
function turnsOf(prompts: ManyRequest['prompts']): number[] {
  const { many } = prepared(prompts);
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

it('are told of in as many pieces as there are where none has room in its context', () => {
  const { many, send } = prepared(Array<string>(40).fill('one two three four'), { num_ctx: 2 });
  const pieces = many.prepare(nothing);
  for (let told = 0, done: boolean | undefined = false; done !== true; told = send.mock.calls.length) {
    ({ done } = pieces.next());
    expect(send.mock.calls.length - told).toBeLessThanOrEqual(1);
  }
  expect(send).toHaveBeenCalledTimes(40);
});
