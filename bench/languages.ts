/**
 * The same bundle on our host, with and without what PL/V8 lacks, and on PL/V8, alternating, with llama.cpp beside them.
 *   npx tsx bench/languages.ts --plv8 URL [--models qwen-q8_0] [--rounds 5] [--repeats 1]
 * URL is a database whose LANGUAGE plv8 is PL/V8 and in which Hartonomous may be installed; our host runs in DATABASE_URL, else
 * in the private cluster. Both servers run on this machine. Writes results/languages.json.
 */
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { ingest } from '../cli/ingest/ingest.ts';
import { install } from '../cli/install/install.ts';
import { OWN_HOST } from '../cli/install/language.ts';
import { cacheFolder } from '../python-package.mjs';
import { privateDatabase, withClient } from './database.ts';
import { measureHartonomous, PORTABLE, UPSTREAM_ONLY } from './hartonomous.ts';
import type { Measurement } from './hartonomous.ts';
import { measureLlamaLibrary, preparePeers } from './llama.ts';
import { median, spread } from './statistics.ts';
import { subjectsNamed } from './subjects.ts';

const FIGURES: Record<string, (measurement: Measurement) => number> = {
  'decode, tok/s': (m) => median(m.decode),
  'prefill, tok/s': (m) => median(m.prefill),
  'first token, cold, ms': (m) => m.first_token_ms,
  'memory, MB': (m) => m.memory_bytes / 1e6,
};
const OURS = 'our host';
const LLAMA = 'llama.cpp';

const { values } = parseArgs({
  options: {
    plv8: { type: 'string' },
    models: { type: 'string', default: 'qwen-q8_0' },
    rounds: { type: 'string', default: '5' },
    repeats: { type: 'string', default: '1' },
  },
});
if (values.plv8 === undefined) throw new Error('--plv8 must name a database whose LANGUAGE plv8 is PL/V8');
const subjects = subjectsNamed(values.models);
const [rounds, repeats] = [Number(values.rounds), Number(values.repeats)];

/** Install into a database; whose LANGUAGE plv8 it has, with its version. */
async function prepare(url: string, own: boolean): Promise<string> {
  return await withClient(url, async (client) => {
    const { languageHost } = await install(client);
    if ((languageHost === OWN_HOST) !== own)
      throw new Error(`LANGUAGE plv8 of ${own ? 'DATABASE_URL' : '--plv8'} is that of ${languageHost}`);
    const { rows } = await client.query<{ server: string; extension: string }>(
      `select current_setting('server_version') as server, coalesce(max(extname || ' ' || extversion), 'plv8') as extension
       from pg_extension where extname = $1`,
      [languageHost],
    );
    return `${rows[0]!.extension}, PostgreSQL ${rows[0]!.server}`;
  });
}

const ownUrl = process.env.DATABASE_URL ?? (await privateDatabase());
const versions = { [OURS]: await prepare(ownUrl, true), 'PL/V8': await prepare(values.plv8, false) };
const program = preparePeers(cacheFolder());
const about = {
  processor: cpus()[0]?.model,
  threads: 1,
  versions,
  load_before: loadavg()[0],
  measured_at: new Date().toISOString(),
};

const models = [];
for (const { title, name, ends, file } of subjects) {
  const path = file();
  for (const url of [ownUrl, values.plv8])
    await withClient(url, (client) => ingest(client, path, { name, replace: true }));
  const target = { url: ownUrl, model: name, ends };
  const measures: Record<string, () => Promise<Measurement> | Measurement> = {
    [OURS]: () => measureHartonomous(target, repeats),
    'our host, extras off': () => measureHartonomous({ ...target, options: UPSTREAM_ONLY }, repeats),
    'our host, portable': () => measureHartonomous({ ...target, options: PORTABLE }, repeats),
    'PL/V8': () => measureHartonomous({ ...target, url: values.plv8! }, repeats),
    [LLAMA]: () => measureLlamaLibrary(program, path, repeats),
  };
  const measured: Record<string, Measurement[]> = {};
  for (let round = 0; round < rounds; round++) {
    for (const [who, measure] of Object.entries(measures)) {
      const measurement = await measure();
      (measured[who] ??= []).push(measurement);
      const [decode, prefill] = [median(measurement.decode), median(measurement.prefill)];
      process.stderr.write(
        `${title}, round ${round + 1} of ${rounds}, ${who}: decode ${decode.toFixed(1)}, prefill ${prefill.toFixed(1)} tok/s\n`,
      );
    }
  }

  const table = new Table({
    head: [title, '', 'spread', 'of our host', 'of llama.cpp'],
    style: { head: [], border: [] },
  });
  const rows = Object.entries(FIGURES).flatMap(([what, figure]) =>
    Object.entries(measured).map(([who, list]) => {
      const figures = list.map(figure);
      const ratioTo = (other: string): number =>
        median(figures.map((value, i) => value / figure(measured[other]![i]!)));
      return {
        who,
        what,
        median: median(figures),
        spread: spread(figures),
        ofOurs: ratioTo(OURS),
        ofLlama: ratioTo(LLAMA),
      };
    }),
  );
  for (const { who, what, ...row } of rows)
    table.push([
      `${who}: ${what}`,
      row.median.toFixed(1),
      `${Math.round(row.spread * 100)} %`,
      row.ofOurs.toFixed(2),
      row.ofLlama.toFixed(2),
    ]);
  console.log(table.toString());
  models.push({ model: title, rows, rounds: measured });
}
const results = fileURLToPath(new URL('results/languages.json', import.meta.url));
writeFileSync(results, `${JSON.stringify({ ...about, models }, null, 1)}\n`);
