/** Greedy chat answers through SQL against a golden of make-chat-golden.mjs. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, ingestFile } from '../db/harness.ts';
import { firstDifference } from './agreement.ts';

export interface ChatGolden {
  sha256: string;
  /** Whether control tokens were read in all of a rendered prompt, as llama.cpp does. */
  parse_special: boolean;
  prompts: {
    text: string;
    rendered: string;
    ids: number[];
    greedy_ids: number[];
    greedy_text: string;
    greedy_margins: number[];
    native_greedy_ids: number[];
  }[];
}

interface Completion {
  text: string;
  done_reason: string;
  prompt_tokens: number;
  logprobs: { token_id: number }[];
}

const MODEL = 'chat';
const CLOSE_CALL = 0.02; // greedy margin under which either token is right
const STEPS = 48;

export function readChatGolden(name: string): ChatGolden {
  return JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8')) as ChatGolden;
}

/** Declare the tests: template, token ids and greedy answers of every prompt. `file` gives the model's path. */
export function testChatGolden(golden: ChatGolden, file: () => string): void {
  let database: Awaited<ReturnType<typeof createDatabase>>;
  let equalToNative = 0;

  beforeAll(async () => {
    const path = file();
    database = await createDatabase();
    await ingestFile(database.url, path, MODEL);
  }, 300_000);

  afterAll(async () => {
    console.log(`llama.cpp on the file itself: ${equalToNative} of ${golden.prompts.length} continuations equal`);
    await database?.drop();
  });

  describe.each(golden.prompts)('$text', (prompt) => {
    const ids = prompt.greedy_ids;
    // The golden keeps the end-of-generation token, a completion does not.
    const ended = ids.length < STEPS;
    const expected = ended ? ids.slice(0, -1) : ids;

    it('is rendered by the chat template as jinja2 renders it', async () => {
      const { rows } = await database.pool.query<{ text: string; ids: number[] }>(
        `with chat as (select hartonomous.render_chat(jsonb_build_array(jsonb_build_object('role', 'user', 'content', $1::text)), $2) as text)
         select text, hartonomous.tokenize(text, $2, parse_special => $3) as ids from chat`,
        [prompt.text, MODEL, golden.parse_special],
      );
      expect(rows[0].text).toBe(prompt.rendered);
      expect(rows[0].ids).toEqual(prompt.ids);
    });

    it('is answered greedily as llama.cpp does, up to a close call', async () => {
      const { rows } = await database.pool.query<{ answer: Completion }>(
        'select hartonomous.complete($1, $2, $3) as answer',
        [
          prompt.text,
          MODEL,
          JSON.stringify({ temperature: 0, num_predict: STEPS, repeat_penalty: 1, logprobs: true, record: false }),
        ],
      );
      const { answer } = rows[0];
      const actual = answer.logprobs.map((token) => token.token_id);
      expect(answer.prompt_tokens).toBe(prompt.ids.length);
      const { step, margin } = firstDifference(actual, expected, prompt.greedy_margins);
      expect(margin, `margin at step ${step}, answer ${JSON.stringify(answer.text)}`).toBeLessThan(CLOSE_CALL);
      if (step === null) expect(answer.done_reason).toBe(ended ? 'stop' : 'length');
      const native = prompt.native_greedy_ids;
      const nativeText = native.length < STEPS ? native.slice(0, -1) : native;
      if (firstDifference(actual, nativeText, []).step === null) equalToNative++;
    });
  });
}
