/** Conversations, and answers with their facts, that an engine computes: what a session computes itself, in every respect. */
import type pg from 'pg';
import { beforeEach, describe, expect, it } from 'vitest';
import type { EngineServer } from './server.ts';
import { QWEN, STORIES, errorOf, foreign, loaded, useEngineServer } from './server.ts';

let server: EngineServer;

/** Shows all of a message. */
const TEMPLATE = [
  `{%- for message in messages -%}`,
  `<{{ message.role }}>{{ message.content }}`,
  `{%- if message.tool_calls %} {{ message.tool_calls | tojson }}{% endif %}</{{ message.role }}>`,
  `{%- endfor -%}`,
  `{%- if add_generation_prompt %}<assistant>{% endif %}`,
].join('');

useEngineServer(async (started) => {
  server = started;
  await server.asAdmin(`update hartonomous.models set chat_template = $t$${TEMPLATE}$t$ where name = '${STORIES}'`);
  await server.asAdmin(`update hartonomous.models set chat_template = null where name = '${QWEN}'`);
});
beforeEach(async () => {
  if (!foreign) await server.asAdmin('delete from hartonomous.runs');
});

type Facts = Record<string, unknown>;

interface Message {
  role: string;
  content: string;
}

/** Facts that differ from call to call. */
const OF_THE_CALL = [
  'created_at',
  'run_id',
  'total_duration',
  'load_duration',
  'prompt_eval_duration',
  'eval_duration',
];

/** Without what differs from call to call, or with what caches hold. */
function lasting(facts: Facts): Facts {
  const left = Object.entries(facts).filter(([name]) => ![...OF_THE_CALL, 'prompt_eval_count'].includes(name));
  return Object.fromEntries(left);
}

async function chat(client: pg.Client, messages: string, options: object, model = STORIES): Promise<Facts> {
  const { rows } = await client.query<{ answer: Facts }>('select hartonomous.chat($1::text, $2, $3::json) as answer', [
    messages,
    model,
    JSON.stringify(options),
  ]);
  return rows[0]!.answer;
}

async function complete(client: pg.Client, prompt: string, options: object, model = STORIES): Promise<Facts> {
  const { rows } = await client.query<{ facts: Facts }>('select hartonomous.complete($1, $2, $3::json) as facts', [
    prompt,
    model,
    JSON.stringify(options),
  ]);
  return rows[0]!.facts;
}

/** What `work` gives with a session that computes itself, and with one that asks the engine. */
async function withAndWithout<T>(
  work: (client: pg.Client) => Promise<T>,
): Promise<{ alone: T; asked: T; asking: pg.Client }> {
  await server.set('engine = off');
  const alone = await work(await server.open('anna'));
  await server.set('engine = on');
  const asking = await server.open('anna');
  return { alone, asked: await work(asking), asking };
}

const CONVERSATIONS: [messages: string, options: object][] = [
  ['[{"role": "user", "content": "Once upon a time"}]', { temperature: 0, seed: 1, num_predict: 12 }],
  ['[{"role": "user", "content": "Hello"}]', { seed: 2, num_predict: 20, logprobs: true }],
  ['[{"role": "user", "content": "Hello"}]', { seed: 3, num_predict: 8, top_logprobs: 3, temperature: 1.2 }],
  ['[{"role": "user", "content": "Hello"}]', { seed: 3, num_predict: 0 }],
  ['[{"role": "user", "content": "Why?"}]', { seed: 4, num_predict: 20, system: 'Be brief.', stop: ['e'] }],
  [
    '[{"role": "system", "content": "A"}, {"role": "user", "content": "B"}, {"role": "assistant", "content": " C "}, {"role": "user", "content": "D"}]',
    { seed: 5, num_predict: 16, cache: false },
  ],
  // Order and digits of what a template writes down again.
  [
    '[{"role": "user", "content": "B"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": {"10": 1.0, "2": "\\u00e9", "b": 9007199254740993}}}]}, {"role": "tool", "content": "1"}]',
    { seed: 6, num_predict: 10 },
  ],
  [
    '[{"role": "user", "content": [{"type": "text", "text": "parts"}]}]',
    { seed: 7, num_predict: 10, max_tokens: null },
  ],
  [
    '[{"role": "user", "content": "Hello"}]',
    {
      seed: 8,
      num_predict: 60,
      tools: [
        { name: 'go', parameters: { type: 'object', properties: { far: { type: 'boolean' } }, required: ['far'] } },
      ],
      tool_choice: 'required',
    },
  ],
];

describe.skipIf(foreign)('chat and complete of an engine', () => {
  it('give what they give without it, and their sessions load nothing', async () => {
    const { alone, asked, asking } = await withAndWithout(async (client) => {
      const answers: Facts[] = [];
      for (const [messages, options] of CONVERSATIONS) answers.push(lasting(await chat(client, messages, options)));
      for (const [, options] of CONVERSATIONS.filter(([, each]) => !('tools' in each)))
        answers.push(lasting(await complete(client, 'A dog', options)));
      answers.push(lasting(await complete(client, 'A dog', { seed: 1, num_predict: 9, top_logprobs: 2 }, QWEN)));
      return answers;
    });
    expect(asked).toEqual(alone);
    expect(alone[CONVERSATIONS.length - 1]!.message).toMatchObject({ tool_calls: [{ function: { name: 'go' } }] });
    expect(alone[1]!.logprobs).toHaveLength(alone[1]!.eval_count as number);
    expect(await loaded(asking)).toEqual([]);
    // Whole facts, durations included, with their names and kinds.
    const facts = await complete(asking, 'A dog', { seed: 1, num_predict: 9 });
    for (const name of OF_THE_CALL.filter((fact) => fact !== 'created_at' && fact !== 'run_id'))
      expect(facts[name], name).toEqual(expect.any(Number));
  });

  it('are recorded as they are without it', async () => {
    const { alone, asked } = await withAndWithout(async (client) => {
      for (const [messages, options] of CONVERSATIONS) await chat(client, messages, options);
      await complete(client, 'A dog', { seed: 1, num_predict: 9, record: true });
      return await server.takeRuns();
    });
    expect(alone.runs).toHaveLength(CONVERSATIONS.length + 1);
    expect(asked).toEqual(alone);
  });

  it("go on from the tokens that were written, and from nobody else's", async () => {
    const question = { role: 'user', content: 'Once' };
    const turns = async (client: pg.Client, seed: number): Promise<Message[]> => {
      const options = { seed, temperature: 1.3, num_predict: 24 };
      const answer = (await chat(client, JSON.stringify([question]), options)).message as Message;
      const messages = [question, answer, { role: 'user', content: 'And then?' }];
      await chat(client, JSON.stringify(messages), options);
      return messages;
    };
    const prompts = async (): Promise<number[][]> => {
      const rows = await server.asAdmin<{ ids: number[] }>(
        'select prompt_ids as ids from hartonomous.runs order by id',
      );
      await server.asAdmin('delete from hartonomous.runs');
      return rows.map(({ ids }) => ids);
    };
    const seeds = [1, 2, 3, 4, 5, 6];
    const conversations: Message[][] = [];
    const { alone, asked, asking } = await withAndWithout(async (client) => {
      conversations.length = 0;
      for (const seed of seeds) conversations.push(await turns(client, seed));
      return await prompts();
    });
    expect(asked).toEqual(alone);
    // The same words out of other sessions, of the same role and another's, are cut into tokens as text is.
    const cut: number[][][] = [];
    for (const role of ['anna', 'ben']) {
      const other = await server.open(role);
      for (const messages of conversations) await chat(other, JSON.stringify(messages), { num_predict: 1 });
      cut.push(await prompts());
    }
    expect(cut[1]).toEqual(cut[0]);
    const second = asked.filter((_, i) => i % 2 === 1);
    expect(second.filter((ids, i) => JSON.stringify(ids) !== JSON.stringify(cut[0]![i])).length).toBeGreaterThan(0);
    // And its own session still knows.
    for (const messages of conversations) await chat(asking, JSON.stringify(messages), { num_predict: 1 });
    expect(await prompts()).toEqual(second);
    expect(await loaded(asking)).toEqual([]);
  });

  it('end in the same errors', async () => {
    const bad: [messages: string, options: object, model: string][] = [
      ['[]', {}, STORIES],
      ['{"role": "user"}', {}, STORIES],
      ['[{"role": "nobody", "content": "x"}]', {}, STORIES],
      ['[{"role": "user", "content": "x"}', {}, STORIES],
      ['[{"role": "user", "content": "x"}]', {}, QWEN],
      ['[{"role": "user", "content": "x"}]', { think: true }, STORIES],
      ['[{"role": "user", "content": "x"}]', { num_ctx: 2 }, STORIES],
      ['[{"role": "user", "content": "x"}]', { tool_choice: 'required' }, STORIES],
      ['[{"role": "user", "content": "x"}]', { seed: 0.5 }, STORIES],
    ];
    const { alone, asked } = await withAndWithout(async (client) => {
      const errors: unknown[] = [];
      for (const [messages, options, model] of bad) errors.push(await errorOf(chat(client, messages, options, model)));
      errors.push(await errorOf(complete(client, 'word '.repeat(100), { num_ctx: 16, raw: true })));
      return errors;
    });
    expect(asked).toEqual(alone);
  });
});
