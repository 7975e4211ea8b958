/**
 * A batch divided among three clusters with PL/Proxy, beside what docs/scaling.md's model says of it.
 *   npx tsx bench/cluster.ts [--rounds 5]
 * Each server is pinned to one processor; where there are fewer processors than servers, this measures the division of
 * work, not a speed-up, and the model counts what shares a processor one after another.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { ingest } from '../cli/ingest/ingest.ts';
import { ensureProxy } from '../cli/install/proxy.ts';
import { smollm2File } from '../test/golden/smollm2-file.ts';
import { Standby, startPrimary } from '../test/scale/servers.ts';
import { median } from './statistics.ts';

const NODES = 3;
/** What a node decodes together at most; see cluster_generate. */
const SHARE = 16;
const OPTIONS = { raw: true, temperature: 0, num_predict: 32, cache: false, logit_bias: { 0: -1000, 2: -1000 } };
const prompts = (n: number): string[] =>
  Array.from({ length: n }, (_, i) => `Write one sentence about the number ${i + 100} and why somebody could like it.`);

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' } } });
const rounds = Number(values.rounds);
const processors = cpus().length;

async function open(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** Seconds of one statement. */
async function seconds(client: pg.Client, sql: string, n: number): Promise<number> {
  const started = performance.now();
  const { rows } = await client.query(sql, [prompts(n), OPTIONS]);
  if (rows.length !== n) throw new Error(`${n} prompts, ${rows.length} answers`);
  return (performance.now() - started) / 1000;
}

const ONE = 'select * from hartonomous.generate($1::text[], null, $2)';
const ALL = 'select * from hartonomous.cluster_generate($1::text[], null, $2)';

const golden = new URL('../test/golden/smollm2-135m-q4_1.json', import.meta.url);
const { sha256 } = JSON.parse(readFileSync(golden, 'utf8')) as { sha256: string };
const primary = await startPrimary();
const standbys: Standby[] = [];
try {
  const client = await open(primary.url);
  await ingest(client, smollm2File(sha256), { name: 'smollm2' });
  await ensureProxy(client);
  for (let i = 1; i < NODES; i++) standbys.push(await Standby.follow(primary.url));
  const urls = [primary.url, ...standbys.map((standby) => standby.url)];
  for (const [i, url] of urls.entries()) {
    const { hostname, port, username, password, pathname } = new URL(url);
    const connection = `host=${hostname} port=${port} dbname=${pathname.slice(1)} connect_timeout=5`;
    await client.query('select hartonomous.cluster_add($1, $2, $3, $4)', [`node${i}`, connection, username, password]);
    const data = i === 0 ? join(primary.cluster.home, 'data') : standbys[i - 1]!.dataFolder;
    const postmaster = readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0]!;
    execFileSync('taskset', ['-cp', String(i % processors), postmaster], { stdio: 'ignore' });
  }
  await client.end();

  const node = await open(standbys[0]!.url); // a backend of a pinned server
  const divider = await open(primary.url);
  await seconds(node, ONE, SHARE); // the models are loaded in these
  await seconds(divider, ALL, NODES * SHARE);
  const loadBefore = loadavg()[0];
  const small: number[] = [];
  const full: number[] = [];
  const cluster: number[] = [];
  for (let i = 0; i < rounds; i++) {
    small.push(await seconds(node, ONE, SHARE / 2));
    full.push(await seconds(node, ONE, SHARE));
    cluster.push(await seconds(divider, ALL, NODES * SHARE));
  }
  await node.end();
  await divider.end();
  // T(n) = fixed + n * perPrompt: a pass over the weights a step, whatever n, and the rest once a prompt.
  const perPrompt = (median(full) - median(small)) / (SHARE / 2);
  const fixed = median(full) - SHARE * perPrompt;
  const oneAfterAnother = Math.ceil(NODES / processors);
  const predicted = oneAfterAnother * (fixed + SHARE * perPrompt);
  const measured = median(cluster);
  const report = {
    measured_at: new Date().toISOString(),
    processor: cpus()[0]?.model,
    processors,
    load_before: loadBefore,
    nodes: NODES,
    prompts: NODES * SHARE,
    share_of_8_s: small,
    share_of_16_s: full,
    cluster_s: cluster,
    fixed_s: fixed,
    per_prompt_s: perPrompt,
    predicted_s: predicted,
    measured_s: measured,
    error: measured / predicted - 1,
  };
  console.log(report);
  console.log(
    `predicted ${predicted.toFixed(2)} s, measured ${measured.toFixed(2)} s: ${((measured / predicted - 1) * 100).toFixed(0)} %`,
  );
  writeFileSync(
    fileURLToPath(new URL('results/cluster.json', import.meta.url)),
    `${JSON.stringify(report, null, 1)}\n`,
  );
} finally {
  for (const standby of standbys) standby.destroy();
  primary.cluster.destroy();
}
