/** Functions of ours in queries that PostgreSQL would rather run in parallel: the same rows as in one process, on every LANGUAGE plv8. */
import pg from 'pg';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const ROWS = 20_000;
/** A few rows, found by a scan that workers share. */
const FEW = 'from public.big where id % 5000 = 7';
const RAW = `'{"raw": true, "temperature": 0, "num_predict": 3}'`;

let database: TestDatabase;
/** A session without parallel plans. */
let serial: pg.Client;
let run: string;

beforeAll(async () => {
  database = await createDatabase();
  await ingestFile(database.url, modelPath('zoo/qwen2-tiny-f32.gguf'), 'qwen');
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  await ingestFile(database.url, modelPath('zoo/bert-reranker-f32.gguf'), 'ranker');
  await database.pool.query(`select hartonomous.set_default_model('qwen')`);
  await database.pool.query(
    `create table public.big as select g as id, 'row ' || g as body, array[g % 7, 1, 2]::real[] as v from generate_series(1, ${ROWS}) g;
     analyze public.big`,
  );
  await database.pool.query(
    `create table public.notes (id int primary key, body text);
     insert into public.notes select g, 'row ' || g from generate_series(1, 9) g;
     select hartonomous.create_search('public.notes', '{body}', model => 'bert')`,
  );
  await database.pool.query('call hartonomous.work()');
  const { rows } = await database.pool.query<{ id: string }>(
    `select hartonomous.complete('Once', options => '{"raw": true, "num_predict": 2, "temperature": 0, "record": true}')->>'run_id' as id`,
  );
  run = rows[0]!.id;
  serial = new pg.Client({ connectionString: database.url });
  await serial.connect();
  await serial.query('set max_parallel_workers_per_gather = 0');
});

afterAll(async () => {
  await serial.end();
  await database.drop();
});

const PARALLEL = [
  'set min_parallel_table_scan_size = 0',
  'set parallel_setup_cost = 0',
  'set parallel_tuple_cost = 0',
  'set max_parallel_workers_per_gather = 2',
];

async function rowsOf(sql: string, settings: string[]): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    for (const setting of settings) await client.query(setting);
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/** Workers bring rows in any order. */
const sorted = (rows: unknown[]): string[] => rows.map((row) => JSON.stringify(row)).sort();

/** Every function that a query may call, as the first call of its session. */
const QUERIES: Record<string, string> = {
  tokenize: `select id, hartonomous.tokenize(body) ${FEW}`,
  token_count: `select id, hartonomous.token_count(body) ${FEW}`,
  'token_count in a filter': `select id from public.big where id % 5000 = 7 and hartonomous.token_count(body) > 1`,
  detokenize: `select id, hartonomous.detokenize(hartonomous.tokenize(body)) ${FEW}`,
  logits: `select id, hartonomous.logits(array[id % 100])::text ${FEW}`,
  generate: `select id, hartonomous.generate(body, options => ${RAW}) ${FEW}`,
  complete: `select id, hartonomous.complete(body, options => ${RAW})->>'text' as text ${FEW}`,
  chat: `select id, hartonomous.render_chat(json_build_array(json_build_object('role', 'user', 'content', body)), 'qwen') ${FEW}`,
  generate_choice: `select id, hartonomous.generate_choice(body, array['yes', 'no'], options => '{"temperature": 0}') ${FEW}`,
  generate_stream: `select id, s.token ${FEW.replace('big', 'big, lateral hartonomous.generate_stream(body, options => ' + RAW + ') s')}`,
  embed: `select id, hartonomous.embed(body, 'bert')::text ${FEW}`,
  similarity: `select id, hartonomous.similarity(body, 'row', 'bert') ${FEW}`,
  rerank: `select id, (select doc from hartonomous.rerank(body, array['row', 'column'], 'bert') limit 1) as first ${FEW}`,
  search: `select id, (select string_agg(s.key, ',' order by s.score desc) from hartonomous.search('public.notes_search', body, 2) s) as found ${FEW}`,
  explain_similarity: `select id, (select sum(contribution)::numeric(9, 6) from hartonomous.explain_similarity(body, 'row', 'bert')) as sum ${FEW}`,
  explain_rerank: `select id, e.* from public.big, lateral hartonomous.explain_rerank(body, 'a row', 'ranker') e where id = 7`,
  classify: `select id, (select label from hartonomous.classify(body, array['a', 'b']) order by 1 limit 1) as label ${FEW}`,
  embedding: `select id, hartonomous.embedding(hartonomous.detokenize(array[id % 200 + 20]), 'qwen')::text from public.big where id = 7`,
  nearest_tokens: `select id, (select count(*) from hartonomous.nearest_tokens(hartonomous.detokenize(array[70], 'qwen'), 3, 'qwen')) as n from public.big where id = 7`,
  dot_product: `select sum(hartonomous.dot_product(v, v)) as sum from public.big where id % 50 = 0`,
  cosine_similarity: `select max(hartonomous.cosine_similarity(v, array[1, 1, 1]::real[])) as most from public.big where id % 50 = 0`,
  hilbert_encode: `select sum(hartonomous.hilbert_encode(array[id % 16, 3], 4)) as sum from public.big where id % 50 = 0`,
  hilbert_decode: `select hartonomous.hilbert_decode(id, 2, 8), count(*) from public.big where id % 5000 < 3 group by 1 order by 1`,
  default_model: `select id, hartonomous.default_model() ${FEW}`,
  build_id: `select id, hartonomous.build_id() = hartonomous.build_id() as same ${FEW}`,
  explain: `select id, hartonomous.explain(RUN, 0)->>'token' as token from public.big where id = 7`,
  explain_candidates: `select id, e.* from public.big, lateral hartonomous.explain_candidates(RUN, id - 7) e where id = 7`,
  explain_components: `select id, e.* from public.big, lateral hartonomous.explain_components(RUN, id - 7) e where id = 7`,
  explain_lens: `select id, e.* from public.big, lateral hartonomous.explain_lens(RUN, id - 7) e where id = 7`,
  explain_inputs: `select id, e.* from public.big, lateral hartonomous.explain_inputs(RUN, id - 7) e where id = 7`,
  explain_attention: `select id, e.* from public.big, lateral hartonomous.explain_attention(RUN, id - 7) e where id = 7`,
  'functions of texts': `select id, (select string_agg(g.text, '|' order by g.ord) from hartonomous.generate(array[body, 'x'], options => ${RAW}) g),
    (select count(*) from hartonomous.embed(array[body, 'x'], 'bert')), (select count(*) from hartonomous.chunk(body)) ${FEW}`,
  'functions of a form': `select id, hartonomous.generate_regex(body, '[ab]', options => ${RAW}) as regex,
    hartonomous.generate_json(body, '{"type": "boolean"}'::text, options => '{"raw": true, "temperature": 0, "num_predict": 9}')::text as json,
    hartonomous.generate_grammar(body, 'root ::= "a" | "b"', options => ${RAW}) as grammar ${FEW}`,
  'functions of conversations': `select id, hartonomous.chat(json_build_array(json_build_object('role', 'user', 'content', body)), options => '{"temperature": 0, "num_predict": 3}')->>'text' as answer,
    (select count(*) from hartonomous.next_tokens(hartonomous.open_session(to_json(body), options => ${RAW}), 3)) as tokens,
    hartonomous.close_session(hartonomous.open_session(to_json(body), options => ${RAW})) is not null as closed ${FEW}`,
  'functions of models and runs': `select id, hartonomous.show_model('qwen') ->> 'name' as name, hartonomous.default_embedding_model() as chosen,
    hartonomous.unload('bert') >= 0 as freed, hartonomous.prune_runs('1000 years') as pruned ${FEW}`,
  'the view model_list': `select id, m.name from public.big, hartonomous.model_list m where id % 5000 = 7 order by 1, 2`,
  'the view loaded_models': `select count(*) >= 0 as some from public.big, hartonomous.loaded_models where id % 5000 = 7`,
};

test.each(Object.entries(QUERIES))('%s', async (_name, sql) => {
  const query = sql.replace('RUN', run);
  const { rows: alone } = await serial.query<Record<string, unknown>>(query);
  expect(sorted(await rowsOf(query, PARALLEL))).toEqual(sorted(alone));
  expect(alone.length).toBeGreaterThan(0);
});

test('these are all functions that a user may call', async () => {
  const { rows } = await database.pool.query<{ name: string }>(
    `select distinct p.proname as name from pg_proc p
     where p.pronamespace = 'hartonomous'::regnamespace and p.proname !~ '^_' and has_function_privilege('hartonomous_user', p.oid, 'execute')
     order by 1`,
  );
  const all = Object.values(QUERIES).join('\n');
  const missing = rows.filter(({ name }) => !all.includes(`hartonomous.${name}(`)).map(({ name }) => name);
  // One of several servers; those that make and keep searches write and lock.
  const others = ['create_search', 'drop_search', 'refresh_search', 'retry_search', 'set_search_model', 'work'];
  expect(missing).toEqual(['cluster_generate', ...others]);
});

test('a query without functions of ours runs in parallel with these settings', async () => {
  const plan = await rowsOf('explain select id from public.big where id % 5000 = 7', PARALLEL);
  expect(JSON.stringify(plan)).toContain('Parallel Seq Scan');
});

test('labels are those that the language can keep', async () => {
  const { rows } = await database.pool.query<{ label: string; n: number }>(
    `select proparallel as label, count(*)::int as n from pg_proc where pronamespace = 'hartonomous'::regnamespace group by 1`,
  );
  const labels = rows.map(({ label }) => label).sort();
  expect(labels).toEqual(inject('language') === 'own' ? ['r', 's', 'u'] : ['u']);
});
