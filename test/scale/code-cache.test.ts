/** The bytecode of the bundle, which the first backend leaves in a file for others: taken where it is as it was written, and else not. */
import { chmodSync, lstatSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Cluster } from '../../cli/cluster/cluster.ts';
import { lacksOwn } from '../db/harness.ts';
import { startPrimary } from './servers.ts';

const foreign = lacksOwn('files of bytecode');
let cluster: Cluster;
let url: string;
let folder: string;

beforeAll(async () => {
  if (foreign) return;
  ({ cluster, url } = await startPrimary());
  folder = join(cluster.home, 'data/pgsql_tmp_hartonomous_v8_code1');
});
afterAll(() => cluster?.destroy());

/** What a new session says of where it has the bundle's code from; it has to answer. */
async function origin(options = '', sql = 'select count(*)::int as n from hartonomous.engine_list'): Promise<string[]> {
  const client = new pg.Client({ connectionString: url, options: `-c client_min_messages=debug1 ${options}` });
  const said: string[] = [];
  client.on('notice', ({ message }) => said.push(...(/^code of .*/.exec(message ?? '') ?? [])));
  await client.connect();
  try {
    expect((await client.query(sql)).rows).toHaveLength(1);
  } finally {
    await client.end();
  }
  return said;
}

const TAKEN = ['code of _load_bundle: taken from a file'];
const COMPILED = ['code of _load_bundle: compiled'];

/** The one file that there is. */
function file(): string {
  const [name, ...others] = readdirSync(folder);
  expect(others).toEqual([]);
  return join(folder, name!);
}

beforeEach(async () => {
  if (foreign) return;
  rmSync(folder, { recursive: true, force: true });
  expect(await origin()).toEqual(COMPILED);
});

test.skipIf(foreign)('the first session compiles the bundle, later ones take its code over', async () => {
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  expect(statSync(file()).mode & 0o777).toBe(0o600);
  expect(await origin()).toEqual(TAKEN);
  expect(await origin()).toEqual(TAKEN);
});

test.skipIf(foreign)('a file that is damaged is not taken, and written anew', async () => {
  const whole = readFileSync(file());
  const flipped = (at: number): Buffer => {
    const bytes = Buffer.from(whole);
    bytes[at]! ^= 1;
    return bytes;
  };
  const at = [0, 8, 16, 24, 32, 40, 60, 1000, whole.length >> 1, whole.length - 1];
  const damaged = [
    ...at.map(flipped),
    ...[0, 10, 39, 40, 5000, whole.length - 1].map((length) => whole.subarray(0, length)),
    Buffer.concat([whole, Buffer.from('x')]),
  ];
  for (const [i, bytes] of damaged.entries()) {
    const path = file();
    writeFileSync(path, bytes);
    expect([i, await origin()]).toEqual([i, COMPILED]);
    expect([i, await origin()]).toEqual([i, TAKEN]);
  }
});

test.skipIf(foreign)('nothing is taken that others could have put there', async () => {
  const path = file();
  chmodSync(path, 0o620);
  expect(await origin()).toEqual(COMPILED);
  expect(await origin()).toEqual(TAKEN);
  chmodSync(folder, 0o777);
  expect(await origin()).toEqual(COMPILED);
  expect(await origin()).toEqual(COMPILED);
  chmodSync(folder, 0o700);
  expect(await origin()).toEqual(TAKEN);
  const elsewhere = join(cluster.home, 'data/elsewhere');
  writeFileSync(elsewhere, readFileSync(path), { mode: 0o600 });
  rmSync(path);
  symlinkSync(elsewhere, path);
  expect(await origin()).toEqual(COMPILED);
  expect(lstatSync(path).isSymbolicLink()).toBe(false);
  expect(await origin()).toEqual(TAKEN);
});

test.skipIf(foreign)('code of other flags, or without extras, is not taken', async () => {
  expect(await origin('-c plv8.v8_flags=--no-lazy-feedback-allocation')).toEqual(COMPILED);
  expect(await origin('-c plv8.v8_flags=--no-lazy-feedback-allocation')).toEqual(TAKEN);
  expect(readdirSync(folder)).toHaveLength(2);
  expect(await origin('-c hartonomous_v8.extras=off')).toEqual([]);
  expect(await origin('-c hartonomous_v8.segment_budget=0')).toEqual([]);
});

test.skipIf(foreign)("functions of other roles, and small ones of the owner's, have no file", async () => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const body = `/* ${'x'.repeat(100_000)} */ return 1;`;
    await client.query(
      `create role other; grant usage on language plv8 to other; create schema other authorization other`,
    );
    await client.query(`create function other.large() returns int language plv8 security definer as $$${body}$$`);
    await client.query('alter function other.large() owner to other');
    expect((await client.query('select other.large()')).rows).toEqual([{ large: 1 }]);
  } finally {
    await client.end();
  }
  expect(readdirSync(folder)).toHaveLength(1);
});
