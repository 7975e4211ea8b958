/**
 * Hartonomous and llama.cpp side by side, one thread each on the same processor, alternating.
 *   npm run bench -- [--models smollm2,qwen] [--rounds 5] [--repeats 3]
 * The peer is the faster of node-llama-cpp and the same library from C, for each figure.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';
import { ingest } from '../cli/ingest/ingest.ts';
import { install } from '../cli/install/install.ts';
import { cacheFolder, smollm2File } from '../test/golden/smollm2-file.ts';
import type { Measurement } from './hartonomous.ts';
import { measureHartonomous } from './hartonomous.ts';
import { measureLlamaLibrary, measureLlamaNode, preparePeers } from './llama.ts';
import { randomModel } from './random-model.ts';
import { median, spread } from './statistics.ts';

interface Subject {
  name: string;
  file: () => string;
  /** Ids that end a generation and are kept from being drawn. */
  ends: number[];
}

const GOLDEN = new URL('../test/golden/smollm2-135m-q4_1.json', import.meta.url);
const SUBJECTS: Record<string, Subject> = {
  smollm2: {
    name: 'bench-smollm2-135m-q4_1',
    file: () => smollm2File((JSON.parse(readFileSync(GOLDEN, 'utf8')) as { sha256: string }).sha256),
    ends: [0, 2],
  },
  qwen: {
    name: 'bench-qwen2.5-0.5b-shape-q8_0',
    file: () => randomModel('qwen2.5-0.5b-q8_0'),
    ends: [151643, 151645],
  },
};

interface Round {
  hartonomous: Measurement;
  llamaNode: Measurement;
  llamaLibrary: Measurement;
}

interface Row {
  what: string;
  unit: string;
  ours: number;
  oursSpread: number;
  peer: number;
  peerSpread: number;
  /** Median of the rounds' ratios ours / peer. */
  ratio: number;
}

async function ingestInto(url: string, name: string, file: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await install(client);
    await ingest(client, file, { name, replace: true });
  } finally {
    await client.end();
  }
}

/** Pair our figure with the better of the two peers' in every round. */
function row(
  what: string,
  unit: string,
  rounds: Round[],
  figure: (m: Measurement) => number,
  better: (...v: number[]) => number,
): Row {
  const ours = rounds.map((round) => figure(round.hartonomous));
  const peer = rounds.map((round) => better(figure(round.llamaNode), figure(round.llamaLibrary)));
  return {
    what,
    unit,
    ours: median(ours),
    oursSpread: spread(ours),
    peer: median(peer),
    peerSpread: spread(peer),
    ratio: median(ours.map((value, i) => value / peer[i])),
  };
}

function rows(rounds: Round[]): Row[] {
  return [
    row('prefill 128', 'tok/s', rounds, (m) => median(m.prefill), Math.max),
    row('decode 64', 'tok/s', rounds, (m) => median(m.decode), Math.max),
    row('first token, cold', 'ms', rounds, (m) => m.first_token_ms, Math.min),
    row('memory', 'MB', rounds, (m) => m.memory_bytes / 1e6, Math.min),
  ];
}

function print(name: string, results: Row[]): void {
  const table = new Table({
    head: [name, 'unit', 'hartonomous', 'spread', 'llama.cpp', 'spread', 'ratio'],
    style: { head: [], border: [] },
  });
  const percent = (value: number): string => `${Math.round(value * 100)} %`;
  for (const r of results) {
    table.push([
      r.what,
      r.unit,
      r.ours.toFixed(1),
      percent(r.oursSpread),
      r.peer.toFixed(1),
      percent(r.peerSpread),
      r.ratio.toFixed(2),
    ]);
  }
  console.log(table.toString());
}

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: 'smollm2,qwen' },
    rounds: { type: 'string', default: '5' },
    repeats: { type: 'string', default: '3' },
  },
});
const roundCount = Number(values.rounds);
const repeats = Number(values.repeats);
const program = preparePeers(cacheFolder());
const url = process.env.DATABASE_URL ?? (await new Cluster().up()).url;
const results = fileURLToPath(new URL('results/', import.meta.url));
mkdirSync(results, { recursive: true });

for (const key of values.models.split(',')) {
  const subject = SUBJECTS[key];
  if (subject === undefined) throw new Error(`unknown model ${key}, known: ${Object.keys(SUBJECTS).join(', ')}`);
  const file = subject.file();
  await ingestInto(url, subject.name, file);
  const rounds: Round[] = [];
  const loadBefore = loadavg()[0]; // processes that wanted a processor in the last minute: near 0 for figures worth quoting
  for (let i = 0; i < roundCount; i++) {
    const llamaNode = measureLlamaNode(file, repeats);
    const hartonomous = await measureHartonomous(url, subject.name, subject.ends, repeats);
    const llamaLibrary = measureLlamaLibrary(program, file, repeats);
    rounds.push({ hartonomous, llamaNode, llamaLibrary });
    console.error(
      `${subject.name}, round ${i + 1} of ${roundCount}: decode ${median(hartonomous.decode).toFixed(1)} tok/s`,
    );
  }
  const summary = rows(rounds);
  print(subject.name, summary);
  const report = {
    model: subject.name,
    measured_at: new Date().toISOString(),
    load_before: loadBefore,
    processor: cpus()[0].model,
    threads: 1,
    summary,
    rounds,
  };
  writeFileSync(join(results, `${key}.json`), `${JSON.stringify(report, null, 1)}\n`);
}
