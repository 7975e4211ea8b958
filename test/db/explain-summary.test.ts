/** The text of a summary, for each way in which a token may come about: it says what other functions say and measure. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const TINY = fileURLToPath(new URL('../../models/tiny/hartonomous-tiny-q8_0.gguf', import.meta.url));
const GREEDY = { temperature: 0, repeat_penalty: 1 };

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, TINY, 'tiny');
});

afterAll(async () => {
  await database.drop();
});

async function rows<T>(sql: string, values: unknown[] = []): Promise<T[]> {
  return (await database.pool.query(sql, values)).rows as T[];
}

interface Run {
  id: number;
  prompt_ids: number[];
  output_ids: number[];
  end_id: number | null;
}

/** The run that a call of the model recorded. */
async function recorded(call: string, values: unknown[]): Promise<Run> {
  await rows(`select ${call}`, values);
  return (
    await rows<Run>(
      `select id::int as id, prompt_ids, output_ids, end_id from hartonomous.run_list order by id desc limit 1`,
    )
  )[0]!;
}

const ask = (options: object, prompt = 'Hello, how are you?'): Promise<Run> =>
  recorded(`hartonomous.complete($1, 'tiny', $2)`, [
    prompt,
    JSON.stringify({ record: true, num_predict: 40, seed: 3, ...options }),
  ]);

interface Candidate {
  token: string;
  token_id: number;
  cut_by: string | null;
  penalised_logit: number;
  model_probability: number;
  probability: number;
  chosen: boolean;
}

interface Explained {
  token: string;
  token_id: number;
  summary: string;
  logprob: number;
  top_head: { layer: number; head: number; cost: number };
  top_ffn: { layer: number; cost: number };
  top_input: { input: string; influence: number } | null;
}

/** As a summary writes a probability. */
function chance(p: number): string {
  if (p >= 0.995 && p < 1) return '> 0.99';
  return p >= 0.005 || p === 0 ? p.toFixed(2) : p.toPrecision(2);
}

const quoted = (text: string): string => `'${text.replaceAll('\n', '\\n')}'`;

/** Explain a step and check what the summary says against the candidates, the inputs and the logits without each part. */
async function explain(run: Run, step: number): Promise<Explained> {
  const [{ e }] = await rows<{ e: Explained }>('select hartonomous.explain($1, $2) as e', [run.id, step]);
  const lines = e.summary.split('\n');
  const candidates = await rows<Candidate>('select * from hartonomous.explain_candidates($1, $2)', [run.id, step]);
  const chosen = candidates.find((one) => one.chosen)!;
  expect(lines.find((line) => line.startsWith('Final'))).toMatch(
    `Final probability: ${chance(chosen.probability)} (${chance(chosen.model_probability)} by the model`,
  );
  const [best] = candidates
    .filter((one) => !one.chosen && one.cut_by !== 'constraint')
    .sort((a, b) => b.penalised_logit - a.penalised_logit);
  const runnerUp = lines.find((line) => line.startsWith('Runner-up'))!;
  if (best === undefined) expect(runnerUp).toBe('Runner-up: none was allowed');
  else {
    expect(runnerUp.startsWith(`Runner-up: ${quoted(best.token)} (`), runnerUp).toBe(true);
    if (best.cut_by !== null) expect(runnerUp).toContain(`(cut by ${best.cut_by}, `);
    expect(best.token_id).not.toBe(chosen.token_id);
  }

  const inputs = await rows<{ input: string; leave_one_out: number; is_template: boolean }>(
    'select * from hartonomous.explain_inputs($1, $2) where leave_one_out is not null',
    [run.id, step],
  );
  expect(inputs.some((row) => row.is_template)).toBe(false);
  const words = /^\d\. the words '(.*)' \(without them (\d+\.\d\d) nats less likely\)$/m.exec(e.summary);
  const costliest = inputs.reduce((a, b) => (b.leave_one_out > a.leave_one_out ? b : a));
  if (words !== null) {
    expect(quoted(costliest.input)).toBe(`'${words[1]}'`);
    expect(costliest.leave_one_out.toFixed(2)).toBe(words[2]);
  }

  const ids = [...run.prompt_ids, ...run.output_ids.slice(0, step)];
  const logprobWithout = async (parts: object): Promise<number> => {
    const ablate = { ...parts, from: ids.length - 1 };
    const [{ logits }] = await rows<{ logits: number[] }>(`select hartonomous.logits($1, 'tiny', $2) as logits`, [
      ids,
      JSON.stringify({ ablate }),
    ]);
    const most = Math.max(...logits);
    return logits[e.token_id]! - most - Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0));
  };
  const { layer, head, cost } = e.top_head;
  expect(e.logprob - (await logprobWithout({ heads: [{ layer, head }] }))).toBeCloseTo(cost, 3);
  expect(e.logprob - (await logprobWithout({ ffns: [{ layer: e.top_ffn.layer }] }))).toBeCloseTo(e.top_ffn.cost, 3);
  const named = /layer (\d+), head (\d+), .* without it (\d+\.\d\d) nats/.exec(e.summary);
  if (named !== null) expect(named.slice(1)).toEqual([String(layer), String(head), cost.toFixed(2)]);
  return e;
}

/** The first step whose summary matches. */
async function findStep(run: Run, pattern: RegExp): Promise<string> {
  const seen: string[] = [];
  for (let step = 0; step < run.output_ids.length; step++) {
    const { summary } = await explain(run, step);
    if (pattern.test(summary)) return summary;
    seen.push(summary);
  }
  throw new Error(`no step of run ${run.id} has ${pattern}:\n${seen.join('\n\n')}`);
}

describe('a summary', () => {
  test('of a greedy choice has the words, the head and the network, each with its cost', async () => {
    const run = await ask(GREEDY);
    const [{ step }] = await rows<{ step: number }>(
      `select step from hartonomous.run_token_list where run_id = $1 and token = ' doing'`,
      [run.id],
    );
    const { summary } = await explain(run, step);
    console.log(summary);
    expect(summary).toMatch(
      /^Token ' doing' selected via:\n1\. the words '.+' \(without them \d+\.\d\d nats less likely\)\n(2\. attention from position \d+ '.+' \(layer \d, head \d, \d\.\d\d; without it \d+\.\d\d nats less likely\)\n)?\d\. FFN contribution \(layer \d, [+-]\d+\.\d logit over '.+'; without it \d+\.\d\d nats less likely\)\n/,
    );
    expect(summary).toMatch(
      /\nSettled: first from layer -?\d of 0 to 3 on\nFinal probability: 1\.00 \(.+ by the model, temperature 0\)\n/,
    );
    expect(summary).not.toMatch(/similar|draw|constraint|penalt/);
  });

  test('of a draw names the likelier token that it passed over', async () => {
    const run = await ask({ temperature: 4, top_k: 0, top_p: 1, repeat_penalty: 1, num_predict: 12 });
    expect(await findStep(run, /passed over/)).toMatch(
      /\n?\d\. the draw \(0\.\d{4}\), which passed over (the likelier|\d+ likelier tokens, first) '.+' \(.+\)\n/,
    );
  });

  test('of a penalised choice names the penalty and the token that fell behind', async () => {
    const run = await ask({ ...GREEDY, presence_penalty: 30, num_predict: 20 });
    expect(await findStep(run, /presence penalty/)).toMatch(
      /\d\. presence penalty, which put it before (the likelier|\d+ likelier tokens, first) '.+' \(.+\): that fell from -?\d+\.\d to -?\d+\.\d logit\n/,
    );
  });

  test('of a biased choice says that its own logit rose', async () => {
    const [id] = (await rows<{ ids: number[] }>(`select hartonomous.tokenize(' you', 'tiny') as ids`))[0]!.ids.slice(
      -1,
    );
    const run = await ask({ ...GREEDY, num_predict: 1, logit_bias: { [id!]: 100 } });
    const { summary } = await explain(run, 0);
    expect(summary).toMatch(/\n1\. logit bias, which put it before .*: it rose from -?\d+\.\d to \d+\.\d logit\n/);
  });

  test('tells that the runner-up was cut by top_k', async () => {
    const run = await ask({ temperature: 1, top_k: 1, repeat_penalty: 1, num_predict: 2 });
    const { summary } = await explain(run, 0);
    expect(summary).toMatch(
      /\nFinal probability: 1\.00 \(.+ by the model\)\nRunner-up: '.+' \(cut by top_k, .+ by the model\), \d+\.\d logit behind$/,
    );
  });

  test('of a constrained choice names the constraint and what it forbade', async () => {
    const run = await recorded(`hartonomous.generate_regex('When were you born?', '[0-9]{1,3}', 'tiny', $1)`, [
      JSON.stringify({ record: true, ...GREEDY }),
    ]);
    expect((await explain(run, 0)).summary).toMatch(
      /^Token '\d+' selected via:\n1\. the constraint \(regex\), which forbade (the likelier|\d+ likelier tokens, first) '.+'/,
    );
    const last = (await explain(run, run.output_ids.length - 1)).summary;
    if (run.end_id === null) expect(last).toMatch(/\nThe answer ended with it: the constraint asked for no more$/);
  });

  test('says that nothing else was allowed, and names no other cause', async () => {
    const run = await recorded(`hartonomous.generate_regex('Who?', 'Z', 'tiny', $1)`, [
      JSON.stringify({ record: true, ...GREEDY }),
    ]);
    const { summary } = await explain(run, 0);
    expect(summary).toMatch(
      /^Token 'Z' selected via:\n1\. the constraint \(regex\), which forbade .*\n(Settled: .*\n)?Final/,
    );
    expect(summary).toContain('\nRunner-up: none was allowed\n');
  });

  test('of the last token says which stop string ended the answer, and what the caller got of it', async () => {
    const whole = await ask(GREEDY);
    const [{ text }] = await rows<{ text: string }>(
      `select string_agg(text, '' order by position) as text from hartonomous.run_token_list where run_id = $1 and not is_prompt`,
      [whole.id],
    );
    const stop = text.slice(5, 8);
    const run = await ask({ ...GREEDY, stop });
    const { summary } = await explain(run, run.output_ids.length - 1);
    expect(summary).toContain(`\nThe answer ended with it: stop string ${JSON.stringify(stop)}\nThe caller got `);
    const [{ recordedText }] = await rows<{ recordedText: string }>(
      `select string_agg(text, '' order by position) as "recordedText" from hartonomous.run_token_list where run_id = $1 and not is_prompt`,
      [run.id],
    );
    expect(recordedText).toBe(text.slice(0, text.indexOf(stop)));
  });

  test('of an answer that was cut short says so', async () => {
    const run = await ask({ ...GREEDY, num_predict: 3 });
    expect((await explain(run, 2)).summary).toMatch(/\nThe answer ended with it: no more tokens were allowed$/);
    expect((await explain(run, 1)).summary).not.toContain('ended');
  });

  test('of the end says why the answer stopped, though that is no token of it', async () => {
    const run = await ask(GREEDY);
    expect(run.end_id).not.toBeNull();
    const { summary, token } = await explain(run, run.output_ids.length);
    console.log(summary);
    expect(summary.startsWith(`End of the answer '${token}' selected via:\n`)).toBe(true);
    await expect(explain(run, run.output_ids.length + 1)).rejects.toThrow(
      `run ${run.id} has steps 0 to ${run.output_ids.length}, got ${run.output_ids.length + 1}`,
    );
  });

  test('shows a part of a character as the character, and which bytes of it', async () => {
    const run = await recorded(`hartonomous.generate_choice('What?', array['😀'], 'tiny', $1)`, [
      JSON.stringify({ record: true, ...GREEDY }),
    ]);
    const { length } = run.output_ids;
    expect(length).toBeGreaterThan(1);
    const found: string[] = [];
    for (let step = 0; step < length; step++) {
      const first = /^Token '(.*?)' \(bytes (.*?)\) selected via:/.exec((await explain(run, step)).summary);
      if (first === null) continue;
      expect(first[1]).toContain('😀');
      found.push(first[2]!);
    }
    expect(found.length).toBeGreaterThan(1);
    expect(new Set(found).size).toBe(found.length);
  });
});

describe('inputs', () => {
  test("are the caller's words; what the template wrote is marked and left out unless it is asked for", async () => {
    const run = await recorded(`hartonomous.chat($1, 'tiny', $2)`, [
      JSON.stringify([
        { role: 'user', content: 'Hello' },
        { role: 'assistant', content: 'Hello there' },
        { role: 'user', content: 'how are you today?' },
      ]),
      JSON.stringify({ ...GREEDY, num_predict: 4, system: 'Be kind.' }),
    ]);
    const all = await rows<{
      unit: string;
      input: string;
      role: string | null;
      message: number | null;
      is_template: boolean;
    }>('select * from hartonomous.explain_inputs($1, 0, template => true) order by first_position', [run.id]);
    const said = (role: string, message: number): string =>
      all
        .filter((row) => row.unit === 'token' && row.role === role && row.message === message)
        .map((row) => row.input)
        .join('');
    expect(said('system', -1).trim()).toBe('Be kind.');
    expect(said('user', 0).trim()).toBe('Hello');
    expect(said('assistant', 1).trim()).toBe('Hello there');
    expect(said('user', 2).trim()).toBe('how are you today?');
    for (const row of all.filter((one) => one.unit === 'token')) expect(row.is_template).toBe(row.role === null);
    expect(all.some((row) => row.is_template)).toBe(true);
    const shown = await rows<{ is_template: boolean }>('select * from hartonomous.explain_inputs($1, 0)', [run.id]);
    expect(shown.length).toBe(all.filter((row) => !row.is_template).length);
  });

  test('of a long text are found by halving', async () => {
    const run = await ask({ ...GREEDY, num_predict: 1 }, `${'the sun is warm and '.repeat(12)}Hello, how are you?`);
    const spans = await rows<{ first_position: number; last_position: number; input: string; leave_one_out: number }>(
      'select * from hartonomous.explain_inputs($1, 0) where leave_one_out is not null order by first_position',
      [run.id],
    );
    expect(spans.length).toBe(9);
    for (const [i, span] of spans.entries()) {
      if (i > 0) expect(span.first_position).toBe(spans[i - 1]!.last_position + 1);
    }
    const [first] = [...spans].sort((a, b) => b.leave_one_out - a.leave_one_out);
    expect(first!.input.trim().split(' ').length).toBeLessThan(9);
  });

  test('are compared with another token in the same call', async () => {
    const run = await ask({ ...GREEDY, num_predict: 2 });
    const versus = await rows<{ leave_one_out: number; versus_leave_one_out: number; difference: number }>(
      `select * from hartonomous.explain_inputs($1, 0, versus => 'the') where leave_one_out is not null`,
      [run.id],
    );
    const plain = await rows<{ leave_one_out: number; versus_leave_one_out: number }>(
      `select * from hartonomous.explain_inputs($1, 0) where leave_one_out is not null`,
      [run.id],
    );
    versus.forEach((row, i) => {
      expect(row.difference).toBeCloseTo(row.leave_one_out - row.versus_leave_one_out, 4);
      expect(row.leave_one_out).toBeCloseTo(plain[i]!.leave_one_out, 4);
    });
    expect(versus.some((row, i) => Math.abs(row.versus_leave_one_out - plain[i]!.versus_leave_one_out) > 0.01)).toBe(
      true,
    );
  });
});

describe('classify', () => {
  test('is recorded where that is asked for, and its label explained', async () => {
    const labels = ['good', 'bad', 'sun'];
    const options = { record: true, instruction: 'Is it good or bad?' };
    const [best] = await rows<{ label: string; probability: number }>(
      `select * from hartonomous.classify('I am happy', $1, 'tiny', $2)`,
      [labels, JSON.stringify(options)],
    );
    const [run] = await rows<Run & { kind: string; text: string }>(
      `select id::int as id, kind, prompt_ids, output_ids, end_id,
         hartonomous.detokenize(output_ids, 'tiny') as text from hartonomous.run_list order by id desc limit 1`,
    );
    expect(run!.kind).toBe('classify');
    expect(best!.label.endsWith(run!.text.trim())).toBe(true);
    const { summary } = await explain(run!, 0);
    expect(summary).toContain(
      `\n1. its label '${best!.label}', the likeliest of 3 as a whole (${chance(best!.probability)})\n`,
    );
    expect(summary).not.toContain('would choose another');
  });
});

test('a run under a constraint that was not recorded is refused with the reason', async () => {
  const run = await ask({ ...GREEDY, num_predict: 60, response_format: { type: 'json_object' } });
  await rows(`update hartonomous.runs set sampling = sampling - 'constraint' where id = $1`, [run.id]);
  await expect(explain(run, 0)).rejects.toThrow(
    `run ${run.id} was written under option response_format before constraints were recorded, so which tokens were allowed is not known`,
  );
});
