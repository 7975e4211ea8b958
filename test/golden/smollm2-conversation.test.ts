/** A conversation of three turns in one session of SQL against llama.cpp on the same weights dequantised to F32. */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, ingestFile } from '../db/harness.ts';
import { firstDifference } from './agreement.ts';
import type { ChatGolden } from './chat-golden.ts';
import { smollm2File } from './smollm2-file.ts';

interface Turn {
  messages: { role: string; content: string }[];
  greedy_text: string;
}

interface Facts {
  prompt_tokens: number;
  prompt_eval_count: number;
  eval_count: number;
  logprobs: { token_id: number }[];
}

const golden = JSON.parse(readFileSync(new URL('smollm2-conversation.json', import.meta.url), 'utf8')) as ChatGolden & {
  prompts: Turn[];
};
const STEPS = 48;
const CLOSE_CALL = 0.02; // greedy margin under which either token is right
const OPTIONS = JSON.stringify({
  temperature: 0,
  num_predict: STEPS,
  repeat_penalty: 1,
  logprobs: true,
  record: false,
});

let database: Awaited<ReturnType<typeof createDatabase>>;
let client: pg.Client;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, smollm2File(golden.sha256), 'smollm2');
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

async function chat(messages: unknown): Promise<Facts> {
  const { rows } = await client.query<{ facts: Facts }>(`select hartonomous.chat($1, 'smollm2', $2) as facts`, [
    JSON.stringify(messages),
    OPTIONS,
  ]);
  return rows[0]!.facts;
}

/** The same through a session, token by token. */
async function session(messages: unknown): Promise<Facts> {
  const opened = await client.query<{ id: string }>(`select hartonomous.open_session($1, 'smollm2', $2) as id`, [
    JSON.stringify(messages),
    OPTIONS,
  ]);
  const { id } = opened.rows[0]!;
  for (let reason: string | null = null; reason === null;) {
    const { rows } = await client.query<{ done_reason: string | null }>(
      'select done_reason from hartonomous.next_tokens($1)',
      [id],
    );
    reason = rows[0]!.done_reason;
  }
  const closed = await client.query<{ facts: Facts }>('select hartonomous.close_session($1) as facts', [id]);
  return closed.rows[0]!.facts;
}

describe.each([
  ['chat', chat],
  ['a session', session],
])('three turns through %s', (_, ask) => {
  test('are answered greedily as llama.cpp does, and evaluate new tokens only', async () => {
    await client.query('select hartonomous.unload()');
    let before: { facts: Facts; equal: boolean } | null = null;
    for (const turn of golden.prompts) {
      const facts = await ask(turn.messages);
      expect(facts.prompt_tokens).toBe(turn.ids.length);
      const ended = turn.greedy_ids.length < STEPS;
      const { step, margin } = firstDifference(
        facts.logprobs.map((token) => token.token_id),
        ended ? turn.greedy_ids.slice(0, -1) : turn.greedy_ids,
        turn.greedy_margins,
      );
      expect(margin, `turn of ${turn.messages.length} messages, step ${step}`).toBeLessThan(CLOSE_CALL);
      if (before === null) expect(facts.prompt_eval_count).toBe(facts.prompt_tokens);
      else {
        // The answer's last token was never evaluated, so it is new; where a close call went the other way, all of it is.
        const held = before.facts.prompt_tokens + (before.equal ? before.facts.eval_count - 1 : 0);
        expect(facts.prompt_eval_count).toBeLessThanOrEqual(facts.prompt_tokens - held);
      }
      before = { facts, equal: step === null };
    }
  });
});
