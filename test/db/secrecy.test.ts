/** What a caller writes does not leak into messages, contexts or the server's log. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { modelPath } from '../golden/model-files.ts';
import { startPrimary } from '../scale/servers.ts';
import { ingestFile } from './harness.ts';

const SECRET = 'swordfish7351';

let server: { cluster: Cluster; url: string };
let client: pg.Client;

beforeAll(async () => {
  server = await startPrimary();
  await ingestFile(server.url, modelPath('zoo/llama-untied-gqa-f32.gguf'), 'zoo');
  client = new pg.Client({ connectionString: server.url });
  await client.connect();
});

afterAll(async () => {
  await client.end();
  server.cluster.destroy();
});

const messages = JSON.stringify([{ role: 'user', content: SECRET }]);

test.each([
  ['an unknown option', 'select hartonomous.generate($1, options => $2)', [SECRET, { nonsense: 1 }]],
  [
    'a prompt longer than the context',
    'select hartonomous.generate($1, options => $2)',
    [`${SECRET} `.repeat(2000), {}],
  ],
  ['an unknown model', 'select hartonomous.complete($1, $2)', [SECRET, 'nobody']],
  ['messages to a model without a template', 'select hartonomous.chat($1::json)', [messages]],
  ['messages of the wrong form', 'select hartonomous.chat($1::json)', [JSON.stringify([{ content: SECRET }])]],
  [
    'a batch with a row that is too long',
    'select * from hartonomous.generate($1::text[])',
    [[SECRET, `${SECRET} `.repeat(2000)]],
  ],
])('not with %s', async (_what, sql, args) => {
  const error = await client.query(sql, args).then(
    () => null,
    (cause: pg.DatabaseError) => cause,
  );
  expect(error).not.toBeNull();
  const { message, detail, hint, where, internalQuery } = error!;
  expect(JSON.stringify({ message, detail, hint, where, internalQuery })).not.toContain(SECRET);
});

test('not with a cancel in the middle of an answer', async () => {
  await client.query(`set statement_timeout = '150ms'`);
  const endless =
    'select count(hartonomous.generate(repeat($1, 40) || g, options => $2)) from generate_series(1, 10000) g';
  const error = await client.query(endless, [`${SECRET} `, { raw: true, num_predict: 16 }]).then(
    () => null,
    (cause: pg.DatabaseError) => cause,
  );
  await client.query('reset statement_timeout');
  expect(error?.code).toBe('57014');
  expect(JSON.stringify({ ...error, message: error?.message })).not.toContain(SECRET);
});

test('the log of the server does not hold it, since the parameters were bound', () => {
  const log = readFileSync(join(server.cluster.home, 'postgresql.log'), 'utf8');
  expect(log).toContain('nonsense'); // errors were logged
  expect(log).not.toContain(SECRET);
});
