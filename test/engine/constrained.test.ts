/** Answers that have to be something, computed by an engine: those that a session computes itself, and no role's grammar holds up another's. */
import { describe, expect, it } from 'vitest';
import type { Call, EngineServer } from './server.ts';
import { QWEN, STORIES, TINY, errorOf, foreign, loaded, results, useEngineServer } from './server.ts';

/** Shows all of a message. */
const TEMPLATE = [
  `{%- for message in messages -%}`,
  `<{{ message.role }}>{{ message.content }}</{{ message.role }}>`,
  `{%- endfor -%}`,
  `{%- if add_generation_prompt %}<assistant>{% endif %}`,
].join('');

let server: EngineServer;

useEngineServer(async (started) => {
  server = started;
  await server.asAdmin(`update hartonomous.models set chat_template = $t$${TEMPLATE}$t$ where name = '${QWEN}'`);
});

const generate = (options: object, model = STORIES): Call => [
  'select hartonomous.generate($1::text, $2, $3::json) as answer',
  ['Once upon a time', model, JSON.stringify({ record: true, num_predict: 60, ...options })],
];

const chat = (options: object): Call => [
  `select hartonomous.chat($1::text, $2, $3::json) -> 'message' as answer`,
  [
    '[{"role": "user", "content": "Hello"}]',
    QWEN,
    // Digits that JavaScript would not write.
    JSON.stringify({ record: true, num_predict: 120, ...options }).replace('"NUMBER"', '9007199254740993, 1.0'),
  ],
];

const byFunction = (name: string, said: string, sql: string, options: object = {}): Call => [
  `select hartonomous.${name}('A dog', ${said}, $1, $2::json) as answer`,
  [sql, JSON.stringify({ record: true, num_predict: 60, seed: 4, temperature: 1.2, ...options })],
];

const SCHEMA = {
  type: 'object',
  properties: {
    '2': { type: 'integer', maximum: 99 },
    '1': { type: 'string', maxLength: 9 },
    far: { enum: [1.0, 'é'] },
  },
  required: ['2', '1', 'far'],
  additionalProperties: false,
  nobodyKnows: 1,
};

const TOOLS = [
  {
    type: 'function',
    function: {
      name: 'go',
      parameters: {
        type: 'object',
        properties: { z: { enum: ['NUMBER'] }, '1': { type: 'boolean' } },
        required: ['z', '1'],
        additionalProperties: false,
      },
    },
  },
  { name: 'stay' },
];

const CALLS: Call[] = [
  generate({ temperature: 0, seed: 1, grammar: 'root ::= "a" [bc]*', num_predict: 9 }),
  generate({ seed: 2, response_format: { type: 'json_object' } }),
  generate({ seed: 3, response_format: { type: 'json_schema', json_schema: { schema: SCHEMA } } }, TINY),
  generate({ seed: 4, cache: false, response_format: { type: 'json_schema', schema: SCHEMA }, top_k: 3 }),
  [
    'select * from hartonomous.generate_stream($1, $2, $3::json)',
    generate({ seed: 5, grammar: 'root ::= [a-z ]{3,40} "."' })[1],
  ],
  byFunction('generate_json', `'{"type": "array", "items": {"type": "boolean"}, "maxItems": 3}'::json`, STORIES),
  byFunction('generate_regex', `'[0-9]{2,5}(a|é)'`, TINY),
  byFunction('generate_grammar', `'root ::= ("x" | "yz")+ "."'`, STORIES),
  byFunction('generate_choice', `array['cat', 'dog', 'a horse']`, STORIES),
  chat({ seed: 6, tools: TOOLS, tool_choice: 'required' }),
  chat({ seed: 7, tools: TOOLS, num_predict: 12 }),
  chat({ seed: 8, tools: TOOLS, tool_choice: { type: 'function', function: { name: 'go' } } }),
  chat({ seed: 9, tools: TOOLS, response_format: { type: 'json_schema', schema: SCHEMA } }),
  chat({ seed: 9, tools: TOOLS, tool_choice: 'none', num_predict: 9 }),
];

/** Few states at first, and ever more as it is written. */
const GROWING = byFunction('generate_regex', `'[ab]*a[ab]{250}c|[ab]*b[ab]{250}d'`, TINY, { num_predict: 290 });

describe.skipIf(foreign)('constrained answers of an engine', () => {
  it('are those of a session without it, recorded alike, and their sessions load nothing', async () => {
    await server.set('engine = off');
    const alone = await results(await server.open('anna'), CALLS);
    const runs = await server.takeRuns();
    expect(runs.runs).toHaveLength(CALLS.length);
    expect(JSON.stringify(alone)).toContain('tool_calls');
    expect(JSON.stringify(alone)).toContain('nobodyKnows');
    await server.set('engine = on');
    await server.startAnew();
    const client = await server.open('anna');
    expect(await results(client, CALLS)).toEqual(alone);
    expect(await server.takeRuns()).toEqual(runs);
    expect(await loaded(client)).toEqual([]);
    expect(await server.answers()).toBe(CALLS.length);
    // Many at once, of two roles, from grammars that are there already and others.
    expect(await server.resultsAtOnce(CALLS)).toEqual(alone);
    expect(await server.answers()).toBe(2 * CALLS.length);
  });

  it('end in the same errors', async () => {
    const schema = (of: unknown): object => ({ response_format: { type: 'json_schema', schema: of } });
    const deep = `${'('.repeat(5000)}a${')'.repeat(5000)}`;
    const bad: Call[] = [
      generate({ grammar: 'root ::= nobody' }),
      generate({ grammar: 'root ::= "a"{20}', num_predict: 3 }),
      generate(schema({ type: 'nothing' })),
      generate(schema({ allOf: [{ type: 'string' }, { type: 'number' }] })),
      generate(schema({ $ref: '#/nowhere' })),
      generate({ response_format: { type: 'json_object' }, stop: ['x'] }),
      generate({ grammar: 'root ::= "a"', response_format: { type: 'json_object' } }),
      generate({ grammar: 'root ::= "a"', num_predict: 0, num_ctx: 2 }),
      generate({ grammar: `root ::= "${'a'.repeat(300_000)}"` }),
      generate({ tools: TOOLS, tool_choice: 'required' }),
      byFunction('generate_regex', `'${deep}'`, STORIES),
      byFunction('generate_json', `'{"type": "string", "pattern": "("}'::json`, STORIES),
      byFunction('generate_choice', `array['cat', 'dog']`, STORIES, { grammar: 'root ::= "a"' }),
      byFunction('generate_choice', `array['cat', 'dog']`, STORIES, { num_predict: 0 }),
      chat({ tools: [{ name: 'no name' }] }),
      chat({ tools: TOOLS, tool_choice: { type: 'function', function: { name: 'fly' } } }),
      chat({ tools: TOOLS, tool_choice: 'required', num_predict: 3 }),
    ];
    const seen: unknown[][] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      const client = await server.open('anna');
      const errors: unknown[] = [];
      for (const [sql, args] of bad) errors.push(await errorOf(client.query(sql, args)));
      seen.push(errors);
    }
    expect(seen[1]).toEqual(seen[0]);
  });

  it('whose grammar takes long to be made, or much memory, are left to the session, and nobody else waits for them', async () => {
    const slow = [
      // More states than an engine has room for, and more time to make them.
      generate({
        grammar: `root ::= ${Array.from({ length: 9000 }, (_, i) => `"${i}" [a-z]{1,9}`).join(' | ')}`,
        seed: 1,
      }),
      GROWING,
    ];
    await server.set('engine = off');
    const alone = await results(await server.open('anna'), slow);
    await server.set('engine = on');
    await server.startAnew();
    const next = await server.openEndless(await server.open('ben'));
    await next();
    const client = await server.open('anna');
    const state = { done: false, tokens: 0 };
    const asked = results(client, slow).finally(() => (state.done = true));
    while (!state.done) {
      await next();
      state.tokens++;
    }
    expect(await asked).toEqual(alone);
    expect(await loaded(client)).toEqual([{ model: STORIES }, { model: TINY }]);
    expect(state.tokens).toBeGreaterThan(5);
    // The engine is the same, and still takes what is quick.
    expect(await server.answers()).toBe(0);
    await results(await server.open('anna'), [CALLS[0]!]);
    expect(await server.answers()).toBe(1);
  });

  it('cost the tokens of one computation where the engine gives them up', async () => {
    const used = (): Promise<number> => server.countedTokens('anna', CALLS[0]!);
    await results(await server.open('anna'), [CALLS[0]!]);
    const costs: number[] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      const before = await used();
      await results(await server.open('anna'), [GROWING]);
      costs.push((await used()) - before);
    }
    expect(costs[1]).toBe(costs[0]);
    expect(costs[0]).toBeGreaterThan(250);
  });

  it('that are too large or nest too deep are refused as without it, and large ones never reach it', async () => {
    const nested = (depth: number): string => `${'{"items":'.repeat(depth)}true${'}'.repeat(depth)}`;
    const large = JSON.stringify({ enum: Array.from({ length: 100_000 }, (_, i) => `one of many values ${i}`) });
    const sql = `select hartonomous.generate_json('A dog', $1::json, $2) as answer`;
    const bad: Call[] = [
      ...[2000, 5000, 6000].map((depth): Call => [sql, [nested(depth), STORIES]]),
      [
        `select hartonomous.generate('A dog', $1, $2::json) as answer`,
        [STORIES, `{"response_format": {"type": "json_schema", "json_schema": {"schema": ${nested(5000)}}}}`],
      ],
    ];
    const failures = async (): Promise<number> => {
      const [row] = await server.asAdmin<{ failures: string }>('select failures from hartonomous.engine_list');
      return Number(row!.failures);
    };
    const seen: unknown[] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      const client = await server.open('anna');
      if (engine === 'on') await client.query(...generate({ num_predict: 1 }));
      const before = engine === 'on' ? await failures() : 0;
      const errors = [await errorOf(client.query(sql, [large, STORIES]))];
      if (engine === 'on') expect(await failures()).toBe(before);
      for (const call of bad) errors.push(await errorOf(client.query(...call)));
      seen.push(errors);
    }
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[0]).toMatchObject([{ code: '54000' }, ...bad.map(() => ({ code: '54000' }))]);
  });
});
