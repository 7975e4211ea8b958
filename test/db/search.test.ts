/** Searches over one's own tables, through SQL: what is in the chunks is what the table says, whatever happens meanwhile. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { postgresBin } from '../../cli/cluster/cluster.ts';
import { hartonomous } from '../cli/program.ts';
import { modelPath } from '../golden/model-files.ts';
import { createDatabase, ingestFile, roleName } from './harness.ts';
import type { TestDatabase } from './harness.ts';

const owner = roleName('owner');
const reader = roleName('reader');
const writer = roleName('writer');

let database: TestDatabase;
let admin: pg.Client;
let session: pg.Client;
const clients: pg.Client[] = [];

/** A session of a role that is its own, as after a login. */
async function login(role: string | null, url = database.url): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  clients.push(client);
  await client.connect();
  if (role !== null) await client.query(`set session authorization ${role}`);
  return client;
}

beforeAll(async () => {
  database = await createDatabase();
  await database.createRole(owner, 'hartonomous_user');
  await database.createRole(reader, 'hartonomous_user');
  await database.createRole(writer);
  await ingestFile(database.url, modelPath('zoo/bert-tiny-f32.gguf'), 'bert');
  await ingestFile(database.url, modelPath('zoo/nomic-bert-f32.gguf'), 'nomic');
  await ingestFile(database.url, modelPath('zoo/bert-reranker-f32.gguf'), 'ranker');
  admin = await login(null);
  await admin.query(`select hartonomous.set_default_model('bert')`);
  await admin.query(`create schema app authorization ${owner}; grant usage on schema app to ${reader}, ${writer}`);
  await admin.query(`alter role ${owner} login password 'secret'; alter role ${owner} set search_path = app`);
  session = await login(owner);
  await session.query('set search_path = app');
});
afterAll(async () => {
  for (const client of clients) await client.end();
  await database.drop();
});

async function rows(sql: string, ...values: unknown[]): Promise<Record<string, unknown>[]> {
  return (await session.query<Record<string, unknown>>(sql, values)).rows;
}

/** Chunks that should be there and are not, and the other way round. */
async function differences(
  table: string,
  { model = 'bert', kind = 'null', client = session }: { model?: string; kind?: string; client?: pg.Client } = {},
): Promise<unknown[]> {
  const answer = await client.query(
    `with found as materialized (
       select c.key::text, c.number, c."from", c.text, md5(c.embedding::text), c.words from app.${table}_search_chunks c
     ), wanted as materialized (
       select t.id::text, c.number, c."from", c.text,
         md5(hartonomous._vector_bytes(hartonomous.embed(c.text, '${model}', '{"normalize": true, "kind": ${kind}}'))::text), to_tsvector('english', c.text)
       from app.${table} t cross join lateral hartonomous.chunk(t.body, '${model}', '{"size": 20}') c
     )
     (select 'too many' as what, * from (table found except all table wanted) a)
     union all (select 'missing', * from (table wanted except all table found) b)`,
  );
  return answer.rows;
}

const OPTIONS = `'{"chunking": {"size": 20}, "language": "english", "vector": "bytea"}'`;
const WORDS = ['the moon is bright', 'boats on the water', 'rabbits live in the ground. They are quiet and eat grass'];

async function makeTable(name: string, columns = 'id bigint primary key, body text'): Promise<void> {
  await session.query(`create table ${name} (${columns})`);
}

async function makeSearch(table: string): Promise<void> {
  await session.query(`select hartonomous.create_search('${table}', '{body}', options => ${OPTIONS})`);
}

async function waitUntil(what: string, sql: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    const answer = await admin.query<{ yes: boolean }>(`select (${sql}) as yes`);
    if (answer.rows[0]!.yes) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`not within ten seconds: ${what}`);
}

/** A worker that has embedded everything and waits to write it, until `go`; answers how the call ended. */
async function heldWorker(search: string): Promise<{ pid: number; ended: Promise<unknown>; go: () => Promise<void> }> {
  const holder = await login(owner);
  await holder.query('begin');
  await holder.query(`select from hartonomous._own_searches where search = '${search}'::regclass for update`);
  const worker = await login(owner);
  const pid = (await worker.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid;
  const ended = worker.query(`call hartonomous.work('${search}')`).catch((error: unknown) => error);
  await waitUntil('a worker waits', `select wait_event_type = 'Lock' from pg_stat_activity where pid = ${pid}`);
  return { pid, ended, go: async () => void (await holder.query('commit')) };
}

describe('changes', () => {
  test.each([
    ['bigint', ['1', '2', '3'], '4'],
    [
      'uuid',
      [
        '4b0c0000-0000-0000-0000-000000000001',
        '4b0c0000-0000-0000-0000-000000000002',
        '4b0c0000-0000-0000-0000-000000000003',
      ],
      '00000000-0000-0000-0000-000000000000',
    ],
    ['text collate "C"', ["it's", 'B', '%I'], ''],
    ['date', ['2026-01-01', '2026-01-02', '2026-01-03'], '-infinity'],
  ])('of every kind are followed, with keys of type %s', async (type, keys, other) => {
    const table = `of_${type.slice(0, 4)}`;
    await makeTable(table, `id ${type} primary key, body text, seen integer default 0`);
    await session.query(`insert into ${table} values ($1, $2)`, [keys[0], WORDS[0]]);
    await makeSearch(table);
    const settled = async (): Promise<void> => {
      await session.query('call hartonomous.work()');
      expect(await differences(table)).toEqual([]);
      expect(await rows(`select count(*)::integer as n from ${table}_search_queue`)).toEqual([{ n: 0 }]);
    };
    await settled();
    await session.query(`insert into ${table} values ($1, $2), ($3, $4)`, [keys[1], WORDS[1], keys[2], WORDS[2]]);
    await settled();
    const all = `select count(*)::integer as n, max(id) as last from ${table}_search_chunks`;
    expect(await rows(all)).toEqual([{ n: 4, last: '4' }]);
    await session.query(`update ${table} set seen = 1`); // texts are as they were, and so are their chunks
    await settled();
    expect(await rows(all)).toEqual([{ n: 4, last: '4' }]);
    await session.query(`update ${table} set body = 'Listen. ' || body where id = $1`, [keys[2]]);
    await session.query(`update ${table} set id = $2 where id = $1`, [keys[0], other]);
    await session.query(`update ${table} set body = null where id = $1`, [keys[1]]);
    await settled();
    await session.query(`delete from ${table} where id = $1`, [keys[2]]);
    await settled();
    expect(await rows(`select id::text, number, text from ${table}_search`)).toEqual([
      { id: other, number: 1, text: WORDS[0] },
    ]);
    await session.query(`truncate ${table}; insert into ${table} values ('${other}', 'new')`);
    await settled();
    await session.query(`select hartonomous.drop_search('${table}_search'); drop table ${table}`);
  });

  test('keys of several columns and expressions', async () => {
    await makeTable('pairs', 'a integer, b text, title text, body text, primary key (b, a)');
    await session.query(`insert into pairs values (1, 'x', 'Moon', 'bright'), (2, 'x', 'Sea', 'deep')`);
    await session.query(
      `select hartonomous.create_search('pairs', '{title,body}'), hartonomous.create_search('pairs', name => 'loud', options => '{"expression": "upper(body)"}')`,
    );
    await session.query(`update pairs set a = 3 where a = 1`);
    await session.query('call hartonomous.work()');
    expect(await rows('select * from pairs_search order by a')).toEqual([
      { b: 'x', a: 2, number: 1, from: 1, to: 9, text: 'Sea\n\ndeep' },
      { b: 'x', a: 3, number: 1, from: 1, to: 12, text: 'Moon\n\nbright' },
    ]);
    expect(await rows(`select key, text from hartonomous.search('loud', 'deep', 1, 'a = 2')`)).toEqual([
      { key: '["x", 2]', text: 'DEEP' },
    ]);
    await session.query(`select hartonomous.drop_search('pairs_search'), hartonomous.drop_search('loud')`);
  });
});

describe('workers', () => {
  beforeAll(async () => {
    await makeTable('notes');
    await session.query(`insert into notes select i, 'note ' || i from generate_series(1, 30) i`);
    await makeSearch('notes');
  });

  test('a worker that is killed before it writes leaves everything to the next', async () => {
    const held = await heldWorker('app.notes_search');
    await admin.query('select pg_terminate_backend($1)', [held.pid]);
    await expect(held.ended).resolves.toMatchObject({ code: '57P01' });
    await held.go();
    expect(await rows('select waiting from hartonomous.search_list')).toEqual([{ waiting: '31' }]);
    expect(await rows('select count(*)::integer as n from notes_search_chunks')).toEqual([{ n: 0 }]);
  });

  test('two at once share the work', async () => {
    const other = await login(owner);
    await Promise.all([session, other].map((client) => client.query(`call hartonomous.work(batch => 3)`)));
    expect(await differences('notes')).toEqual([]);
    expect(await rows('select waiting, failed, rows_done from hartonomous.search_list')).toEqual([
      { waiting: '0', failed: '0', rows_done: '31' },
    ]);
  });

  test('a row that is changed twice while it is embedded ends as it is in the table', async () => {
    await session.query(`update notes set body = 'once' where id = 7; delete from notes where id = 8`);
    const held = await heldWorker('app.notes_search');
    await session.query(`update notes set body = 'twice' where id = 7`);
    await session.query(`update notes set body = 'thrice' where id = 7; insert into notes values (8, 'again')`);
    await held.go();
    await held.ended;
    expect(await differences('notes')).toEqual([]);
    expect(await rows(`select text from notes_search where id in (7, 8) order by id`)).toEqual([
      { text: 'thrice' },
      { text: 'again' },
    ]);
  });

  test('a new model takes over when all of it is there, and the old one answers until then', async () => {
    await session.query(`grant select on notes, notes_search, notes_search_chunks to ${reader}`);
    await session.query(`select hartonomous.set_search_model('notes_search', 'nomic')`);
    await session.query(`insert into notes values (31, 'a late note')`);
    await session.query(`select hartonomous._work('notes_search', 16)`);
    const models = 'select model, next_model from hartonomous.search_list';
    expect(await rows(models)).toEqual([{ model: 'bert', next_model: 'nomic' }]);
    const ask = `select key from hartonomous.search('app.notes_search', 'note 3', 1)`;
    expect(await rows(ask)).toEqual([{ key: '3' }]);
    await session.query('call hartonomous.work()');
    expect(await rows(models)).toEqual([{ model: 'nomic', next_model: null }]);
    expect(await differences('notes', { model: 'nomic', kind: '"document"' })).toEqual([]);
    // Queries and documents have prefixes now, and which vector is the nearest is the random model's affair.
    const worded = `select key from hartonomous.search('app.notes_search', 'note 3', 40) where text_rank = 1`;
    expect((await (await login(reader)).query(worded)).rows).toEqual([{ key: '3' }]);
    expect(await rows(`select relname from pg_class where relname ~ 'notes_search_chunks_next$'`)).toEqual([]);
  });

  test('of the program: it works as the owner who connects, and doctor tells of what waits', async () => {
    await session.query(`insert into notes values (32, 'for the program')`);
    const url = new URL(database.url);
    url.username = owner;
    url.password = 'secret';
    await admin.query(
      `create table public.kept (id integer primary key, body text); insert into public.kept values (1, 'a')`,
    );
    await admin.query(`select hartonomous.create_search('public.kept', '{body}')`);
    expect((await hartonomous(['doctor'], { url: database.url })).stdout).toMatch(
      /^ok {3}search +public\.kept_search: 2 changes wait, the oldest for \d+ s, 0 were given up -> hartonomous work$/m,
    );
    await admin.query(`select hartonomous.drop_search('public.kept_search')`);
    expect(await hartonomous(['work'], { url: url.toString() })).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^notes_search: \d+ changes done in all, 0 wait, 0 given up\n$/) as string,
      stderr: '',
    });
    expect(await differences('notes', { model: 'nomic', kind: '"document"' })).toEqual([]);
    const nobody = await hartonomous(['work', 'app.nothing'], { url: url.toString() });
    expect(nobody).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('relation "app.nothing" does not exist') as string,
    });
  });

  test('a model that is gone stops the work and says so, and nothing is given up', async () => {
    await admin.query(`select hartonomous.remove_model('nomic')`);
    await session.query(`insert into notes values (33, 'waits')`);
    await session.query('call hartonomous.work()');
    expect(
      await rows('select waiting, failed, error, paused_until > now() as paused from hartonomous.search_list'),
    ).toEqual([
      {
        waiting: '1',
        failed: '0',
        error: 'model nomic of search app.notes_search is gone or another than it was',
        paused: true,
      },
    ]);
    await expect(rows(`select * from hartonomous.search('notes_search', 'note')`)).rejects.toMatchObject({
      message: 'model nomic of search app.notes_search is gone or another than it was',
      hint: `select hartonomous.set_search_model('app.notes_search', 'NAME') makes all embeddings anew`,
    });
    await session.query(`select hartonomous.set_search_model('notes_search')`);
    await session.query('call hartonomous.work()');
    expect(await differences('notes')).toEqual([]);
  });
});

test('a row that cannot be embedded is given up in the end, holds up no other, and comes back when it is mended', async () => {
  await makeTable('poisoned');
  await session.query(`insert into poisoned select i, 'row ' || i from generate_series(1, 5) i`);
  await session.query(`select hartonomous.create_search('poisoned', options => '{"chunking": {"size": 20}, "language": "english",
    "expression": "case when body ~ ''poison'' then (1 / (length(body) - length(body)))::text else body end"}')`);
  await session.query(`update poisoned set body = 'poison' where id = 2`);
  await session.query(`call hartonomous.work()`);
  const queue = `select attempts, due = 'infinity' as given_up, error from poisoned_search_queue`;
  const failing = { attempts: 1, given_up: false, error: 'division by zero' };
  expect(await rows(queue)).toEqual([failing, failing]); // the row as it was made, and its change
  expect(await rows('select count(*)::integer as n from poisoned_search')).toEqual([{ n: 4 }]);
  for (let i = 0; i < 4; i++) {
    await session.query(`update poisoned_search_queue set due = now() where due < 'infinity'`);
    await session.query(`call hartonomous.work()`);
  }
  const dead = { attempts: 5, given_up: true, error: 'division by zero' };
  expect(await rows(queue)).toEqual([dead, dead]);
  const state = `select waiting, failed, error from hartonomous.search_list where search = 'poisoned_search'::regclass`;
  expect(await rows(state)).toEqual([{ waiting: '0', failed: '2', error: 'division by zero' }]);
  expect(await rows(`select hartonomous.retry_search('poisoned_search') as n`)).toEqual([{ n: '2' }]);
  await session.query(`call hartonomous.work()`);
  expect(await rows(queue)).toEqual([failing, failing]);
  await session.query(
    `update poisoned_search_queue set due = 'infinity'; update poisoned set body = 'mended' where id = 2`,
  );
  await session.query(`call hartonomous.work()`);
  expect(await rows(queue)).toEqual([]);
  expect(await differences('poisoned')).toEqual([]);
});

describe('search', () => {
  beforeAll(async () => {
    await makeTable(
      'docs',
      'id integer primary key, body text, kind text default $$a$$, seller name default current_user',
    );
    await session.query(
      `insert into docs (id, body) select i, unnest from unnest($1::text[]) with ordinality u (unnest, i)`,
      [WORDS],
    );
    await session.query(`insert into docs values (4, 'the moon, hidden', 'b', 'somebody')`);
    await makeSearch('docs');
    await session.query('call hartonomous.work()');
  });

  test('fuses the ranks of vectors and of words', async () => {
    const found = await rows(
      `select s.*, hartonomous.similarity('moon boats', s.text, 'bert') as cosine from hartonomous.search('docs_search', 'moon boats') s`,
    );
    expect(found).toHaveLength(5);
    const byVector = [...found].sort((a, b) => Number(b.cosine) - Number(a.cosine));
    expect(byVector.map(({ vector_rank: rank }) => rank)).toEqual([1, 2, 3, 4, 5]);
    for (const { vector_rank: v, vector_score: score, cosine, text_rank: t, score: fused, text } of found) {
      expect(score).toBeCloseTo(Number(cosine), 5);
      expect(t !== null).toBe(/moon|boats/.test(String(text)));
      expect(fused).toBeCloseTo(1 / (60 + Number(v)) + (t === null ? 0 : 1 / (60 + Number(t))), 10);
    }
    expect(found.map(({ score }) => score)).toEqual(found.map(({ score }) => Number(score)).sort((a, b) => b - a));
  });

  test('takes weights, a condition and a reranker', async () => {
    const keys = async (args: string): Promise<unknown[]> =>
      (await rows(`select key from hartonomous.search('docs_search', 'the moon', ${args})`)).map(({ key }) => key);
    expect((await keys(`options => '{"vector_weight": 0}'`)).sort()).toEqual(['1', '4']);
    expect(await keys(`filter => 'kind = ''b'' -- or all'`)).toEqual(['4']);
    expect(await keys(`filter => 'docs.id > 1 and id < 3'`)).toEqual(['2']);
    const ranked = await rows(
      `select text, rerank_score from hartonomous.search('docs_search', 'the moon', 2, options => '{"rerank": "ranker"}')`,
    );
    const best = await rows(
      `select r.doc as text, r.score as rerank_score from hartonomous.rerank('the moon', array(select text from docs_search), 'ranker') r limit 2`,
    );
    expect(ranked).toEqual(best);
  });

  test.each([
    [`'the', 0`, '22023', 'k must be 1 to 1000, got 0'],
    [`'the', options => '{"weight": 1}'`, '22023', 'unknown option "weight"'],
    [
      `'the', options => '{"text_weight": -1}'`,
      '22023',
      'option text_weight must be a number from 0 to 1000000, got -1',
    ],
    [
      `'the', options => '{"candidates": 1.5}'`,
      '22023',
      'option candidates must be an integer from 1 to 10000, got 1.5',
    ],
    [`'the', options => '{"rerank": "nobody"}'`, '42704', 'model nobody does not exist'],
    [`'the', filter => 'nothing = 1'`, '42703', 'filter "nothing = 1": column "nothing" does not exist'],
    [`'the', filter => 'number = 1'`, '42703', 'filter "number = 1": column "number" does not exist'],
    [`'the', filter => ''`, '42601', 'filter "": syntax error at or near ")"'],
  ])('refuses (%s)', async (args, code, message) => {
    await expect(rows(`select * from hartonomous.search('docs_search', ${args})`)).rejects.toMatchObject({
      code,
      message,
      internalQuery: undefined,
    });
  });

  test('shows nobody chunks of rows that row security hides', async () => {
    const other = await login(reader);
    const ask = `select key from hartonomous.search('app.docs_search', 'the moon') order by key`;
    await expect(other.query(ask)).rejects.toMatchObject({
      code: '42704',
      message: `app.docs_search is no search whose chunks ${reader} may read`,
    });
    await session.query(
      `alter table docs enable row level security; update docs set seller = '${reader}' where id = 2`,
    );
    await session.query(`create policy own on docs using (seller = current_user)`);
    await session.query(`grant select on docs, docs_search, docs_search_chunks to ${reader}`);
    expect((await other.query(ask)).rows).toEqual([{ key: '2' }]);
    expect((await other.query('select id from app.docs_search')).rows).toEqual([{ id: 2 }]);
    expect((await other.query('select key from app.docs_search_chunks')).rows).toEqual([{ key: 2 }]);
    expect(
      (await other.query(`select key from hartonomous.search('app.docs_search', 'moon', filter => 'true) or (true')`))
        .rows,
    ).toEqual([{ key: '2' }]);
    expect((await other.query('select * from hartonomous.search_list')).rows).toEqual([]);
    await expect(other.query(`select hartonomous.drop_search('app.docs_search')`)).rejects.toMatchObject({
      message: `app.docs_search is no search of ${reader}`,
    });
    await session.query('call hartonomous.work()');
    expect(await rows(`select count(*)::integer as n from docs_search`)).toEqual([{ n: 5 }]); // the owner sees all
  });
});

describe('with pgvector', () => {
  test.for(['vector', 'halfvec'])('%s is indexed, and finds what an exact search finds', async (type, context) => {
    const { rows: there } = await admin.query(`select from pg_available_extensions where name = 'vector'`);
    if (there.length === 0) return context.skip('extension vector is not available');
    await admin.query('create extension if not exists vector schema public');
    await makeTable(`of_${type}`);
    await session.query(
      `insert into of_${type} select i, 'note ' || i || ' of ' || i % 7 from generate_series(1, 60) i`,
    );
    await session.query(
      `select hartonomous.create_search('of_${type}', '{body}', options => '{"vector": "${type}"}'),
        hartonomous.create_search('of_${type}', '{body}', 'exact', options => '{"vector": "bytea"}')`,
    );
    await session.query('call hartonomous.work(batch => 60)');
    expect(
      await rows(
        `select indexdef ~ 'USING hnsw .*${type}_ip_ops' as yes from pg_indexes where tablename = 'of_${type}_search_chunks' and indexdef ~ 'hnsw'`,
      ),
    ).toEqual([{ yes: true }]);
    const keys = async (search: string, filter: string): Promise<unknown[]> =>
      (
        await rows(
          `select key from hartonomous.search('${search}', 'note 77 of 0', 10, ${filter}, '{"text_weight": 0}')`,
        )
      ).map(({ key }) => key);
    const exact = await keys('exact', 'null');
    expect((await keys(`of_${type}_search`, 'null')).filter((key) => exact.includes(key)).length).toBeGreaterThan(8);
    const filtered = await keys('exact', `'id % 15 = 3'`);
    expect(filtered).toHaveLength(4);
    expect((await keys(`of_${type}_search`, `'id % 15 = 3'`)).sort()).toEqual(filtered.sort());
    await session.query(`select hartonomous.drop_search('of_${type}_search'), hartonomous.drop_search('exact')`);
  });
});

describe('rights', () => {
  test('who writes to a table needs no others, and nothing of his is called', async () => {
    await makeTable('guarded');
    await makeSearch('guarded');
    await session.query(`grant insert on guarded to ${writer}`);
    await admin.query(`create schema traps authorization ${writer}`);
    const other = await login(writer);
    await other.query(
      `create function traps.format(text, variadic text[]) returns text language plpgsql as $$ begin raise 'trapped'; end $$`,
    );
    await other.query(
      `create function traps.quote_ident(text) returns text language plpgsql as $$ begin raise 'trapped'; end $$`,
    );
    await other.query(`set search_path = traps, pg_catalog; insert into app.guarded values (1, 'written')`);
    await session.query('call hartonomous.work()');
    expect(await differences('guarded')).toEqual([]);
  });

  test('work runs what belongs to the owner in sessions of the owner only', async () => {
    await session.query(`create function escape() returns trigger language plpgsql as $$
      begin perform set_config('role', 'none', true); create role escaped superuser; return new; end $$`);
    await session.query(
      `create trigger escape before insert on guarded_search_chunks for each row execute function escape()`,
    );
    await session.query(`insert into guarded values (2, 'more')`);
    const victim = await login(null);
    await victim.query(`call hartonomous.work()`);
    expect(await rows('select count(*)::integer as n from guarded_search_queue')).toEqual([{ n: 1 }]);
    await victim.query(`set role ${owner}`);
    await expect(victim.query(`call hartonomous.work()`)).rejects.toMatchObject({
      code: '42501',
      hint: `connect as ${owner}`,
    });
    await session.query('call hartonomous.work()');
    expect(await rows(`select error from hartonomous.search_list where search = 'guarded_search'::regclass`)).toEqual([
      // PostgreSQL 15, and later ones
      {
        error: expect.stringMatching(
          /^(must be superuser to create superusers|permission denied to create role)$/,
        ) as string,
      },
    ]);
    await session.query(
      `drop trigger escape on guarded_search_chunks; select hartonomous.retry_search('guarded_search')`,
    );
    await session.query('call hartonomous.work()');
    expect(await differences('guarded')).toEqual([]);
  });

  test('a search of another cannot be written into the list of searches', async () => {
    const other = await login(reader);
    await expect(
      other.query(`insert into hartonomous._own_searches (owner, search, source, texts, chunks, queue, model, digest, has_prefixes, options)
        select '${owner}'::regrole, 1, 1, 1, 1, 1, 'm', 'd', false, '{}'`),
    ).rejects.toMatchObject({ message: 'new row violates check option for view "_own_searches"' });
    expect((await other.query(`delete from hartonomous._own_searches`)).rowCount).toBe(0);
    await expect(other.query('select * from hartonomous.searches')).rejects.toMatchObject({ code: '42501' });
  });

  test.each([
    [
      'parted',
      'create table parted (id integer primary key, body text) partition by hash (id)',
      'is partitioned or a partition',
    ],
    ['shown', 'create view shown as select 1 as id, $$a$$ as body', 'is a view'],
    ['gone_soon', 'create temporary table gone_soon (id integer primary key, body text)', 'is temporary'],
    ['keyless', 'create table keyless (id integer, body text)', 'has no primary key'],
    [
      'parent',
      'create table parent (id integer primary key, body text); create table child () inherits (parent)',
      'inherits or is inherited',
    ],
    [
      'forced',
      'create table forced (id integer primary key, body text); alter table forced force row level security',
      'forces row security',
    ],
    ['pg_catalog.pg_class', 'select 1', 'is the system'],
  ])('%s cannot be searched', async (table, make, reason) => {
    await session.query(make);
    await expect(rows(`select hartonomous.create_search('${table}', '{body}')`)).rejects.toMatchObject({
      code: '42809',
      message: expect.stringContaining(reason) as string,
    });
  });

  test.each([
    [`'{nothing}'`, '42703', 'table app.free has no column nothing'],
    [`'{null}'`, '42703', 'table app.free has no column null'],
    [`'{}'`, '22023', 'a search needs columns or option expression, and not both'],
    [`'{body}', name => 'taken'`, '42P07', 'app.taken_queue exists already, search app.taken is not made'],
    [`null`, '22023', 'a search needs columns or option expression, and not both'],
    [`'{body}', options => '{"chunks": 1}'`, '22023', 'unknown option "chunks"'],
    [`'{body}', options => '{"index": "yes"}'`, '22023', 'option index must be a JSON boolean, got "yes"'],
    [`'{body}', options => '{"chunking": {"page": 0}}'`, '22023', 'unknown option "page"'],
    [`'{body}', options => '{"language": "klingon"}'`, '42704', 'text search configuration "klingon" does not exist'],
    [
      `'{body}', options => '{"vector": "bits"}'`,
      '22023',
      'option vector must be one of bytea, vector, halfvec, got "bits"',
    ],
    [`'{body}', model => 'nobody'`, '42704', 'model nobody does not exist'],
    [`'{body}', repeat('n', 51)`, '42602', `name ${'n'.repeat(51)} of a search has 51 bytes, 1 to 50 are possible`],
  ])('create_search refuses (%s) by name', async (args, code, message) => {
    await session.query('create table if not exists free (id integer primary key, body text)');
    await session.query('create table if not exists taken_queue (id integer)');
    await expect(rows(`select hartonomous.create_search('free', ${args})`)).rejects.toMatchObject({ code, message });
  });

  test('only the owner of a table makes a search of it', async () => {
    const other = await login(reader);
    await session.query(`grant all on free to ${reader}`);
    await expect(other.query(`select hartonomous.create_search('app.free', '{body}')`)).rejects.toMatchObject({
      code: '42501',
      message: `table app.free belongs to ${owner}, a search of it to ${reader}`,
    });
  });
});

const OBJECTS = `select 'relation ' || relname as name from pg_class where relnamespace = 'app'::regnamespace
  union all select 'function ' || proname from pg_proc where pronamespace = 'app'::regnamespace
  union all select 'trigger ' || tgname from pg_trigger g join pg_class c on c.oid = tgrelid where relnamespace = 'app'::regnamespace
  union all select 'search ' || search::text from hartonomous.search_list order by 1`;

describe('a search', () => {
  test('leaves nothing when it is dropped, nor when its table went before', async () => {
    await makeTable('mayfly');
    const before = await rows(OBJECTS);
    await makeSearch('mayfly');
    expect((await rows(OBJECTS)).length).toBeGreaterThan(before.length + 8);
    await session.query(`select hartonomous.drop_search('mayfly_search')`);
    expect(await rows(OBJECTS)).toEqual(before);
    await makeSearch('mayfly');
    await session.query('drop table mayfly cascade');
    const gone = await rows(
      `select search::oid::text as search from hartonomous.search_list where source::text ~ '^[0-9]+$'`,
    );
    expect(gone).toHaveLength(1);
    await session.query('call hartonomous.work()');
    await session.query(`select hartonomous.drop_search('${String(gone[0]!.search)}')`);
    expect(await rows(OBJECTS)).toEqual(before.filter(({ name }) => !String(name).includes('mayfly')));
  });

  test('follows new names of its table, columns and schema; a column that it reads is not dropped', async () => {
    await makeTable('renamed');
    await makeSearch('renamed');
    await session.query(`alter table renamed rename body to content; alter table renamed rename id to number`);
    await session.query(`alter table renamed rename to "Re%named"`);
    await expect(session.query(`alter table "Re%named" drop column content`)).rejects.toMatchObject({
      code: '2BP01',
      detail: expect.stringContaining('view renamed_search_texts depends on column content') as string,
    });
    await admin.query('alter schema app rename to other');
    await session.query(`set search_path = other`);
    await session.query(`insert into "Re%named" values (1, 'after all')`);
    await session.query('call hartonomous.work()');
    expect(
      await rows(
        `select key, text from hartonomous.search('renamed_search', 'after', filter => 'content is not null')`,
      ),
    ).toEqual([{ key: '1', text: 'after all' }]);
    await admin.query('alter schema other rename to app');
    await session.query(
      `set search_path = app; drop table "Re%named" cascade; drop table renamed_search_chunks, renamed_search_queue`,
    );
  });

  test('goes on after a dump and a restore', async () => {
    const copy = await createDatabase({ empty: true });
    try {
      const tool = (name: string, args: string[], input?: Buffer): Buffer =>
        execFileSync(join(postgresBin(), name), args, {
          maxBuffer: 1 << 28,
          ...(input === undefined ? {} : { input }),
        });
      const dump = tool('pg_dump', ['-d', database.url]);
      tool('psql', ['-q', '-X', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', copy.url], dump);
      const there = await login(owner, copy.url);
      await there.query(`set search_path = app; insert into notes values (100, 'after the restore')`);
      await there.query(`call hartonomous.work()`);
      expect(await differences('notes', { client: there })).toEqual([]);
      const found = await there.query(`select key from hartonomous.search('notes_search', 'after the restore', 1)`);
      expect(found.rows).toEqual([{ key: '100' }]);
      await there.query(`select hartonomous.drop_search('notes_search')`);
      await there.end();
    } finally {
      await copy.drop();
    }
  });
});
