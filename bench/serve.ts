/**
 * `serve` under 32 clients for two minutes, with a backend killed every fifteen seconds, in a cluster of its own.
 *   npx tsx bench/serve.ts [--clients 32] [--seconds 120] [--backends 2] [--queue 16] [--kill-every 15]
 * Fails when anything happens that the documents do not tell.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';
import { ingest } from '../cli/ingest/ingest.ts';
import { install } from '../cli/install/install.ts';
import { startServer } from '../cli/serve/server.ts';
import { smollm2File } from '../test/golden/smollm2-file.ts';
import type { Question } from './serve-load.ts';
import { loadServer } from './serve-load.ts';
import { percentile } from './statistics.ts';

const TOKENS = 16;
const GREEDY = JSON.stringify({ temperature: 0, repeat_penalty: 1, num_predict: TOKENS, record: false });

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '32' },
    seconds: { type: 'string', default: '120' },
    backends: { type: 'string', default: '2' },
    queue: { type: 'string', default: '16' },
    'kill-every': { type: 'string', default: '15' },
  },
});

const home = mkdtempSync(join(tmpdir(), 'hartonomous-serve-'));
mkdirSync(join(home, 'cluster'));
chmodSync(home, 0o755);
const cluster = new Cluster(join(home, 'cluster'));
let failed = false;
try {
  const { url } = await cluster.up();
  const admin = new pg.Client({ connectionString: url });
  await admin.connect();
  await install(admin);
  const golden = JSON.parse(
    readFileSync(new URL('../test/golden/smollm2-135m-q4_1.json', import.meta.url), 'utf8'),
  ) as { sha256: string; prompts: { text: string }[] };
  await ingest(admin, smollm2File(golden.sha256), { name: 'smollm2' });
  const questions: Question[] = [];
  for (const { text } of golden.prompts) {
    const { rows } = await admin.query<{ answer: string }>(
      'select hartonomous.chat($1, $2, $3) -> $4 ->> $5 as answer',
      [JSON.stringify([{ role: 'user', content: text }]), 'smollm2', GREEDY, 'message', 'content'],
    );
    questions.push({ text, answer: rows[0]!.answer });
  }
  const server = await startServer({
    connection: { databaseUrl: url },
    host: '127.0.0.1',
    port: 0,
    backends: Number(values.backends),
    queue: Number(values.queue),
    tokens: [],
    origins: [],
    record: false,
    version: 'bench',
  });
  const result = await loadServer({
    url: server.url,
    model: 'smollm2',
    questions,
    clients: Number(values.clients),
    seconds: Number(values.seconds),
    tokens: TOKENS,
    killEvery: Number(values['kill-every']),
    kill: async () => {
      const { rows } = await admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where application_name = 'hartonomous' and state = 'active' and query like '%next_tokens%' limit 1`,
      );
      return rows.length > 0;
    },
  });
  const { answered, left, busy, killed, lost, unexpected, firstToken, whole } = result;
  const times = (list: number[]): string =>
    [50, 90, 99, 100].map((p) => `p${p} ${percentile(list, p).toFixed(0)} ms`).join(', ');
  console.log(
    `${values.clients} clients, ${values.backends} backends, queue ${values.queue}, ${values.seconds} s: ` +
      `${answered} answers, each as given alone, ${left} left in the middle, ${busy} times 503 queue_full`,
  );
  console.log(`first token of streams: ${times(firstToken)}`);
  console.log(`whole answers of ${TOKENS} tokens: ${times(whole)}`);
  console.log(`${killed} backends killed, ${lost.length} requests lost: ${[...new Set(lost)].join('; ')}`);
  const backends = async (): Promise<number> =>
    Number(
      (
        await admin.query<{ n: string }>(
          `select count(*) as n from pg_stat_activity where application_name like 'hartonomous%'`,
        )
      ).rows[0]!.n,
    );
  const open = await backends();
  await server.close();
  await sleep(500);
  const rest = await backends();
  console.log(`connections: ${open} while it ran, ${rest} after it stopped; other errors: ${unexpected.length}`);
  for (const message of new Set(unexpected)) console.log(`  ${message}`);
  // Two connections ask for metadata.
  failed = unexpected.length > 0 || lost.length > killed || rest > 0 || open > Number(values.backends) + 2;
  await admin.end();
} finally {
  cluster.destroy();
  rmSync(home, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
