import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { hartonomous } from './program.ts';

const folder = mkdtempSync(join(tmpdir(), 'hartonomous-up-'));
chmodSync(folder, 0o755);
const env = { HARTONOMOUS_HOME: join(folder, 'home') };

afterAll(async () => {
  await hartonomous(['down'], { env });
  rmSync(folder, { recursive: true, force: true });
});

async function up(): Promise<string> {
  const { code, stdout, stderr } = await hartonomous(['up', '--format', 'json'], { env });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const answer = JSON.parse(stdout) as { url: string };
  expect(answer.url).toMatch(/^postgres:\/\//);
  return answer.url;
}

async function ask(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

test('without a database every command names the next step', async () => {
  const { code, stdout, stderr } = await hartonomous(['list'], { env });
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toContain('hartonomous up');
});

test('up makes a private server, and a second up finds it', async () => {
  const url = await up();
  await ask(url, 'create table kept (x int)');
  expect(await up()).toBe(url);
});

test('the server listens on this machine alone and asks for the password', async () => {
  const url = await up();
  expect(await ask(url, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
  const wrong = new URL(url);
  wrong.password = 'wrong';
  await expect(ask(wrong.toString(), 'select 1')).rejects.toThrow('password authentication failed');
});

test('down stops it, twice is no error, and up brings the data back', async () => {
  const url = await up();
  expect((await hartonomous(['down'], { env })).code).toBe(0);
  await expect(ask(url, 'select 1')).rejects.toThrow();
  expect((await hartonomous(['down'], { env })).code).toBe(0);
  expect(await ask(await up(), 'select count(*)::int as n from kept')).toEqual([{ n: 0 }]);
});

test('up gets over the pid file of a server that is gone', async () => {
  await up();
  expect((await hartonomous(['down'], { env })).code).toBe(0);
  writeFileSync(join(env.HARTONOMOUS_HOME, 'data/postmaster.pid'), '4194303\n');
  chmodSync(join(env.HARTONOMOUS_HOME, 'data/postmaster.pid'), 0o644);
  expect(await ask(await up(), 'select 1 as one')).toEqual([{ one: 1 }]);
});
