/** `serve` over an engine: many clients, few backends, and what it tells of the engine. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { RunningServer } from '../../cli/serve/server.ts';
import { startTestServer } from '../cli/test-server.ts';
import type { EngineServer } from './server.ts';
import { TINY, foreign, useEngineServer } from './server.ts';

const CLIENTS = 200;
const GREETING = 'Hello! How can I help you?';

const ASK = { model: TINY, messages: [{ role: 'user', content: 'hello' }], stream: false, options: { temperature: 0 } };

let server: EngineServer;
let http: RunningServer;

useEngineServer(async (started) => {
  server = started;
  await server.set('engine = on');
  http = await startTestServer(server.url, { backends: 4, queue: CLIENTS });
});
afterAll(() => http?.close());

/** What /api/ps tells. */
interface Ps {
  models: { name: string }[];
  engine?: Record<string, unknown>;
}

function post(body: object): Promise<Response> {
  return fetch(`${http.url}/api/chat`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Connection: 'close' },
    body: JSON.stringify(body),
  });
}

async function chat(): Promise<[status: number, text: string]> {
  const response = await post(ASK);
  const body = (await response.json()) as { message?: { content: string }; error?: string };
  return [response.status, body.message?.content ?? String(body.error)];
}

/** Bytes that the processes of the server have in memory, what they share counted once. */
function proportionalBytes(): number {
  const postmaster = Number(readFileSync(join(server.cluster.home, 'data/postmaster.pid'), 'utf8').split('\n')[0]);
  let sum = 0;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      if (parent !== postmaster && Number(pid) !== postmaster) continue;
      sum += Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0) * 1024;
    } catch {
      continue; // it has ended
    }
  }
  return sum;
}

async function metrics(): Promise<Map<string, number>> {
  const lines = (await (await fetch(`${http.url}/metrics`)).text()).split('\n');
  return new Map(
    lines
      .filter((line) => line.startsWith('hartonomous_'))
      .map((line) => [line.replace(/ .*$/, ''), Number(line.replace(/^.* /, ''))]),
  );
}

describe.skipIf(foreign)('serve with an engine', () => {
  it(`answers ${CLIENTS} clients that come at once, and takes no more memory than for 50 of them`, async () => {
    const right: [number, string] = [200, GREETING];
    expect(await Promise.all(Array.from({ length: 50 }, chat))).toEqual(Array(50).fill(right));
    // Those that stream need V8 in their backend: every one has it then.
    await Promise.all(Array.from({ length: 50 }, async () => (await post({ ...ASK, stream: true })).text()));
    const before = proportionalBytes();
    expect(await Promise.all(Array.from({ length: CLIENTS }, chat))).toEqual(Array(CLIENTS).fill(right));
    const after = proportionalBytes();
    console.log(
      `sum of proportional sets: ${Math.round(before / 1e6)} MB after 50, ${Math.round(after / 1e6)} MB after ${CLIENTS} more`,
    );
    expect(before).toBeGreaterThan(50e6);
    expect(after).toBeLessThan(1.15 * before);
  });

  it('tells Prometheus what the engine does, and nothing of one that does not run', async () => {
    await chat();
    const [row] = await server.asAdmin('select * from hartonomous.engine_list');
    const found = await metrics();
    const shown = Object.fromEntries([...found].filter(([name]) => name.startsWith('hartonomous_engine_')));
    expect(shown).toMatchObject({
      hartonomous_engine_requests_waiting: 0,
      hartonomous_engine_requests_running: 0,
      hartonomous_engine_answers_total: Number(row!.answers),
      hartonomous_engine_failures_total: Number(row!.failures),
      hartonomous_engine_prompt_tokens_total: Number(row!.prompt_tokens),
      hartonomous_engine_cached_prompt_tokens_total: Number(row!.reused_tokens),
      hartonomous_engine_generated_tokens_total: Number(row!.generated_tokens),
      hartonomous_engine_mean_batch: row!.mean_batch,
      hartonomous_engine_first_token_seconds: expect.closeTo(Number(row!.first_token_ns) / 1e9, 9) as number,
      hartonomous_engine_cached_tokens: Number(row!.cached_tokens),
    });
    expect(Object.keys(shown)).toHaveLength(17);
    const loaded = (await (await fetch(`${http.url}/api/ps`)).json()) as Ps;
    expect(loaded.models.map(({ name }) => name)).toEqual([TINY]);
    expect(loaded.engine).toEqual({
      ...Object.fromEntries(
        Object.entries(row!)
          .filter(([name]) => name !== 'models')
          .map(([name, value]) => [name, Number(value)]),
      ),
      started_at: (row!.started_at as Date).toISOString(),
    });
    expect(shown.hartonomous_engine_answers_total).toBeGreaterThan(CLIENTS);
    await server.asAdmin(
      `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'hartonomous engine'`,
    );
    await server.untilEngines(0);
    expect([...(await metrics()).keys()].filter((name) => name.startsWith('hartonomous_engine_'))).toEqual([]);
    expect(await (await fetch(`${http.url}/api/ps`)).json()).not.toHaveProperty('engine');
  });
});
