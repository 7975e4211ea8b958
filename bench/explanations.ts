/**
 * How fast the views over explanations answer among many explained tokens: rows in the shape of a model of 6 layers of 6
 * heads are written straight into the tables, then each view is read for one run and for 1,000 tokens.
 *
 *   tsx bench/explanations.ts DATABASE_URL [TOKENS]      the database must have Hartonomous installed; rows are removed after
 */
import pg from 'pg';
import { median } from './statistics.ts';

const LAYERS = 6;
const HEADS = 6;
const PROMPT = 20;
const RUN_TOKENS = 100;
/** Positions that every head looks at with a weight that is stored. */
const LOOKED_AT = 3;
const CANDIDATES = 20;
const ROUNDS = 5;

const url = process.argv[2];
if (url === undefined) throw new Error('usage: tsx bench/explanations.ts DATABASE_URL [TOKENS]');
const tokens = Number(process.argv[3] ?? 100_000);
const runs = Math.ceil(tokens / RUN_TOKENS);
const client = new pg.Client({ connectionString: url });
await client.connect();

/** Runs of RUN_TOKENS explained tokens each; everything that a run owns goes with it. */
async function generate(): Promise<number> {
  const { rows } = await client.query<{ first: string }>(
    `with made as (
       insert into hartonomous.runs (caller, kind, model_name, model_digest, options, seed, prompt_ids, output_ids, done_reason,
         prompt_eval_count, eval_count, load_ns, prompt_eval_ns, eval_ns, total_ns)
       select hartonomous._caller(), 'bench', 'bench', '\\x00', '{}', r, array(select generate_series(1, $2)),
         array(select generate_series(1, $3)), 'length', $2, $3, 0, 0, 0, 0
       from generate_series(1, $1) r returning id)
     select min(id) as first from made`,
    [runs, PROMPT, RUN_TOKENS],
  );
  const first = Number(rows[0]!.first);
  const everyToken = `generate_series($1::bigint, $1::bigint + ${runs} - 1) run, generate_series(0, ${RUN_TOKENS - 1}) step`;
  const statements = [
    `insert into hartonomous.run_tokens (run_id, position, token_id, token, is_prompt, logprob, logit)
     select run, p, p, 'token' || p, p < ${PROMPT}, -1, 10
     from generate_series($1::bigint, $1::bigint + ${runs} - 1) run, generate_series(0, ${PROMPT + RUN_TOKENS - 1}) p`,
    `insert into hartonomous.explained_tokens (run_id, step, token_id, token, logit, logprob, probability, entropy, runner_up_id,
       runner_up, runner_up_logit, runner_up_probability, component_sum, residual, choice_reproduced, top_head_layer, top_head,
       top_head_contribution, top_head_position, top_head_weight, top_ffn_layer, top_ffn_contribution, inputs, summary)
     select run, step, step, 'token' || step, 10, ln(random() + 1e-9), random(), random(), 1, 'other', 9, 0.1, 10, 0, true,
       0, 0, 1, 0, 0.5, 0, 1, 'spans', 'Token selected via: ...' from ${everyToken}`,
    `insert into hartonomous.explained_candidates
     select run, step, rank, rank, 'token' || rank, 10 - rank, 10 - rank, 10 - rank, null, 0.1, 0.1, rank = 1
     from ${everyToken}, generate_series(1, ${CANDIDATES}) rank`,
    `insert into hartonomous.explained_components (run_id, step, layer, head, component, contribution, versus_contribution)
     select run, step, layer, head, case when head < 0 then 'ffn' else 'head' end::hartonomous.component_kind, random(), random()
     from ${everyToken}, generate_series(0, ${LAYERS - 1}) layer, generate_series(-1, ${HEADS - 1}) head`,
    `insert into hartonomous.explained_lens
     select run, step, layer, 1, 0.5, '{1,2,3,4,5}', '{a,b,c,d,e}', '{0.5,0.2,0.1,0.1,0.1}', true
     from ${everyToken}, generate_series(-1, ${LAYERS - 1}) layer`,
    `insert into hartonomous.explained_inputs
     select run, step, 'token', p, p, 'token' || p, 0.1, 0.1, 0.1, 0.1 from ${everyToken}, generate_series(0, ${PROMPT - 1}) p`,
    `insert into hartonomous.connections (run_id, step, layer, head, from_position, to_position, from_id, to_id, weight)
     select run, step, layer, head, ${PROMPT} + step - 1, p, 1, 1, random()
     from ${everyToken}, generate_series(0, ${LAYERS - 1}) layer, generate_series(0, ${HEADS - 1}) head,
       generate_series(0, ${LOOKED_AT - 1}) p`,
    `insert into hartonomous.component_rollups
     select run, case when head < 0 then 'ffn' else 'head' end::hartonomous.component_kind, layer, head, ${RUN_TOKENS}, 50, 50, 1, 1
     from generate_series($1::bigint, $1::bigint + ${runs} - 1) run, generate_series(0, ${LAYERS - 1}) layer,
       generate_series(-1, ${HEADS - 1}) head`,
  ];
  for (const statement of statements) await client.query(statement, [first]);
  await client.query('vacuum analyze');
  return first;
}

async function milliseconds(sql: string): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const started = performance.now();
    await client.query(sql);
    times.push(performance.now() - started);
  }
  return median(times);
}

const first = await generate();
const last = first + runs - 1;
console.log(
  `${runs} runs, ${runs * RUN_TOKENS} explained tokens; median of ${ROUNDS}, milliseconds, rows sent to the client`,
);
try {
  const one = `run_id = ${first + Math.floor(runs / 2)}`;
  const thousand = `run_id between ${first} and ${first + 9}`;
  const queries: [string, string][] = [
    ['explanations', 'select * from hartonomous.explanations where WHERE'],
    [
      'explanation_components',
      'select component, layer, head, avg(contribution) from hartonomous.explanation_components where WHERE group by 1, 2, 3',
    ],
    [
      'explanation_inputs',
      'select input, avg(leave_one_out) from hartonomous.explanation_inputs where WHERE group by 1',
    ],
    ['explanation_lens', 'select layer, avg(probability) from hartonomous.explanation_lens where WHERE group by 1'],
    ['top_candidates', 'select rank, avg(probability) from hartonomous.top_candidates where WHERE group by 1'],
    [
      'attention_edges',
      'select layer, head, to_token, avg(weight) from hartonomous.attention_edges where WHERE group by 1, 2, 3',
    ],
    [
      'head_influence',
      'select layer, head, sum(total) / sum(tokens) from hartonomous.head_influence where WHERE group by 1, 2',
    ],
    [
      'layer_influence',
      'select layer, part, sum(total) / sum(tokens) from hartonomous.layer_influence where WHERE group by 1, 2',
    ],
    ['uncertain_tokens', 'select * from hartonomous.uncertain_tokens where WHERE'],
  ];
  for (const [view, sql] of queries) {
    const ofRun = await milliseconds(sql.replace('WHERE', one));
    const ofThousand = await milliseconds(sql.replace('WHERE', thousand));
    console.log(
      `${view.padEnd(24)} one run ${ofRun.toFixed(1).padStart(7)}   1,000 tokens ${ofThousand.toFixed(1).padStart(7)}`,
    );
  }
  const all = await milliseconds(
    'select layer, head, sum(total) / sum(tokens) from hartonomous.head_influence group by 1, 2',
  );
  console.log(`head_influence over everything ${all.toFixed(1)}`);
} finally {
  await client.query('delete from hartonomous.runs where id between $1 and $2', [first, last]);
  await client.end();
}
