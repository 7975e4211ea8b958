/** A database of one's own for each test file, cloned from the template that cluster-setup.ts installed. */
import pg from 'pg';
import { inject } from 'vitest';
import type { IngestOptions, IngestResult } from '../../cli/ingest/ingest.ts';
import { ingest } from '../../cli/ingest/ingest.ts';

const TEMPLATE = 'hartonomous_template';

/** Whether LANGUAGE plv8 is our own host with all that it has; false on PL/V8 and where the host does as PL/V8. */
export const OWN_LANGUAGE = inject('language') === 'own';

/** The extension that provides LANGUAGE plv8. */
export const EXTENSION = inject('language') === 'upstream' ? 'plv8' : 'hartonomous_v8';

/** Whether a test cannot run because it is of what only our own host has; says so. */
export function lacksOwn(what: string): boolean {
  if (!OWN_LANGUAGE) console.log(`skipped: LANGUAGE plv8 is ${inject('language')}, only our own host has ${what}`);
  return !OWN_LANGUAGE;
}

export interface TestDatabase {
  url: string;
  pool: pg.Pool;
  /** Make a role, a member of `group` where there is one; it goes with the database. */
  createRole(name: string, group?: string): Promise<void>;
  drop(): Promise<void>;
}

let count = 0;

/** A role's name of one's own: roles belong to the cluster, which other test files use at the same time. */
export function roleName(base: string): string {
  return `${base}_${process.pid}_${Date.now().toString(36)}_${count++}`;
}

/** Its superuser's URL of the server that this worker's files have to themselves. */
export const ADMIN_URL = inject('adminUrls')[Number(process.env.VITEST_POOL_ID) - 1]!;

function urlOf(database: string): string {
  const url = new URL(ADMIN_URL);
  url.pathname = `/${database}`;
  return url.toString();
}

async function asAdmin(sql: string): Promise<void> {
  const admin = new pg.Client({ connectionString: ADMIN_URL });
  await admin.connect();
  try {
    await admin.query(sql);
  } finally {
    await admin.end();
  }
}

/** A fresh database; `empty` leaves Hartonomous out. */
export async function createDatabase(options: { empty?: boolean } = {}): Promise<TestDatabase> {
  const name = `t_${process.pid}_${Date.now().toString(36)}_${count++}`;
  await asAdmin(`create database ${name} template ${options.empty ? "template0 encoding 'UTF8'" : TEMPLATE}`);
  // What install does in the database it installs into; a clone does not inherit it.
  if (!options.empty) await asAdmin(`alter database ${name} set hartonomous_v8.segment_role = hartonomous_owner`);
  const url = urlOf(name);
  const pool = new pg.Pool({ connectionString: url, max: 8 });
  pool.on('error', () => undefined);
  const roles: string[] = [];
  return {
    url,
    pool,
    async createRole(role, group) {
      await pool.query(`create role ${role}`);
      roles.push(role);
      if (group !== undefined) await pool.query(`grant ${group} to ${role}`);
    },
    async drop() {
      await pool.end();
      if (roles.length > 0) await dropRoles(url, roles);
      await asAdmin(`drop database if exists ${name} with (force)`);
    },
  };
}

/** In a session of its own: one of the pool's may have been left in another role. */
async function dropRoles(url: string, roles: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const role of roles) await client.query(`drop owned by ${role} cascade; drop role ${role}`);
  } finally {
    await client.end();
  }
}

/** A connection of the superuser's whose backend computes itself what it is asked for, be engines on or off. */
export async function connectAlone(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, options: '-c hartonomous_v8.engine=off' });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** What `work` of a client tells the server's log. */
export async function loggedBy(
  client: pg.ClientBase,
  work: () => Promise<unknown>,
): Promise<Record<string, unknown>[]> {
  const PREFIX = 'hartonomous ';
  const logged: Record<string, unknown>[] = [];
  const note = ({ message = '' }: { message: string | undefined }): void => {
    if (message.startsWith(`${PREFIX}{`)) logged.push(JSON.parse(message.slice(PREFIX.length)) as (typeof logged)[0]);
  };
  await client.query('set client_min_messages = debug1');
  client.on('notice', note);
  await work();
  client.off('notice', note);
  await client.query('reset client_min_messages');
  return logged;
}

/** A connection of the superuser's that goes on as a role. */
export async function connectAs(url: string, role: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`set role ${role}`);
  return client;
}

/** Ingest a file through the product's own ingest. */
export async function ingestFile(
  url: string,
  file: string,
  name?: string,
  options: IngestOptions = {},
): Promise<IngestResult> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await ingest(client, file, { ...options, ...(name === undefined ? {} : { name }) });
  } finally {
    await client.end();
  }
}
