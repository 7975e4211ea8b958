/** vitest globalSetup: one PostgreSQL for the run, with Hartonomous installed into a template database. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { Cluster } from '../../cli/cluster/cluster.ts';
import { install } from '../../cli/install/install.ts';
import { OWN_HOST } from '../../cli/install/language.ts';
import { PORTABLE, startCluster } from './portable-cluster.ts';

const TEMPLATE = 'hartonomous_template';

declare module 'vitest' {
  export interface ProvidedContext {
    adminUrl: string;
    /** What LANGUAGE plv8 is: our own host, our own host in its portable mode, or PL/V8. */
    language: 'own' | 'portable' | 'upstream';
  }
}

/** The extension that has to provide LANGUAGE plv8; without it the one that install chooses. */
const LANGUAGE = process.env.TEST_LANGUAGE;

/** TEST_DATABASE_URL names a server to use instead of a private one; TEST_PORTABLE=1 makes it do as PL/V8. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.TEST_DATABASE_URL;
  let home: string | null = null;
  let cluster: Cluster | null = null;
  let adminUrl: string;
  if (given) {
    adminUrl = given;
    console.log('tests run against TEST_DATABASE_URL');
  } else {
    home = mkdtempSync(join(tmpdir(), 'hartonomous-test-'));
    mkdirSync(join(home, 'cluster'));
    cluster = new Cluster(join(home, 'cluster'));

    chmodSync(home, 0o755);
    await startCluster(cluster);
    adminUrl = cluster.url('postgres');
    console.log(
      `tests run against a private PostgreSQL${existsSync('/var/run/docker.sock') ? '' : ' (no Docker engine here)'}`,
    );
  }
  const admin = new pg.Client({ connectionString: adminUrl });
  await admin.connect();
  await admin.query(`drop database if exists ${TEMPLATE}`);
  await admin.query(`create database ${TEMPLATE} template template0 encoding 'UTF8'`);
  await admin.end();
  const url = new URL(adminUrl);
  url.pathname = `/${TEMPLATE}`;
  const client = new pg.Client({ connectionString: url.toString() });
  await client.connect();
  if (LANGUAGE !== undefined) {
    await client.query(`create extension ${client.escapeIdentifier(LANGUAGE)}`);
    console.log(`LANGUAGE plv8 is that of extension ${LANGUAGE}`);
  }
  const { languageHost } = await install(client);
  await client.end();
  const own = languageHost === OWN_HOST;
  if (own && PORTABLE)
    console.log('hartonomous_v8 is portable: it does as PL/V8 3.2, and refuses what that does not survive');
  project.provide('adminUrl', adminUrl);
  project.provide('language', !own ? 'upstream' : PORTABLE ? 'portable' : 'own');
  return async () => {
    cluster?.destroy();
    if (home !== null) await rm(home, { recursive: true, force: true });
  };
}
