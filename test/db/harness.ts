/** A database of one's own for each test file, cloned from the template that cluster-setup.ts installed. */
import pg from 'pg';
import { inject } from 'vitest';
import type { IngestOptions, IngestResult } from '../../cli/ingest/ingest.ts';
import { ingest } from '../../cli/ingest/ingest.ts';

const TEMPLATE = 'hartonomous_template';

export interface TestDatabase {
  url: string;
  pool: pg.Pool;
  drop(): Promise<void>;
}

let count = 0;

function urlOf(database: string): string {
  const url = new URL(inject('adminUrl'));
  url.pathname = `/${database}`;
  return url.toString();
}

async function asAdmin(sql: string): Promise<void> {
  const admin = new pg.Client({ connectionString: inject('adminUrl') });
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
  return {
    url,
    pool,
    async drop() {
      await pool.end();
      await asAdmin(`drop database if exists ${name} with (force)`);
    },
  };
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
