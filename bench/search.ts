/**
 * Searches: embeddings beside torch, ONNX and llama.cpp, exact search beside pgvector's scan of the same rows, and what the
 * trigger of a search costs whoever writes.
 *   npm run bench -- --search [--rounds 5]
 *   npx tsx bench/search.ts [--parts embed,find,insert] [--rounds 5]     in DATABASE_URL, else in the private cluster
 * Rows go to results/search.json, in the place of those of the same name.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type pg from 'pg';
import { ingest } from '../cli/ingest/ingest.ts';
import { install } from '../cli/install/install.ts';
import { minilmFolder } from '../test/golden/minilm-file.ts';
import { privateDatabase, withClient } from './database.ts';
import { measureEmbeddings } from './embeddings.ts';
import { random } from './random.ts';
import type { Row } from './report.ts';
import { circumstancesOf, comparison, keepRows, printTable, thisMachine } from './report.ts';
import { median } from './statistics.ts';

const MODEL = 'bench-minilm';
const SCHEMA = 'bench_search';
const PARTS = ['embed', 'find', 'insert'] as const;
type Part = (typeof PARTS)[number];

const CHUNKS = 100_000;
const WORDS_OF_CHUNK = 60;
const VOCABULARY = 20_000;
/** The most frequent words are in no question, as a language's that are not searched. */
const COMMON_WORDS = 100;
const K = 10;
const QUESTIONS_OF_ROUND = 5;
const INSERTED = 10_000;
const PAIRS_OF_ROUND = 4;

const golden = new URL('../test/golden/retrieval.json', import.meta.url);

const progress = (text: string): void =>
  void process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);

async function dropSchema(client: pg.Client): Promise<void> {
  await client.query(
    `select hartonomous.drop_search(s.search) from hartonomous.search_list s join pg_class c on c.oid = s.search
     where c.relnamespace = to_regnamespace('${SCHEMA}')`,
  );
  await client.query(`drop schema if exists ${SCHEMA} cascade`);
}

async function makeSchema(client: pg.Client): Promise<void> {
  await dropSchema(client);
  await client.query(`create schema ${SCHEMA}; set search_path = ${SCHEMA}, public; select setseed(0.26)`);
}

/** A word in SQL: one of VOCABULARY, as frequent as those of a language. */
const WORD = `'w' || translate(to_hex(floor(exp(random() * ln(${VOCABULARY})))::integer), '0123456789', 'ghijklmnop')`;

/** A table of texts whose words are as frequent as those of a language, and a vector for each of them. */
async function makeDocuments(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ n: number }>(`select cardinality(hartonomous.embed('dimensions', $1)) as n`, [
    MODEL,
  ]);
  await makeSchema(client);
  await client.query(`
    create table documents (id integer primary key, body text);
    insert into documents select i, (select string_agg(${WORD}, ' ') from generate_series(1, ${WORDS_OF_CHUNK}) where i > 0)
        from generate_series(1, ${CHUNKS}) i;
    create table vectors (id integer primary key, embedding real[]);
    insert into vectors select i, array(select (random() - 0.5)::real from generate_series(1, ${rows[0]!.n}) where i > 0)
        from generate_series(1, ${CHUNKS}) i`);
}

/** A search of the documents with one chunk each, as if `work` had made them. */
async function fillSearch(client: pg.Client, name: string, vector: string): Promise<void> {
  const options = JSON.stringify({ vector, index: false, language: 'english' });
  await client.query(`select hartonomous.create_search('documents', '{body}', $1, $2, $3)`, [name, MODEL, options]);
  await client.query(
    `insert into ${name}_chunks (key, number, "from", "to", text, words, embedding)
     select d.id, 1, 1, length(d.body), d.body, to_tsvector('english', d.body),
       ${vector === 'bytea' ? 'hartonomous._vector_bytes(v.embedding)' : `v.embedding::${vector}`}
     from documents d join vectors v on v.id = d.id order by d.id`,
  );
  await client.query(`truncate ${name}_queue`);
  await client.query(`vacuum analyze ${name}_chunks`);
}

/** Whether there is pgvector, made where the server has it. */
async function providePgvector(client: pg.Client): Promise<boolean> {
  const { rowCount } = await client.query(`select from pg_available_extensions where name = 'vector'`);
  if (rowCount === 0) return false;
  await client.query('create extension if not exists vector schema public');
  return true;
}

/** Milliseconds of a query, and the keys that it gives. */
async function timed(client: pg.Client, sql: string, values: unknown[]): Promise<{ ms: number; keys: string[] }> {
  const started = performance.now();
  const { rows } = await client.query<{ key: string }>(sql, values);
  return { ms: performance.now() - started, keys: rows.map(({ key }) => key) };
}

/** `plain` is a session that has not loaded V8: parallel workers of pgvector's scan load the libraries of their session. */
async function measureSearches(client: pg.Client, plain: pg.Client, rounds: number): Promise<Row[]> {
  progress(`exact search: ${CHUNKS} chunks are made`);
  const peer = await providePgvector(client);
  if (!peer) console.log('skipped: beside pgvector, which this server does not have');
  await makeDocuments(client);
  await fillSearch(client, 'exact', 'bytea');
  if (peer) await fillSearch(client, 'scanned', 'vector');
  await client.query('vacuum analyze documents');
  await client.query('checkpoint');
  const find = (search: string, options: string): string =>
    `select key from hartonomous.search('${search}', $1, ${K}, options => '${options}')`;
  const scan = `select key::text from ${SCHEMA}.scanned_chunks order by embedding <#> $1::vector limit ${K}`;
  const embed = `select hartonomous.embed($1, '${MODEL}', '{"normalize": true}') as key`;
  const names = ['vectors', 'scan', 'both', ...(peer ? ['pgvector', 'through search'] : [])];
  const samples: Record<string, number[]> = Object.fromEntries(names.map((name) => [name, []]));
  const draw = random(1);
  for (let round = 0; round <= rounds; round++) {
    const times: Record<string, number[]> = {};
    for (let i = 0; i < QUESTIONS_OF_ROUND; i++) {
      const rank = (): number => Math.floor(COMMON_WORDS * Math.exp(draw() * Math.log(VOCABULARY / COMMON_WORDS)));
      const letters = (n: number): string =>
        `w${n.toString(16).replace(/\d/g, (digit) => 'ghijklmnop'[Number(digit)]!)}`;
      const question = Array.from({ length: 6 }, () => letters(rank())).join(' ');
      const note = (name: string, ms: number): void => void (times[name] ??= []).push(ms);
      const ours = await timed(client, find('exact', '{"text_weight": 0}'), [question]);
      note('vectors', ours.ms);
      note('scan', ours.ms - (await timed(client, embed, [`${question} so`])).ms);
      note('both', (await timed(client, find('exact', '{}'), [`${question} now`])).ms);
      if (!peer) continue;
      const { rows } = await client.query<{ vector: number[] }>(
        `select hartonomous.embed($1, $2, '{"normalize": true}') as vector`,
        [question, MODEL],
      );
      const theirs = await timed(plain, scan, [JSON.stringify(rows[0]!.vector)]);
      note('pgvector', theirs.ms);
      note('through search', (await timed(client, find('scanned', '{"text_weight": 0}'), [`${question} then`])).ms);
      const missed = theirs.keys.filter((key) => !ours.keys.includes(key));
      if (missed.length > 1) throw new Error(`pgvector finds ${missed.join(', ')} for "${question}", search does not`);
    }
    if (round === 0) continue; // warms up
    for (const name of names) samples[name]!.push(median(times[name]!));
    progress(
      `exact search, round ${round} of ${rounds}: ${names.map((name) => `${name} ${median(times[name]!).toFixed(0)}`).join(', ')} ms`,
    );
  }
  const what = `exact search of ${CHUNKS.toLocaleString('en')} chunks`;
  const pgvector = samples.pgvector ?? null;
  return [
    comparison(`${what}: vectors, pgvector's scan`, 'ms', samples.vectors!, pgvector, 1.5),
    comparison(`${what}: the same less an embedding, pgvector's scan`, 'ms', samples.scan!, pgvector, null),
    comparison(`${what}: vectors and words`, 'ms', samples.both!, null, null),
    ...(pgvector === null
      ? []
      : [
          comparison(
            `${what}: vectors of type vector, pgvector's scan`,
            'ms',
            samples['through search']!,
            pgvector,
            null,
          ),
        ]),
  ];
}

/** Tables that get the same rows: one that is searched, and two with triggers that write a row a statement, and a row a row. */
const WRITERS = { searched: 'searched', statement: 'with_statement_trigger', row: 'with_row_trigger' } as const;

async function makeWriters(client: pg.Client): Promise<void> {
  await makeSchema(client);
  await client.query(`
    create table given (id integer primary key, body text);
    insert into given select i, (select string_agg(${WORD}, ' ') from generate_series(1, ${WORDS_OF_CHUNK}) where i > 0)
        from generate_series(1, ${INSERTED}) i;
    create table notes (id bigint generated always as identity primary key, key integer, noted_at timestamptz not null default now());
    create function note_statement() returns trigger language plpgsql as $$
        begin insert into notes (key) values (null); return null; end $$;
    create function note_row() returns trigger language plpgsql as $$
        begin insert into notes (key) values (new.id); return null; end $$`);
  for (const name of Object.values(WRITERS))
    await client.query(`create table ${name} (id integer primary key, body text)`);
  await client.query(`
    create trigger note after insert on ${WRITERS.statement} for each statement execute function note_statement();
    create trigger note after insert on ${WRITERS.row} for each row execute function note_row()`);
  const options = '{"vector": "bytea", "language": "english"}';
  await client.query(`select hartonomous.create_search('${WRITERS.searched}', '{body}', null, $1, $2)`, [
    MODEL,
    options,
  ]);
}

async function measureInserts(client: pg.Client, rounds: number): Promise<Row[]> {
  await makeWriters(client);
  const names = Object.keys(WRITERS) as (keyof typeof WRITERS)[];
  const samples: Record<keyof typeof WRITERS, number[]> = { searched: [], statement: [], row: [] };
  const pairs = rounds * PAIRS_OF_ROUND;
  for (let pair = 0; pair <= pairs; pair++) {
    // In another order each time.
    const order = names.map((_, i) => names[(i + pair) % names.length]!);
    await client.query('checkpoint');
    for (const name of order) {
      const started = performance.now();
      await client.query(`insert into ${WRITERS[name]} select id, body from given`);
      if (pair > 0) samples[name].push(performance.now() - started);
      await client.query(`truncate ${WRITERS[name]}, notes; truncate ${WRITERS.searched}_search_queue`);
    }
  }
  progress(`inserts: ${names.map((name) => `${name} ${median(samples[name]).toFixed(0)}`).join(', ')} ms`);
  const what = `insert of ${INSERTED.toLocaleString('en')} rows into a searched table`;
  return [
    comparison(`${what}, with a trigger that writes a row a statement`, 'ms', samples.searched, samples.statement, 1.1),
    comparison(`${what}, with a trigger that writes a row a row`, 'ms', samples.searched, samples.row, null),
  ];
}

/** Measure, print a table with the bars, and write results/search.json. */
export async function measureSearch(
  url: string,
  results: string,
  options: { rounds: number; parts?: readonly Part[] },
): Promise<void> {
  const { rounds, parts = PARTS } = options;
  const { sha256 } = JSON.parse(readFileSync(golden, 'utf8')) as { sha256: string };
  const folder = minilmFolder(sha256);
  const circumstances = circumstancesOf(rounds);
  await withClient(url, async (client) => {
    await ingest(client, folder, { name: MODEL, replace: true });
    const { rows } = await client.query<{ threads: string | null }>(
      `select current_setting('hartonomous_v8.threads', true) as threads`,
    );
    const table: Row[] = [];
    if (parts.includes('embed'))
      table.push(...(await measureEmbeddings(client, { model: MODEL, folder, rounds, progress })));
    if (parts.includes('find'))
      table.push(...(await withClient(url, (plain) => measureSearches(client, plain, rounds))));
    if (parts.includes('insert')) table.push(...(await measureInserts(client, rounds)));
    await dropSchema(client);
    const about = thisMachine();
    printTable(`searches on ${about.processor ?? 'this processor'}`, table);
    const measured = table.map((one) => ({ ...one, ...circumstances, threads_setting: rows[0]!.threads }));
    keepRows(join(results, 'search.json'), about, measured);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { parts: { type: 'string', default: PARTS.join(',') }, rounds: { type: 'string', default: '5' } },
  });
  const parts = values.parts.split(',').map((name) => {
    const part = PARTS.find((known) => known === name);
    if (part === undefined) throw new Error(`unknown part ${name}, known: ${PARTS.join(', ')}`);
    return part;
  });
  const results = fileURLToPath(new URL('results/', import.meta.url));
  mkdirSync(results, { recursive: true });
  const url = process.env.DATABASE_URL ?? (await privateDatabase());
  await withClient(url, (client) => install(client));
  await measureSearch(url, results, { rounds: Number(values.rounds), parts });
}
