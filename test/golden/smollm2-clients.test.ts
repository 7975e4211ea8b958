/**
 * A conversation of three turns with a trained model, in the terminal and through the npm clients of OpenAI and Ollama,
 * against llama.cpp on the same weights dequantised to F32. Each turn computes only what is new of its prompt.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer } from '../cli/test-server.ts';
import type { RunningServer } from '../../cli/serve/server.ts';
import { CTRL_C, CTRL_D, ENTER, PseudoTerminal } from '../cli/pseudo-terminal.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { readChatGolden } from './chat-golden.ts';
import { smollm2File } from './smollm2-file.ts';

const golden = readChatGolden('smollm2-conversation.json');
const turns = golden.prompts;
/** Greedy, and without a penalty, as the golden was made. */
const GREEDY = { temperature: 0, repeat_penalty: 1 };

let database: TestDatabase;
let home: string;

beforeAll(async () => {
  const file = smollm2File(golden.sha256);
  database = await createDatabase();
  home = mkdtempSync(join(tmpdir(), 'hartonomous-conversation-'));
  await ingestFile(database.url, file, 'smollm2');
}, 300_000);

afterAll(async () => {
  await database?.drop();
  if (home !== undefined) rmSync(home, { recursive: true, force: true });
});

/** Tokens of a turn's prompt that are not in the cache of the turn before: its prompt and what it answered. */
function newTokens(turn: number): number {
  const { ids } = turns[turn]!;
  const before = turns[turn - 1];
  if (before === undefined) return ids.length;
  // The golden keeps the end-of-generation token, which is never computed with.
  const known = [...before.ids, ...before.greedy_ids.slice(0, -1)];
  const differs = ids.findIndex((id, i) => id !== known[i]);
  return ids.length - differs;
}

test('the golden is a conversation whose prompts continue each other', () => {
  for (const turn of [1, 2]) expect(newTokens(turn)).toBeLessThan(turns[turn]!.ids.length / 2);
});

describe('in the terminal', () => {
  const open = async (columns: number): Promise<PseudoTerminal> => {
    const terminal = new PseudoTerminal(['chat', 'smollm2', '--temperature', '0'], {
      url: database.url,
      columns,
      env: { XDG_DATA_HOME: home },
    });
    await terminal.prompt();
    await terminal.ask('/set parameter repeat_penalty 1');
    return terminal;
  };

  test('three turns are answered as llama.cpp answers them', async () => {
    const terminal = await open(400);
    await terminal.ask('/set verbose');
    for (const [i, turn] of turns.entries()) {
      const shown = await terminal.ask(turn.text);
      expect(shown.split('\n')[0]).toBe(turn.greedy_text);
      expect(shown).toContain(`prompt eval count:    ${newTokens(i)} token(s)`);
    }
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });

  test('an answer appears while it is written, Ctrl-C stops it and the conversation goes on', async () => {
    const terminal = await open(80);
    terminal.type('Tell me a long story about a lighthouse keeper.' + ENTER);
    await terminal.see(/keeper\.\n\S+ \S+ \S+/);
    const early = terminal.screen().length;
    await expect.poll(() => terminal.screen().length, { timeout: 20_000 }).toBeGreaterThan(early + 20);
    expect(terminal.prompts(), 'still writing').toBe(2);
    terminal.type(CTRL_C);
    await terminal.prompt(3);
    const { rows } = await database.pool.query<{ done_reason: string; eval_count: number }>(
      'select done_reason, eval_count from hartonomous.runs order by id desc limit 1',
    );
    expect(rows[0]).toMatchObject({ done_reason: 'cancelled' });
    await terminal.ask('/set parameter num_predict 4');
    expect(await terminal.ask('Why?')).toMatch(/\S/);
    expect(await terminal.ask('/show messages')).toMatch(
      /^user: Tell me a long story about a lighthouse keeper\.\nassistant: [\s\S]+\nuser: Why\?\nassistant: \S/,
    );
    terminal.type(CTRL_D);
    expect(await terminal.end()).toBe(0);
  });
});

describe('over HTTP', () => {
  let server: RunningServer;
  beforeAll(async () => {
    server = await startTestServer(database.url, { queue: 4 });
  });
  afterAll(() => server.close());

  test("three turns through OpenAI's client, streamed", async () => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const messages: OpenAI.ChatCompletionMessageParam[] = [];
    for (const [i, turn] of turns.entries()) {
      messages.push({ role: 'user', content: turn.text });
      const request = { model: 'smollm2', messages, ...GREEDY, stream_options: { include_usage: true } };
      let text = '';
      for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
        text += chunk.choices[0]?.delta.content ?? '';
        if (chunk.usage) {
          const { prompt_tokens, prompt_tokens_details } = chunk.usage;
          expect(prompt_tokens).toBe(turn.ids.length);
          expect(prompt_tokens - (prompt_tokens_details?.cached_tokens ?? 0)).toBe(newTokens(i));
        }
      }
      expect(text).toBe(turn.greedy_text);
      messages.push({ role: 'assistant', content: text });
    }
  });

  test("three turns through Ollama's client, whole", async () => {
    const client = new Ollama({ host: server.url });
    const messages: { role: string; content: string }[] = [];
    const counts: number[] = [];
    for (const turn of turns) {
      messages.push({ role: 'user', content: turn.text });
      const answer = await client.chat({ model: 'smollm2', messages, options: GREEDY });
      expect(answer.message.content).toBe(turn.greedy_text);
      expect(answer.done_reason).toBe('stop');
      counts.push(answer.prompt_eval_count);
      messages.push(answer.message);
    }
    // Ollama counts the whole prompt, what a cache holds included.
    expect(counts).toEqual(turns.map(({ ids }) => ids.length));
  });

  test('a client that leaves in the middle frees its backend at once', async () => {
    const leaving = new AbortController();
    const response = await fetch(`${server.url}/api/generate`, {
      method: 'POST',
      body: JSON.stringify({ model: 'smollm2', prompt: 'Tell me a very long story.', options: { temperature: 0 } }),
      signal: leaving.signal,
    });
    await response.body!.getReader().read();
    leaving.abort();
    const active = async (): Promise<number> =>
      (
        await database.pool.query<{ n: number }>(
          `select count(*)::integer as n from pg_stat_activity
           where datname = current_database() and state = 'active' and query like '%hartonomous.%' and pid <> pg_backend_pid()`,
        )
      ).rows[0]!.n;
    await expect.poll(active, { timeout: 1000 }).toBe(0);
    const answers = await Promise.all(
      Array.from({ length: 2 }, () =>
        fetch(`${server.url}/api/generate`, {
          method: 'POST',
          body: JSON.stringify({ model: 'smollm2', prompt: 'Hi', stream: false, options: { num_predict: 1 } }),
        }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
  });
});
