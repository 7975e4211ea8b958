/** search(): nearness and words, weights, conditions, row security, rerankers, with pgvector and without. */
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Searches, WORDS } from './searches.ts';

const searches = new Searches();
const { reader, rows, login, makeTable, makeSearch } = searches;
let admin: pg.Client;
let session: pg.Client;
beforeAll(async () => void ({ admin, session } = await searches.open('ranker')));
afterAll(searches.close);

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
