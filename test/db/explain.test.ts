import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { availableModels } from '../golden/available-models.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const TINY = fileURLToPath(new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url));
/** Residual of the components, relative to the logit: exact weights, and activations rounded to 16 bits. */
const RESIDUAL = { f32: 1e-3, quantised: 1e-2 };

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, TINY, 'tiny');
});

afterAll(async () => {
  await database.drop();
});

async function rows<T = Record<string, unknown>>(sql: string, values: unknown[] = []): Promise<T[]> {
  return (await database.pool.query(sql, values)).rows as T[];
}

interface Explained {
  run_id: number;
  step: number;
  token: string;
  logit: number;
  logprob: number;
  probability: number;
  summary: string;
  inputs: string;
  versus: { token: string; logit: number };
  top_input: { input: string; influence: number } | null;
  checks: { replay_difference: number; residual: number; choice_reproduced: boolean };
}

/** Id of a recorded run. */
async function record(model: string, prompt: string, options: object = {}): Promise<number> {
  const [row] = await rows<{ id: number }>(`select (hartonomous.complete($1, $2, $3)->>'run_id')::int as id`, [
    prompt,
    model,
    JSON.stringify({ record: true, ...options }),
  ]);
  return row!.id;
}

async function explain(run: number, step: number, more = ''): Promise<Explained> {
  return (await rows<{ e: Explained }>(`select hartonomous.explain($1, $2${more}) as e`, [run, step]))[0]!.e;
}

describe('the sum of components', () => {
  const models = ['zoo/qwen3-tiny-f32', 'zoo/phi3-tiny-f32', 'zoo/gemma3-tiny-f32', 'zoo/gpt2-tiny-f32'];
  const here = availableModels([...models, 'stories260k/stories260k-f32']);

  test('is the logit, for every step of 20 runs', async () => {
    let runs = 0;
    const worst: string[] = [];
    for (const name of here) {
      await ingestFile(database.url, modelPath(`${name}.gguf`), name);
      let worstOfModel = 0;
      let steps = 0;
      for (let seed = 0; seed < 5; seed++) {
        const id = await record(
          name,
          ['Hello', 'Once upon a time', 'a b c a b', 'What is this?', 'the the the'][seed]!,
          {
            raw: true,
            seed,
            num_predict: 6,
          },
        );
        runs++;
        const [{ n }] = await rows<{ n: number }>(
          `select jsonb_array_length(hartonomous._explain_page($1, 'none')->'tokens') as n`,
          [id],
        );
        const explained = await rows<{ logit: number; residual: number; sum: number; difference: number }>(
          `select e.logit, e.residual, e.replay_difference as difference, sum(c.contribution) as sum
           from hartonomous.explanations e join hartonomous.explanation_components c using (run_id, step)
           where run_id = $1 group by 1, 2, 3`,
          [id],
        );
        expect(explained.length).toBe(n);
        for (const one of explained) {
          expect(one.difference).toBe(0);
          expect(Math.abs(one.residual / one.logit)).toBeLessThan(RESIDUAL.f32);
          worstOfModel = Math.max(worstOfModel, Math.abs(one.residual / one.logit));
          steps++;
        }
      }
      worst.push(`${name}: ${worstOfModel.toExponential(1)} over ${steps} steps`);
    }
    console.log(`worst residual relative to the logit\n  ${worst.join('\n  ')}`);
    expect(runs).toBeGreaterThanOrEqual(20);
  });

  test('is near the logit where weights are held as 8-bit integers', async () => {
    const id = await record('tiny', 'Hello, how are you?', { seed: 1 });
    await rows(`select hartonomous._explain_page($1, 'none')`, [id]);
    const found = await rows<{ share: number }>(
      'select abs(residual / logit) as share from hartonomous.explanations where run_id = $1',
      [id],
    );
    for (const { share } of found) expect(share).toBeLessThan(RESIDUAL.quantised);
  });
});

describe('explain', () => {
  let run: number;
  beforeAll(async () => {
    run = await record('tiny', 'Hello, how are you?', { seed: 3 });
  });

  test('gives the summary, and the figures it is made of', async () => {
    const step = (
      await rows<{ step: number }>(
        `select step from hartonomous.run_token_list where run_id = $1 and token = ' well'`,
        [run],
      )
    )[0]!.step;
    const told = await explain(run, step);
    expect(told.summary).toMatch(
      /^Token ' well' selected via:\n1\. [^]+ nats less likely\)\n[^]*\nFinal probability: /,
    );
    expect(told.checks).toMatchObject({ replay_difference: 0, choice_reproduced: true });
    expect(told.top_input?.influence).toBeGreaterThan(0);
  });

  test('answers from what is stored, and computes again when asked', async () => {
    await explain(run, 0);
    await rows(`update hartonomous.explained_tokens set summary = 'stored' where run_id = $1 and step = 0`, [run]);
    expect((await explain(run, 0)).summary).toBe('stored');
    expect((await explain(run, 0, ', refresh => true')).summary).toMatch(/^Token/);
    const [rollup] = await rows<{ tokens: number; n: number }>(
      `select max(tokens) as tokens, (select count(*)::int from hartonomous.explanations where run_id = $1) as n
       from hartonomous.head_influence where run_id = $1`,
      [run],
    );
    expect(rollup!.tokens).toBe(rollup!.n);
  });

  test('compares with any token, and stores only the comparison with the runner-up', async () => {
    const before = await explain(run, 1);
    const versus = await explain(run, 1, `, versus => 'the'`);
    expect(versus.versus.token.trim()).toBe('the');
    expect((await explain(run, 1)).versus.token).toBe(before.versus.token);
    const parts = await rows<{ difference: number; residual: number }>(
      `select difference, residual from hartonomous.explain_components($1, 1, versus => 'the')`,
      [run],
    );
    const sum = parts.reduce((total, part) => total + part.difference, 0);
    expect(Math.abs(sum - (versus.logit - versus.versus.logit))).toBeLessThan(0.05);
    await expect(explain(run, 1, `, versus => 'two words'`)).rejects.toThrow(/versus "two words" is not one token/);
  });

  test('reads the same in a read-only transaction, where it stores nothing', async () => {
    const other = await record('tiny', 'What is your name?', { seed: 5 });
    const client = await database.pool.connect();
    try {
      await client.query('begin read only');
      const told = (await client.query('select hartonomous.explain($1, 0) as e', [other])).rows[0].e as Explained;
      const lens = (await client.query('select * from hartonomous.explain_lens($1, 0)', [other])).rows;
      const edges = (await client.query('select * from hartonomous.explain_attention($1, 0)', [other])).rows;
      await client.query('commit');
      expect(await rows('select 1 from hartonomous.explanations where run_id = $1', [other])).toEqual([]);
      expect((await explain(other, 0)).summary).toBe(told.summary);
      expect(await rows('select * from hartonomous.explain_lens($1, 0)', [other])).toEqual(lens);
      expect(await rows('select * from hartonomous.explain_attention($1, 0)', [other])).toEqual(edges);
    } finally {
      client.release();
    }
  });

  test('gives candidates with what the sampler did to each', async () => {
    const candidates = await rows<{ rank: number; chosen: boolean; probability: number; cut_by: string | null }>(
      'select * from hartonomous.explain_candidates($1, 0)',
      [run],
    );
    expect(candidates.map((one) => one.rank).slice(0, 20)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(candidates.filter((one) => one.chosen).length).toBe(1);
    for (const one of candidates) expect(one.probability > 0).toBe(one.cut_by === null);
    expect(candidates.some((one) => one.cut_by !== null)).toBe(true);
  });

  test.each([
    ['with draws', 1.5],
    ['greedily', 0],
  ])('replays a constrained run under its constraint, sampled %s', async (_, temperature) => {
    const options = { record: true, temperature, top_k: 0, top_p: 1, seed: 3, num_predict: 9 };
    await rows(`select hartonomous.generate_regex('When were you born?', '[0-9]{1,6}', 'tiny', $1)`, [
      JSON.stringify(options),
    ]);
    const [latest] = await rows<{ id: number; tokens: string[] }>(
      `select r.id::int as id, array_agg(t.token order by t.position) filter (where not t.is_prompt) as tokens
       from hartonomous.run_list r join hartonomous.run_tokens t on t.run_id = r.id
       where r.id = (select max(id) from hartonomous.run_list) group by 1`,
    );
    let digits = 0;
    for (let step = 0; step < latest!.tokens.length; step++) {
      expect((await explain(latest!.id, step, `, inputs => 'none'`)).checks.choice_reproduced).toBe(true);
      const candidates = await rows<{
        token: string;
        cut_by: string | null;
        penalised_logit: number;
        chosen: boolean;
        probability: number;
      }>('select * from hartonomous.explain_candidates($1, $2)', [latest!.id, step]);
      for (const one of candidates) {
        const fits = /^[0-9]+$/.test(one.token) && digits + one.token.length <= 6;
        const ends = digits > 0 && one.token.startsWith('<');
        if (!fits && !ends) expect(one).toMatchObject({ cut_by: 'constraint', probability: 0 });
        if (fits) expect(one.cut_by).toBeNull();
        expect(Number.isFinite(one.penalised_logit)).toBe(true);
      }
      expect(candidates.some((one) => one.cut_by === 'constraint')).toBe(true);
      expect(candidates.find((one) => one.chosen)!.probability).toBeGreaterThan(0);
      digits += latest!.tokens[step]!.length;
    }
    expect(digits).toBeGreaterThan(0);
  });

  test('deletes tokens, words or sentences when asked, and nothing when told', async () => {
    for (const [mode, unit] of [
      ['tokens', 'token'],
      ['words', 'word'],
      ['sentences', 'sentence'],
      ['spans', 'span'],
    ]) {
      const deleted = await rows<{ unit: string }>(
        `select unit from hartonomous.explain_inputs($1, 2, inputs => $2) where leave_one_out is not null`,
        [run, mode],
      );
      expect(new Set(deleted.map((row) => row.unit))).toEqual(new Set([unit]));
    }
    await expect(rows(`select hartonomous.explain_inputs($1, 2, inputs => 'letters')`, [run])).rejects.toThrow(
      'inputs must be one of none, spans, words, sentences, tokens, got letters',
    );
    const none = await explain(run, 4, `, inputs => 'none'`);
    expect(none.top_input).toBeNull();
  });

  test('leave-one-out is the difference that logits of the shortened prompt show', async () => {
    const [{ prompt_ids: prompt, output_ids: output }] = await rows<{ prompt_ids: number[]; output_ids: number[] }>(
      'select prompt_ids, output_ids from hartonomous.run_list where id = $1',
      [run],
    );
    const step = 3;
    const logprob = async (ids: number[]): Promise<number> => {
      const [{ l }] = await rows<{ l: number[] }>(`select hartonomous.logits($1, 'tiny') as l`, [ids]);
      const most = Math.max(...l);
      return l[output[step]!]! - most - Math.log(l.reduce((sum, x) => sum + Math.exp(x - most), 0));
    };
    const whole = await logprob([...prompt, ...output.slice(0, step)]);
    const deleted = await rows<{ first_position: number; leave_one_out: number }>(
      `select first_position, leave_one_out from hartonomous.explain_inputs($1, $2, inputs => 'tokens')
       where leave_one_out is not null`,
      [run, step],
    );
    expect(deleted.length).toBe(prompt.length);
    for (const { first_position: at, leave_one_out: change } of deleted) {
      const without = await logprob([...prompt.filter((_, p) => p !== at), ...output.slice(0, step)]);
      expect(Math.abs(whole - without - change)).toBeLessThan(1e-4);
    }
  });

  test('writes attention into connections, where weights of a head sum to one', async () => {
    const sums = await rows<{ sum: number }>(
      'select sum(weight) as sum from hartonomous.explain_attention($1, 1, min_weight => 0) group by layer, head',
      [run],
    );
    expect(sums.length).toBe(16);
    for (const { sum } of sums) expect(sum).toBeCloseTo(1, 4);
    const [{ n, least }] = await rows<{ n: number; least: number }>(
      'select count(*)::int as n, min(weight) as least from hartonomous.attention_edges where run_id = $1 and step = 1',
      [run],
    );
    expect(n).toBeGreaterThan(16);
    expect(least).toBeGreaterThanOrEqual(0.01);
  });

  test('refuses steps and runs that are not there', async () => {
    await expect(explain(run, 99)).rejects.toThrow(new RegExp(`run ${run} has steps 0 to \\d+, got 99`));
    await expect(explain(999999, 0)).rejects.toThrow('run 999999 does not exist');
  });

  test('refuses a run whose logits it cannot reproduce, naming what differs', async () => {
    const other = await record('tiny', 'Thank you', { seed: 2 });
    await rows(`update hartonomous.run_tokens set logit = logit + 0.01 where run_id = $1`, [other]);
    await expect(explain(other, 0)).rejects.toMatchObject({
      message: expect.stringMatching(/^replay of run \d+ gives token \d+ of step 0 the logit -?\d+\.\d+, recorded is/),
      detail: expect.stringContaining('digest, precision and build are those of the run'),
    });
    await rows(`update hartonomous.runs set held_as = 'f32' where id = $1`, [other]);
    await expect(explain(other, 0)).rejects.toMatchObject({ detail: 'weights were held as f32, now as q8_0' });
  });

  test('says so when the model is gone, and works again once it is back', async () => {
    await ingestFile(database.url, TINY, 'passing');
    const other = await record('passing', 'Hello', { seed: 2 });
    // The same file under another name is the same model.
    await rows(`select hartonomous.remove_model('passing')`);
    expect((await explain(other, 0)).checks.replay_difference).toBe(0);
    await rows(`delete from hartonomous.explained_tokens where run_id = $1`, [other]);
    await rows(`update hartonomous.runs set model_digest = '\\x00112233445566' where id = $1`, [other]);
    await expect(explain(other, 0)).rejects.toThrow(
      `run ${other} was written by model passing with digest 001122334455, no model here has that digest`,
    );
  });
});

describe('explanations of other people', () => {
  test("are refused, and there is none of them in the views, until an admin grants that role's runs", async () => {
    const suffix = `${process.pid}_${Date.now().toString(36)}`;
    const [alice, bob] = [`alice_ex_${suffix}`, `bob_ex_${suffix}`];
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    try {
      for (const role of [alice, bob]) await client.query(`create role ${role}; grant hartonomous_user to ${role}`);
      await client.query(`set role ${alice}`);
      const id = (
        await client.query(
          `select (hartonomous.chat('[{"role":"user","content":"Hello"}]', 'tiny')->>'run_id')::int as id`,
        )
      ).rows[0].id;
      await client.query('select hartonomous.explain($1, 0)', [id]);
      await client.query(`set role ${bob}`);
      await expect(client.query('select hartonomous.explain($1, 0)', [id])).rejects.toThrow(`run ${id} does not exist`);
      for (const view of [
        'explanations',
        'explanation_components',
        'explanation_lens',
        'explanation_inputs',
        'top_candidates',
        'head_influence',
        'layer_influence',
      ]) {
        expect((await client.query(`select 1 from hartonomous.${view} where run_id = $1`, [id])).rows).toEqual([]);
      }
      await client.query('reset role');
      await client.query('select hartonomous.grant_runs($1, $2)', [bob, alice]);
      await client.query(`set role ${bob}`);
      expect((await client.query('select hartonomous.explain($1, 0) as e', [id])).rows[0].e.step).toBe(0);
      expect((await client.query('select 1 from hartonomous.explanations where run_id = $1', [id])).rows.length).toBe(
        1,
      );
      await client.query('reset role');
    } finally {
      await client.query('reset role');
      for (const role of [alice, bob]) await client.query(`drop owned by ${role}; drop role ${role}`);
      await client.end();
    }
  });
});
