/** search(): nearness and words, weights, conditions, row security, rerankers, with pgvector and without. */
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { roleName } from './harness.ts';
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
    // A table with a name that the statement of a search might have.
    await session.query('create table near (doc integer); insert into near values (3)');
    expect(await keys(`filter => 'id in (select doc from near)'`)).toEqual(['3', '3']);
    const ranked = await rows(
      `select text, rerank_score from hartonomous.search('docs_search', 'the moon', 2, options => '{"rerank": "ranker"}')`,
    );
    const best = await rows(
      `select r.doc as text, r.score as rerank_score from hartonomous.rerank('the moon', array(select text from docs_search), 'ranker') r limit 2`,
    );
    expect(ranked).toEqual(best);
  });

  test('a question without a word that counts finds what is near, and says nothing', async () => {
    const notices: unknown[] = [];
    session.on('notice', (notice) => notices.push(notice.message));
    await session.query(`set default_text_search_config = english`);
    const found = await rows(`select text_rank from hartonomous.search('docs_search', 'the', 2)`);
    session.removeAllListeners('notice');
    expect(found).toEqual([{ text_rank: null }, { text_rank: null }]);
    expect(notices).toEqual([]);
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
    await session.query('call hartonomous.work()');
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
    expect(await rows(`select count(*)::integer as n from docs_search`)).toEqual([{ n: 5 }]); // the owner sees all
  });

  test('shows nobody what a row said before row security gave it to him', async () => {
    await makeTable('letters', 'id integer primary key, body text, reader text');
    await session.query(
      `insert into letters values (1, 'for somebody else', 'nobody'), (2, 'for the reader', '${reader}'), (3, 'for nobody', 'nobody')`,
    );
    await makeSearch('letters');
    await session.query(`call hartonomous.work('letters_search')`);
    await session.query(
      `grant select on letters, letters_search, letters_search_chunks to ${reader}, ${searches.writer}`,
    );
    const other = await login(reader);
    const texts = async (client = other): Promise<unknown[]> => {
      const answers = [];
      for (const sql of [
        `select text from hartonomous.search('app.letters_search', 'somebody', options => '{"vector_weight": 0}')`,
        `select text from hartonomous.search('app.letters_search', 'somebody', filter => 'id = 1')`,
        'select text from app.letters_search where id = 1',
        'select text from app.letters_search_chunks where key = 1',
      ])
        answers.push((await client.query(sql)).rows.map(({ text }: { text?: string }) => text));
      return answers;
    };
    const [before, none, after] = [['for somebody else'], [], ['to whom it concerns']];
    // Where no row security is, a row is found as it was until it has been worked off.
    await session.query(`update letters set body = 'to whom it concerns', reader = '${reader}' where id = 1`);
    expect(await texts()).toEqual([before, before, before, before]);
    await session.query(
      'alter table letters enable row level security; create policy own on letters using (reader = current_user)',
    );
    expect(await texts()).toEqual([none, none, none, none]);
    expect(await texts(session)).toEqual([before, before, before, before]);
    await expect(other.query('select key from app.letters_search_queue')).rejects.toMatchObject({ code: '42501' });
    // Given up is not worked off.
    await session.query(`update letters_search_queue set due = 'infinity'`);
    await session.query(`call hartonomous.work('letters_search')`);
    expect(await texts()).toEqual([none, none, none, none]);
    await session.query(`select hartonomous.retry_search('letters_search')`);
    await session.query(`update letters_search_queue set due = '-infinity'`);
    await session.query(`call hartonomous.work('letters_search')`);
    expect(await texts()).toEqual([none, after, after, after]);
    // All rows that are queued for another model are as they were; those of refresh_search may not be.
    await session.query(`select hartonomous.set_search_model('letters_search', 'bert')`);
    expect(await texts()).toEqual([none, after, after, after]);
    await session.query(`select hartonomous.refresh_search('letters_search')`);
    expect(await texts()).toEqual([none, none, none, none]);
    await session.query(`call hartonomous.work('letters_search')`);
    expect(await texts()).toEqual([none, after, after, after]);
    await session.query(`select hartonomous.drop_search('letters_search'); drop table letters`);
  });

  test('shows nobody through a view of another what its owner may not see', async () => {
    await makeTable('shared', 'id integer primary key, body text, is_shared boolean');
    await session.query(`insert into shared values (1, 'not for you', false), (2, 'for everybody', true)`);
    await makeSearch('shared');
    await session.query(`call hartonomous.work('shared_search')`);
    const between = roleName('between');
    await searches.database.createRole(between);
    await session.query(
      `alter table shared enable row level security; create policy shown on shared for select to ${between} using (is_shared);
       grant select on shared, shared_search_chunks to ${between}; grant select on shared to ${reader}; grant usage on schema app to ${between}`,
    );
    await admin.query(`create schema between authorization ${between}; grant usage on schema between to public`);
    const middle = await login(between);
    await middle.query(`create view between.texts as select text from app.shared_search_chunks;
      grant select on between.texts to ${reader}, ${searches.writer}`);
    await session.query(`update shared set body = 'for you, too', is_shared = true where id = 1`);
    // One may read the table, and sees none of its rows; the other may not.
    const others = [middle, await login(reader), await login(searches.writer)];
    const seen = async (): Promise<unknown[]> => {
      const answers = [];
      for (const client of others) answers.push((await client.query('select text from between.texts order by 1')).rows);
      return answers;
    };
    const [one, two] = [[{ text: 'for everybody' }], [{ text: 'for everybody' }, { text: 'for you, too' }]];
    expect(await seen()).toEqual([one, one, one]);
    await session.query(`call hartonomous.work('shared_search')`);
    expect(await seen()).toEqual([two, two, two]);
    await admin.query('drop schema between cascade');
    await session.query(`select hartonomous.drop_search('shared_search'); drop table shared`);
  });

  test('shows under row security nothing of a table that others write to past its triggers', async () => {
    await makeTable('section', 'id integer primary key, body text, reader text');
    await session.query(`insert into section values (1, 'for somebody else', 'nobody')`);
    await makeSearch('section');
    await session.query(`call hartonomous.work('section_search')`);
    await session.query(
      `grant select on section, section_search, section_search_chunks to ${reader};
       alter table section enable row level security; create policy own on section using (reader = current_user);
       create table whole (id integer, body text, reader text) partition by range (id);
       alter table whole attach partition section for values from (0) to (10);
       update whole set body = 'to whom it concerns', reader = '${reader}'`,
    );
    const other = await login(reader);
    expect((await other.query('select text from app.section_search')).rows).toEqual([]);
    await session.query(
      `alter table whole detach partition section; select hartonomous.refresh_search('section_search')`,
    );
    expect((await other.query('select text from app.section_search')).rows).toEqual([]);
    await session.query(`call hartonomous.work('section_search')`);
    expect((await other.query('select text from app.section_search')).rows).toEqual([{ text: 'to whom it concerns' }]);
    await session.query(`select hartonomous.drop_search('section_search'); drop table section, whole`);
  });

  test('tells nobody but its owner why it stands still, which may be told in words of a row', async () => {
    await makeTable('quoted');
    await makeSearch('quoted');
    await session.query(
      `create function say() returns trigger language plpgsql as $$ begin raise '%', new.text using errcode = '55000'; end $$;
       create trigger say before insert on quoted_search_chunks for each row execute function say();
       grant select on quoted_search_chunks to ${reader}; insert into quoted values (1, 'secret')`,
    );
    await session.query(`call hartonomous.work('quoted_search')`);
    const ask = `select error from hartonomous._readable_searches where search = 'app.quoted_search'::regclass`;
    expect(await rows(ask)).toEqual([{ error: 'secret' }]);
    expect((await (await login(reader)).query(ask)).rows).toEqual([{ error: null }]);
    await session.query(`select hartonomous.drop_search('quoted_search'); drop table quoted; drop function say`);
  });

  test('a search that was made before queues said what had changed gets that with refresh_search', async () => {
    await makeTable('old', 'id integer primary key, body text');
    await session.query(`insert into old values (1, 'an old note')`);
    await makeSearch('old');
    await session.query(`call hartonomous.work('old_search')`);
    await session.query(
      `drop policy rows_of_source on old_search_chunks;
       create policy rows_of_source on old_search_chunks for select using (exists (select from only old source where source.id = old_search_chunks.key));
       drop function old_search_waits; alter table old_search_queue drop column changed`,
    );
    await session.query(`grant select on old, old_search, old_search_chunks to ${reader}`);
    await session.query(`update old set body = 'a new note'`);
    await session.query(`select hartonomous.refresh_search('old_search')`);
    await session.query(`alter table old enable row level security; create policy everybody on old using (true)`);
    const ask = `select text from hartonomous.search('app.old_search', 'note')`;
    const other = await login(reader);
    expect((await other.query(ask)).rows).toEqual([]);
    await session.query(`call hartonomous.work('old_search')`);
    expect((await other.query(ask)).rows).toEqual([{ text: 'a new note' }]);
    await session.query(`select hartonomous.drop_search('old_search'); drop table old`);
  });

  // The operator of numeric is not leakproof: no index of a table under row security serves it.
  test.each(['text', 'numeric'])(
    'a reader is as fast as the owner with keys of %s, however long the queue is',
    async (type) => {
      await makeTable('long', `id ${type} primary key, body text`);
      await session.query(`insert into long select i::text::${type}, 'the same' from generate_series(1, 10000) i`);
      await makeSearch('long');
      // As work would leave them, without 10,000 calls of a model.
      await session.query(
        `with one as materialized (select cardinality(hartonomous.embed('a', 'bert')) as numbers)
       insert into long_search_chunks (key, number, "from", "to", text, words, embedding)
       select id, 1, 0, 8, body, to_tsvector('english', body), decode(repeat('00', 4 * numbers), 'hex') from long, one`,
      );
      await session.query(`grant select on long, long_search, long_search_chunks to ${reader}`);
      const other = await login(reader);
      // A guard against plans that look through one for each row of the other: these took minutes.
      await other.query(`set statement_timeout = '30s'`);
      const seen = async (): Promise<unknown[]> => [
        (await other.query('select count(*)::integer as n from app.long_search')).rows[0],
        (await other.query(`select count(*)::integer as n from hartonomous.search('app.long_search', 'same', 3)`))
          .rows[0],
      ];
      expect(await seen()).toEqual([{ n: 10000 }, { n: 3 }]);
      await session.query('update long set body = body');
      expect(await seen()).toEqual([{ n: 10000 }, { n: 3 }]);
      await session.query(`alter table long enable row level security; create policy everybody on long using (true)`);
      expect(await seen()).toEqual([{ n: 0 }, { n: 0 }]);
      await session.query('truncate long_search_queue');
      expect(await seen()).toEqual([{ n: 10000 }, { n: 3 }]);
      await session.query(`select hartonomous.drop_search('long_search'); drop table long`);
    },
  );

  test('and gets it also where another model is being made', async () => {
    await makeTable('older');
    await session.query(`insert into older values (1, 'an old note')`);
    await makeSearch('older');
    await session.query(`call hartonomous.work('older_search')`);
    await session.query(`select hartonomous.set_search_model('older_search', 'bert')`);
    for (const chunks of ['older_search_chunks', 'older_search_chunks_next'])
      await session.query(
        `drop policy if exists rows_of_source on ${chunks};
         create policy rows_of_source on ${chunks} for select using (exists (select from only older source where source.id = ${chunks}.key))`,
      );
    await session.query(`drop function older_search_waits; alter table older_search_queue drop column changed`);
    await session.query(`select hartonomous.refresh_search('older_search')`);
    await session.query(`call hartonomous.work('older_search')`);
    await session.query(`grant select on older, older_search, older_search_chunks to ${reader}`);
    await session.query(`alter table older enable row level security; create policy everybody on older using (true)`);
    const other = await login(reader);
    expect((await other.query('select text from app.older_search')).rows).toEqual([{ text: 'an old note' }]);
    await session.query(`update older set body = 'a new note'`);
    expect((await other.query('select text from app.older_search')).rows).toEqual([]);
    await session.query(`select hartonomous.drop_search('older_search'); drop table older`);
  });

  test('a model that is gone leaves nothing that a row says no more while another one is made', async () => {
    await makeTable('left_over', 'id integer primary key, body text, reader text');
    await session.query(
      `insert into left_over values (1, 'for somebody else', 'nobody'), (2, 'for the reader', '${reader}'), (3, 'goes', '${reader}')`,
    );
    await makeSearch('left_over');
    await session.query(`call hartonomous.work('left_over_search')`);
    await session.query(
      `grant select on left_over, left_over_search, left_over_search_chunks to ${reader};
       alter table left_over enable row level security; create policy own on left_over using (reader = current_user);
       select hartonomous.set_search_model('left_over_search', 'bert')`,
    );
    await admin.query(
      `update hartonomous.searches set digest = 'of one that is gone' where search = 'app.left_over_search'::regclass`,
    );
    await session.query(
      `update left_over set body = 'to whom it concerns', reader = '${reader}' where id = 1;
       delete from left_over where id = 3; insert into left_over values (3, 'came', '${reader}')`,
    );
    // An entry that waits, so that the next model does not take over; and one for what has not changed.
    await session.query(`insert into left_over_search_queue (key, changed) values (2, false)`);
    await session.query(
      `update left_over_search_queue set due = now() + interval '1 hour' where id = (select min(id) from left_over_search_queue where key = 2)`,
    );
    await session.query(`call hartonomous.work('left_over_search')`);
    expect(await rows('select key, changed from left_over_search_queue')).toEqual([{ key: 2, changed: false }]);
    const other = await login(reader);
    expect((await other.query('select text from app.left_over_search')).rows).toEqual([{ text: 'for the reader' }]);
    await session.query(`update left_over_search_queue set due = now()`);
    await session.query(`call hartonomous.work('left_over_search')`);
    expect((await other.query('select text from app.left_over_search order by id')).rows).toEqual([
      { text: 'to whom it concerns' },
      { text: 'for the reader' },
      { text: 'came' },
    ]);
    await session.query(`select hartonomous.drop_search('left_over_search'); drop table left_over`);
  });
});

const INNER_PRODUCT = 'hartonomous_v8_inner_product(bytea, bytea)';

describe.each(['of the host', 'in JavaScript'])('with inner products %s', (where) => {
  const named = async (options: string, client = session): Promise<unknown[]> => {
    const { rows: found } = await client.query<{ key: string }>(
      `select key from hartonomous.search('app.many_search', 'note 7', 5, options => '{"text_weight": 0${options}}')`,
    );
    return found.map(({ key }) => key);
  };
  let order: unknown[];
  let there: boolean;
  beforeAll(async () => {
    const { rows: known } = await admin.query<{ there: boolean }>(
      `select to_regprocedure('pg_catalog.${INNER_PRODUCT}') is not null as there`,
    );
    there = known[0]!.there;
    if (where === 'in JavaScript' && there)
      await admin.query(
        `alter extension hartonomous_v8 drop function ${INNER_PRODUCT}; drop function pg_catalog.${INNER_PRODUCT}`,
      );
    await makeTable('many', 'id integer primary key, body text');
    await session.query(`insert into many select i, 'note ' || i || ' of ' || i % 7 from generate_series(1, 40) i`);
    await makeSearch('many');
    await session.query('call hartonomous.work()');
    // Chunks of a second block, where they are handed over in blocks.
    await session.query('alter table many_search_chunks alter id restart 1995');
    await session.query(`insert into many select i, 'note ' || i || ' of ' || i % 7 from generate_series(41, 60) i`);
    await session.query('call hartonomous.work()');
    const similar = await rows(
      `select id::text as key from many order by hartonomous.similarity('note 7', body, 'bert') desc, id`,
    );
    order = similar.map(({ key }) => key);
  });
  afterAll(() => session.query(`select hartonomous.drop_search('many_search'); drop table many`));

  test('all vectors are compared, and a caller who may read the table finds the same', async (context) => {
    if (where === 'of the host' && !there) return context.skip(`this host has no ${INNER_PRODUCT}`);
    expect(await named('')).toEqual(order.slice(0, 5));
    expect(await named(', "candidates": 5')).toEqual(order.slice(0, 5));
    await session.query(`grant select on many, many_search, many_search_chunks to ${reader}`);
    expect(await named('', await login(reader))).toEqual(order.slice(0, 5));
  });

  test('chunks whose rows are gone are not found, and take no place of others', async (context) => {
    if (where === 'of the host' && !there) return context.skip(`this host has no ${INNER_PRODUCT}`);
    const other = await login(reader);
    for (let gone = 0; gone < order.length; gone += 9) {
      await session.query('delete from many where id::text = any ($1)', [order.slice(0, gone)]);
      for (const candidates of [5, 7, 60]) {
        const options = `, "candidates": ${candidates}`;
        expect(await named(options), `${gone} rows gone`).toEqual(order.slice(gone, gone + 5));
        expect(await named(options, other), `${gone} rows gone`).toEqual(order.slice(gone, gone + 5));
      }
    }
    await session.query('truncate many');
    expect(await named('')).toEqual([]);
  });

  test('a vector that has no number is near to nothing', async (context) => {
    if (where === 'of the host' && !there) return context.skip(`this host has no ${INNER_PRODUCT}`);
    await session.query(`insert into many values (1, 'note 7'), (2, 'note 8'), (3, 'note 9')`);
    await session.query('call hartonomous.work()');
    await session.query(
      `update many_search_chunks set embedding = decode('0000c07f', 'hex') || substr(embedding, 5) where key = 1`,
    );
    expect((await named('')).sort()).toEqual(['2', '3']);
    await session.query('truncate many');
    await session.query('call hartonomous.work()');
  });

  test('vectors of another length are refused', async (context) => {
    if (where === 'of the host' && !there) return context.skip(`this host has no ${INNER_PRODUCT}`);
    await session.query(`insert into many values (1, 'a note')`);
    await session.query('call hartonomous.work()');
    await session.query(`update many_search_chunks set embedding = '\\x00000000'`);
    await expect(named('')).rejects.toMatchObject({
      code: '22023',
      message: expect.stringMatching(/^different vectors: /) as string,
    });
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
