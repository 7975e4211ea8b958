/**
 * Every shape of bench/random-model.ts through the whole life of a model, in a cluster of its own: ingest, verify, export
 * byte for byte, run, and the logits beside llama.cpp's.
 *   npm run shapes -- [NAME ...] [--keep]       all but the large ones by default; --keep leaves the files that it wrote
 * Exit code 1 when anything is not as it should be.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import pg from 'pg';
import { Cluster } from '../cli/cluster/cluster.ts';
import { exportModel } from '../cli/ingest/export.ts';
import { ingest } from '../cli/ingest/ingest.ts';
import { verify } from '../cli/ingest/verify.ts';
import { install } from '../cli/install/install.ts';
import { cosine } from '../test/golden/agreement.ts';
import { privateBytes } from './hartonomous.ts';
import { installPeers, llamaLogits } from './llama.ts';
import type { RandomModelName } from './random-model.ts';
import { isLarge, randomModel, randomModelPath, RANDOM_MODELS } from './random-model.ts';

const TOKENS = 16;
const PROMPT = 'The quick brown fox';
/** Random weights do not even out what rounding activations does: llama.cpp to 8 bits, we to 16. */
const LEAST_COSINE = 0.99;

interface Report {
  bytes: number;
  ingestSeconds: number;
  verifySeconds: number;
  loadSeconds: number;
  memoryBytes: number;
  memories: number;
  ran: string;
  /** Cosine of our logits with llama.cpp's; null for what has none or is no GGUF file. */
  agreement: number | null;
}

type Run = Pick<Report, 'loadSeconds' | 'memoryBytes' | 'memories' | 'ran' | 'agreement'>;

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest('hex');
}

/** Files of a model: itself, or what its folder holds. */
function filesOf(path: string): string[] {
  return statSync(path).isDirectory() ? readdirSync(path).map((name) => join(path, name)) : [path];
}

async function compareExport(client: pg.Client, name: string, path: string, folder: string): Promise<void> {
  const target = join(folder, basename(path));
  await exportModel(client, name, target);
  for (const file of filesOf(path)) {
    const other = statSync(path).isDirectory() ? join(target, basename(file)) : target;
    if ((await digestOf(file)) !== (await digestOf(other))) throw new Error(`${other} differs from ${file}`);
  }
  rmSync(target, { recursive: true });
}

/** Cosine of the logits after a prompt with llama.cpp's. Throws where they point elsewhere. */
async function compareLogits(client: pg.Client, name: string, path: string): Promise<number> {
  installPeers();
  const { rows } = await client.query<{ ids: number[]; logits: number[] }>(
    `select ids, hartonomous.logits(ids, $2) as logits from (select hartonomous.tokenize($1, $2) as ids) t`,
    [PROMPT, name],
  );
  const { ids, logits } = rows[0]!;
  const found = cosine(logits, llamaLogits(path, ids));
  if (!(found > LEAST_COSINE)) throw new Error(`${name}: logits have cosine ${found} with those of llama.cpp`);
  return found;
}

/** Run the model in a backend of its own; what it did, and what it took. */
async function runModel(url: string, name: string, path: string): Promise<Run> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const found = await client.query<{ pid: number; encoder: boolean }>(
      `select pg_backend_pid() as pid, architecture = 'bert' as encoder from hartonomous.model_list where name = $1`,
      [name],
    );
    const { pid, encoder } = found.rows[0]!;
    let ran: string;
    if (encoder) {
      const { rows } = await client.query<{ v: number[] }>('select hartonomous.embed($1, $2) as v', [PROMPT, name]);
      if (rows[0]!.v.length === 0 || !rows[0]!.v.every(Number.isFinite)) throw new Error(`${name} embeds to no vector`);
      ran = `embeds to ${rows[0]!.v.length} numbers`;
    } else {
      const options = { raw: true, temperature: 0, num_predict: TOKENS, num_ctx: 512, record: false };
      const { rows } = await client.query<{ answer: { eval_count: number; eval_duration: number } }>(
        'select hartonomous.complete($1, $2, $3) as answer',
        [PROMPT, name, JSON.stringify(options)],
      );
      const { eval_count: count, eval_duration: duration } = rows[0]!.answer;
      if (count === 0) throw new Error(`${name} wrote no token`);
      ran = `${count} tokens, ${((count / duration) * 1e9).toFixed(1)} tok/s`;
    }
    const loaded = await client.query<{ load: number; memories: number }>(
      'select load_duration::float8 as load, memories from hartonomous.loaded_models where model = $1',
      [name],
    );
    const { load, memories } = loaded.rows[0]!;
    const memoryBytes = privateBytes(pid);
    const agreement = encoder || !path.endsWith('.gguf') ? null : await compareLogits(client, name, path);
    return { ran, loadSeconds: load / 1e9, memoryBytes, memories, agreement };
  } finally {
    await client.end();
  }
}

async function live(client: pg.Client, url: string, name: string, path: string, folder: string): Promise<Report> {
  const began = performance.now();
  const { bytes } = await ingest(client, path, { name });
  const ingested = performance.now();
  const { differences } = await verify(client, name);
  if (differences.length > 0) throw new Error(`${name}: ${differences.join('; ')}`);
  const verified = performance.now();
  await compareExport(client, name, path, folder);
  const run = await runModel(url, name, path);
  return { bytes, ingestSeconds: (ingested - began) / 1000, verifySeconds: (verified - ingested) / 1000, ...run };
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { keep: { type: 'boolean' } } });
for (const name of positionals)
  if (!(RANDOM_MODELS as string[]).includes(name))
    throw new Error(`unknown model ${name}, known: ${RANDOM_MODELS.join(', ')}`);
const wanted =
  positionals.length > 0 ? (positionals as RandomModelName[]) : RANDOM_MODELS.filter((name) => !isLarge(name));
const home = mkdtempSync(join(tmpdir(), 'hartonomous-shapes-'));
chmodSync(home, 0o755);
mkdirSync(join(home, 'cluster'));
const cluster = new Cluster(join(home, 'cluster'));
const table = new Table({
  head: ['model', 'tensors MB', 'ingest s', 'verify s', 'export', 'load s', 'backend MB', 'memories', 'run', 'logits'],
  style: { head: [], border: [] },
});
try {
  await cluster.up();
  const url = cluster.url('postgres');
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await install(client);
  for (const name of wanted) {
    const wasThere = existsSync(randomModelPath(name));
    const path = randomModel(name);
    try {
      const report = await live(client, url, name, path, home);
      table.push([
        name,
        (report.bytes / 1e6).toFixed(0),
        report.ingestSeconds.toFixed(1),
        report.verifySeconds.toFixed(1),
        'equal',
        report.loadSeconds.toFixed(1),
        (report.memoryBytes / 1e6).toFixed(0),
        report.memories,
        report.ran,
        report.agreement === null ? '' : `cosine ${report.agreement.toFixed(6)}`,
      ]);
    } catch (error) {
      process.exitCode = 1;
      table.push([name, { colSpan: 9, content: error instanceof Error ? error.message : String(error) }]);
    } finally {
      if (!wasThere && values.keep !== true) rmSync(path, { recursive: true });
    }
    await client.query('select hartonomous.remove_model($1)', [name]).catch(() => undefined);
    await client.query('vacuum');
    console.error(`${name}: done`);
  }
  const broken = await client.query('select * from hartonomous.check_integrity()');
  if (broken.rows.length > 0) throw new Error(`check_integrity found ${broken.rows.length} problems`);
  await client.end();
} finally {
  cluster.destroy();
  rmSync(home, { recursive: true, force: true });
}
console.log(table.toString());
