/**
 * Hartonomous beside llama.cpp, one thread each on the same processor, alternating.
 *   npm run bench -- [--models qwen-q8_0,smollm2] [--rounds 5] [--repeats 1] [--extra-rounds 2]
 *   npm run bench -- --profile [--models ...]       where a token's time goes, by kernel
 *   npm run bench -- --threads 1,2 [--short] [--models ...]   with one thread and with all processors, see threads.ts
 *   npm run bench -- --neighbours [--rounds 5]      two backends at once, and pgbench beside one, see neighbours.ts
 *   npm run bench -- --shared [--rounds 5]          weights that backends share, see shared.ts
 *   npm run bench -- --engine [--rounds 5] [--models ...]   many clients at once, see engine.ts
 *   npm run bench -- --search [--rounds 5]          embeddings, exact search and the triggers of searches, see search.ts
 * The peer is the faster of node-llama-cpp and the same library from C, for each figure; wllama is llama.cpp as
 * WebAssembly. Writes results/KEY.json for each model, results/table.json and results/ratios.svg.
 */
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ingest } from '../cli/ingest/ingest.ts';
import { install } from '../cli/install/install.ts';
import { cacheFolder } from '../python-package.mjs';
import { privateDatabase, withClient } from './database.ts';
import { measureEngine } from './engine.ts';
import type { HeldBytes, Measurement, OwnMeasurement, Target } from './hartonomous.ts';
import {
  measureHartonomous,
  measureHeld,
  measureLongContext,
  measureOwn,
  profileHartonomous,
  UPSTREAM_ONLY,
} from './hartonomous.ts';
import { measureLlamaLibrary, measureLlamaNode, measureWllama, preparePeers } from './llama.ts';
import { measureNeighbours } from './neighbours.ts';
import type { Row } from './report.ts';
import { comparison, printTable, ratioPlot } from './report.ts';
import { measureSearch } from './search.ts';
import { measureShared } from './shared.ts';
import { median, spread } from './statistics.ts';
import type { Subject } from './subjects.ts';
import { SUBJECTS, subjectsNamed } from './subjects.ts';
import { compareThreads } from './threads.ts';

/** The model that the figures without a native peer are taken of. */
const MAIN = 'qwen-q8_0';
const COLD_BAR_MS = 3000;
const COLD_UPSTREAM_BAR_MS = 5000;
const MEMORY_BAR = 1.35;
const BESIDES_BAR_MB = 60;
const WLLAMA_BARS = { prefill: 2.5, decode: 1.8 };

interface Round {
  hartonomous: Awaited<ReturnType<typeof measureHartonomous>>;
  llamaNode: Measurement | null;
  llamaLibrary: Measurement;
}

/** What only the main model is measured for. */
interface ExtraRound {
  wllama: Pick<Measurement, 'prefill' | 'decode'>;
  upstream: Measurement | null;
  own: OwnMeasurement;
}

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: SUBJECTS.flatMap(({ key, large }) => (large ? [] : [key])).join(',') },
    rounds: { type: 'string', default: '5' },
    repeats: { type: 'string', default: '1' },
    'extra-rounds': { type: 'string', default: '2' },
    profile: { type: 'boolean', default: false },
    threads: { type: 'string' },
    short: { type: 'boolean', default: false },
    shared: { type: 'boolean', default: false },
    neighbours: { type: 'boolean', default: false },
    engine: { type: 'boolean', default: false },
    search: { type: 'boolean', default: false },
  },
});
const subjects = subjectsNamed(values.models);
const rounds = Number(values.rounds);
const repeats = Number(values.repeats);
const extraRounds = Number(values['extra-rounds']);
const url = process.env.DATABASE_URL ?? (await privateDatabase());

/** Whether the host's extras can be switched off: our host, and a role that may. */
async function canSwitchOff(): Promise<boolean> {
  return await withClient(url, async (client) => {
    try {
      await client.query("load '$libdir/hartonomous_v8'; set hartonomous_v8.extras = off");
      return true;
    } catch {
      return false;
    }
  });
}

const better = (a: number, b: number | undefined, smaller: boolean): number =>
  b === undefined ? a : smaller ? Math.min(a, b) : Math.max(a, b);

/** Pair our figure with the better of the two peers' in every round. */
function paired(
  what: string,
  unit: string,
  list: readonly Round[],
  figure: (measurement: Measurement) => number,
  options: { bar: number | null; smaller?: boolean; compare?: boolean },
): Row {
  const { bar, smaller = false, compare = true } = options;
  const ours = list.map((round) => figure(round.hartonomous));
  const peer = list.map((round) =>
    better(figure(round.llamaLibrary), round.llamaNode === null ? undefined : figure(round.llamaNode), smaller),
  );
  const row = comparison(what, unit, ours, peer, bar);
  return { ...row, ratio: compare ? row.ratio : null, smaller };
}

/** A figure of our own, with a bar on the figure itself. */
function alone(
  what: string,
  unit: string,
  list: readonly number[],
  options: { bar: number | null; smaller?: boolean },
): Row {
  const { bar, smaller = false } = options;
  const oursSpread = list.length > 1 ? spread(list) : null;
  return { what, unit, ours: median(list), oursSpread, peer: null, peerSpread: null, ratio: null, bar, smaller };
}

function rowsOf(subject: Subject, list: readonly Round[], held: HeldBytes | null): Row[] {
  const { title, bars, key } = subject;
  const main = key === MAIN;
  const fileBytes = statSync(subject.file()).size;
  return [
    paired(`${title}: decode`, 'tok/s', list, (m) => median(m.decode), { bar: bars.decode }),
    paired(`${title}: prefill`, 'tok/s', list, (m) => median(m.prefill), { bar: bars.prefill }),
    paired(`${title}: first token, cold`, 'ms', list, (m) => m.first_token_ms, {
      bar: main ? COLD_BAR_MS : null,
      smaller: true,
      compare: false,
    }),
    paired(`${title}: memory`, 'MB', list, (m) => m.memory_bytes / 1e6, { bar: null, smaller: true }),
    alone(
      `${title}: memory / file`,
      'x',
      list.map((round) => round.hartonomous.memory_bytes / fileBytes),
      { bar: main ? MEMORY_BAR : null, smaller: true },
    ),
    ...(held === null
      ? []
      : [
          alone(`${title}: weights / tensors`, 'x', [held.weights / held.tensors], {
            bar: subject.weightsBar,
            smaller: true,
          }),
          alone(`${title}: private memory beside weights and caches`, 'MB', [held.besides / 1e6], {
            bar: BESIDES_BAR_MB,
            smaller: true,
          }),
        ]),
  ];
}

function extraRowsOf(list: readonly ExtraRound[], ours: readonly Round[]): Row[] {
  const against = (what: string, figure: (m: Pick<Measurement, 'prefill' | 'decode'>) => number, bar: number): Row => {
    const mine = ours.map((round) => figure(round.hartonomous));
    const theirs = list.map((round) => figure(round.wllama));
    return {
      what,
      unit: 'tok/s',
      ours: median(mine),
      oursSpread: spread(mine),
      peer: median(theirs),
      peerSpread: spread(theirs),
      ratio: median(mine) / median(theirs),
      bar,
      smaller: false,
    };
  };
  const rows = [
    against('against wllama: decode', (m) => median(m.decode), WLLAMA_BARS.decode),
    against('against wllama: prefill', (m) => median(m.prefill), WLLAMA_BARS.prefill),
    alone(
      '8 prompts together / one',
      'x',
      list.map((round) => round.own.batch),
      { bar: 1.5 },
    ),
    alone(
      'a call of no tokens',
      'ms',
      list.map((round) => round.own.zeroTokensMs),
      { bar: 5, smaller: true },
    ),
  ];
  const upstream = list.flatMap((round) => (round.upstream === null ? [] : [round.upstream]));
  if (upstream.length > 0) {
    const only = 'upstream API only: ';
    rows.push(
      alone(
        `${only}decode`,
        'tok/s',
        upstream.map((m) => median(m.decode)),
        { bar: null },
      ),
      alone(
        `${only}prefill`,
        'tok/s',
        upstream.map((m) => median(m.prefill)),
        { bar: null },
      ),
      alone(
        `${only}first token, cold`,
        'ms',
        upstream.map((m) => m.first_token_ms),
        {
          bar: COLD_UPSTREAM_BAR_MS,
          smaller: true,
        },
      ),
      alone(
        `${only}memory`,
        'MB',
        upstream.map((m) => m.memory_bytes / 1e6),
        { bar: null, smaller: true },
      ),
    );
  }
  return rows;
}

const progress = (text: string): void =>
  void process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
const results = fileURLToPath(new URL('results/', import.meta.url));
mkdirSync(results, { recursive: true });

async function ingestSubject(subject: Subject): Promise<Target> {
  await withClient(url, async (client) => ingest(client, subject.file(), { name: subject.name, replace: true }));
  return { url, model: subject.name, ends: subject.ends };
}

async function profile(): Promise<void> {
  for (const subject of subjects) {
    const times = await profileHartonomous(await ingestSubject(subject));
    for (const [phase, kernels] of Object.entries(times)) {
      const total = [...kernels.values()].reduce((sum, ms) => sum + ms, 0);
      console.log(`${subject.title}, ${phase} of ${phase === 'prefill' ? 128 : 64} tokens: ${total.toFixed(0)} ms`);
      for (const [name, ms] of [...kernels].sort((a, b) => b[1] - a[1]))
        console.log(
          `  ${name.padEnd(22)} ${ms.toFixed(0).padStart(6)} ms ${((ms / total) * 100).toFixed(1).padStart(5)} %`,
        );
    }
  }
}

async function compare(): Promise<void> {
  const program = preparePeers(cacheFolder());
  const upstreamToo = await canSwitchOff();
  const table: Row[] = [];
  const loadBefore = loadavg()[0]; // processes that wanted a processor in the last minute: near 0 for figures worth quoting
  const about = {
    processor: cpus()[0]?.model,
    threads: 1,
    load_before: loadBefore,
    measured_at: new Date().toISOString(),
  };
  for (const subject of subjects) {
    progress(`${subject.title}: ingest`);
    const file = subject.file();
    const target = await ingestSubject(subject);
    const list: Round[] = [];
    const extra: ExtraRound[] = [];
    for (let i = 0; i < rounds; i++) {
      const llamaNode = subject.everyPeer || i === 0 ? measureLlamaNode(file, repeats) : null;
      const hartonomous = await measureHartonomous(target, repeats);
      const llamaLibrary = measureLlamaLibrary(program, file, repeats);
      list.push({ hartonomous, llamaNode, llamaLibrary });
      const [mine, theirs] = [median(hartonomous.decode), median(llamaLibrary.decode)];
      progress(
        `${subject.title}, round ${i + 1} of ${rounds}: decode ${mine.toFixed(1)} and ${theirs.toFixed(1)} tok/s`,
      );
    }
    const rows = rowsOf(subject, list, await measureHeld(target));
    if (extraRounds > 0) {
      const ratios = await measureLongContext(target);
      rows.push(
        alone(`${subject.title}: decode at 2,048 tokens / at 64`, 'x', ratios, { bar: subject.longContextBar }),
      );
    }
    if (subject.key === MAIN) {
      for (let i = 0; i < extraRounds; i++) {
        progress(`${subject.title}, figures without a native peer, round ${i + 1} of ${extraRounds}`);
        extra.push({
          wllama: measureWllama(file, repeats),
          upstream: upstreamToo ? await measureHartonomous({ ...target, options: UPSTREAM_ONLY }, repeats) : null,
          own: await measureOwn(target),
        });
      }
      if (extra.length > 0) rows.push(...extraRowsOf(extra, list));
    }
    table.push(...rows);
    const report = { model: subject.title, ...about, rows, rounds: list, extra };
    writeFileSync(join(results, `${subject.key}.json`), `${JSON.stringify(report, null, 1)}\n`);
  }
  printTable(`one thread on ${about.processor ?? 'this processor'}`, table);
  writeFileSync(join(results, 'table.json'), `${JSON.stringify({ ...about, rows: table }, null, 1)}\n`);
  writeFileSync(
    join(results, 'ratios.svg'),
    ratioPlot(`Tokens per second, Hartonomous / peer (one thread, ${about.processor ?? ''})`, table),
  );
}

async function shared(): Promise<void> {
  const subject = SUBJECTS.find(({ key }) => key === MAIN)!;
  const { model, ends } = await ingestSubject(subject);
  await measureShared(url, model, ends, rounds, results);
}

async function neighbours(): Promise<void> {
  const subject = SUBJECTS.find(({ key }) => key === MAIN)!;
  await measureNeighbours(subject, await ingestSubject(subject), { rounds, results, progress });
}

await withClient(url, (client) => install(client));
if (values.shared) await shared();
else if (values.neighbours) await neighbours();
else if (values.engine) await measureEngine(subjects, url, { rounds, results, ingest: ingestSubject, progress });
else if (values.search) await measureSearch(url, results, { rounds });
else if (values.profile) await profile();
else if (values.threads !== undefined)
  await compareThreads(subjects, values.threads.split(',').map(Number), {
    rounds,
    repeats,
    short: values.short,
    results,
    ingest: ingestSubject,
    progress,
  });
else await compare();
