/**
 * What sharing weights between backends is worth: times from opening a connection, memory by /proc, speed of a mapped copy
 * against a private one.
 *   npm run bench -- --shared [--rounds 5]
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Table from 'cli-table3';
import pg from 'pg';
import { exactRun } from './hartonomous.ts';
import { median } from './statistics.ts';

interface Completion {
  prompt_eval_count: number;
  eval_count: number;
  eval_duration: number; // ns
}

/** Bytes of one backend by /proc/PID/smaps, shared buffers left out. */
interface Memory {
  private: number;
  proportional: number;
}

const WORD = ' a'; // one token
const CONTEXT = 512;
const COLD_PROMPT = 16;
const DECODE = 64;
const BACKENDS = 8;
const CONNECTIONS = 32;

class Backend {
  private constructor(
    private readonly client: pg.Client,
    private readonly model: string,
    private readonly ends: number[],
    readonly opened: number,
  ) {}

  /** A connection; `copy` makes it load weights of its own. */
  static async open(url: string, model: string, ends: number[], copy = false): Promise<Backend> {
    const opened = performance.now();
    const client = new pg.Client({
      connectionString: url,
      ...(copy ? { options: '-c hartonomous_v8.segment_budget=0' } : {}),
    });
    await client.connect();
    return new Backend(client, model, ends, opened);
  }

  async pin(processor = 0): Promise<void> {
    const { rows } = await this.client.query<{ pid: number }>('select pg_backend_pid() as pid');
    execFileSync('taskset', ['-a', '-p', '-c', String(processor), String(rows[0].pid)], { stdio: 'ignore' });
  }

  async complete(words: number, tokens: number): Promise<Completion> {
    const { rows } = await this.client.query<{ answer: Completion }>(
      'select hartonomous.complete($1, $2, $3) as answer',
      [WORD.repeat(words), this.model, exactRun(tokens, CONTEXT, this.ends)],
    );
    return rows[0].answer;
  }

  /** Milliseconds from opening the connection to the first token of a short prompt. */
  async firstToken(): Promise<number> {
    await this.complete(COLD_PROMPT, 1);
    return performance.now() - this.opened;
  }

  /** Tokens a second after a short prompt. */
  async decode(): Promise<number> {
    const answer = await this.complete(COLD_PROMPT, DECODE + 1);
    return (DECODE / answer.eval_duration) * 1e9;
  }

  /** Fill the whole context, so that its keys and values take memory. */
  async fill(): Promise<void> {
    await this.complete(CONTEXT - DECODE, DECODE);
  }

  async memory(): Promise<Memory> {
    const { rows } = await this.client.query<{ smaps: string }>(`select pg_read_file('/proc/self/smaps') as smaps`);
    const memory = { private: 0, proportional: 0 };
    for (const entry of rows[0].smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
      if (/^\S+ \S+ \S+ \S+ \S+ +(\/dev\/zero|\/SYSV|\/dev\/shm\/PostgreSQL)/.test(entry)) continue;
      const kib = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(entry)?.[1] ?? 0);
      memory.private += (kib('Private_Clean') + kib('Private_Dirty')) * 1024;
      memory.proportional += kib('Pss') * 1024;
    }
    return memory;
  }

  async sharedBytes(): Promise<number> {
    const { rows } = await this.client.query<{ n: string }>('select shared_bytes as n from hartonomous.loaded_models');
    return Number(rows[0]?.n ?? 0);
  }

  end(): Promise<void> {
    return this.client.end();
  }
}

async function dropSegments(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`copy (select 1) to program 'cat > /dev/null; rm -f pgsql_tmp_hartonomous_v8/*_*'`);
  await client.end();
}

/** Measure, print a table with the bars, and write results/shared.json. */
export async function measureShared(
  url: string,
  model: string,
  ends: number[],
  rounds: number,
  results: string,
): Promise<void> {
  const open = (copy = false): Promise<Backend> => Backend.open(url, model, ends, copy);
  const samples: Record<string, number[]> = {};
  const note = (name: string, value: number): void => void (samples[name] ??= []).push(value);

  for (let i = 0; i < rounds; i++) {
    const copying = await open(true);
    note('copying', await copying.firstToken());
    await dropSegments(url);
    const building = await open();
    note('building', await building.firstToken());
    if ((await building.sharedBytes()) === 0) throw new Error('the first backend did not publish a segment');
    const mapping = await open();
    note('mapping', await mapping.firstToken());
    for (const backend of [copying, mapping]) await backend.pin();
    for (let repeat = 0; repeat < 3; repeat++) {
      note('decode, private', await copying.decode());
      note('decode, mapped', await mapping.decode());
    }
    await building.pin(1);
    await building.decode();
    const [one, other] = await Promise.all([mapping.decode(), building.decode()]);
    note('decode, two at once', one + other);
    await mapping.fill();
    note('private memory', (await mapping.memory()).private);
    await copying.fill();
    note('private memory, copying', (await copying.memory()).private);
    for (const backend of [copying, building, mapping]) await backend.end();
    console.error(`round ${i + 1} of ${rounds}`);
  }

  for (let i = 0; i < CONNECTIONS; i++) {
    const backend = await open();
    note('one after another', await backend.firstToken());
    await backend.end();
  }

  const together = await Promise.all(Array.from({ length: BACKENDS }, () => open()));
  const times = await Promise.all(together.map((backend) => backend.firstToken()));
  await Promise.all(together.map((backend) => backend.fill()));
  const memories = await Promise.all(together.map((backend) => backend.memory()));
  const segment = await together[0].sharedBytes();
  const proportional = memories.reduce((sum, memory) => sum + memory.proportional, 0);
  for (const backend of together) await backend.end();

  const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
  const ms = (value: number): string => `${value.toFixed(0)} ms`;
  const of = (name: string): number => median(samples[name]);
  const ratio = (a: string, b: string): number => median(samples[a].map((value, i) => value / samples[b][i]));
  const ratio2 = (a: number, b: number): string => (a / b).toFixed(2);
  const most = 1.15 * segment + BACKENDS * 60e6;
  const table = new Table({ head: [model, 'measured', 'bar'], style: { head: [], border: [] } });
  table.push(
    ['further backend, connection to first token', ms(of('mapping')), '700 ms (aim 350)'],
    [`  ${CONNECTIONS} connections one after another`, ms(of('one after another')), ''],
    [`  ${BACKENDS} at once`, ms(median(times)), ''],
    ['private memory of a further backend', mb(of('private memory')), '60 MB'],
    ['  with a copy of its own', mb(of('private memory, copying')), ''],
    [`proportional memory of ${BACKENDS} backends`, mb(proportional), mb(most)],
    ['segment', mb(segment), ''],
    ['decode, mapped / private', ratio('decode, mapped', 'decode, private').toFixed(3), 'at least 0.95'],
    ['  tokens/s mapped, private', `${of('decode, mapped').toFixed(1)}, ${of('decode, private').toFixed(1)}`, ''],
    ['decode, two backends together / one', ratio2(of('decode, two at once'), of('decode, mapped')), ''],
    ['first load, building / copying', ratio('building', 'copying').toFixed(2), '1.5'],
    ['  connection to first token', `${ms(of('building'))}, ${ms(of('copying'))}`, ''],
  );
  console.log(table.toString());
  const report = { model, measured_at: new Date().toISOString(), segment, proportional, times, memories, samples };
  writeFileSync(join(results, 'shared.json'), `${JSON.stringify(report, null, 1)}\n`);
}
