/** vitest globalSetup: a PostgreSQL for each worker, with Hartonomous installed into a template database. */
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
import { WORKERS } from './workers.ts';

const TEMPLATE = 'hartonomous_template';

declare module 'vitest' {
  export interface ProvidedContext {
    /** A server for each of vitest's workers. */
    adminUrls: string[];
    /** What LANGUAGE plv8 is: our own host, our own host in its portable mode, or PL/V8. */
    language: 'own' | 'portable' | 'upstream';
  }
}

/** The extension that has to provide LANGUAGE plv8; without it the one that install chooses. */
const LANGUAGE = process.env.TEST_LANGUAGE;

/** Install into the template database of a server; the extension that has LANGUAGE plv8 there. */
async function installTemplate(adminUrl: string): Promise<string> {
  const admin = new pg.Client({ connectionString: adminUrl });
  await admin.connect();
  await admin.query(`drop database if exists ${TEMPLATE}`);
  await admin.query(`create database ${TEMPLATE} template template0 encoding 'UTF8'`);
  await admin.end();
  const url = new URL(adminUrl);
  url.pathname = `/${TEMPLATE}`;
  const client = new pg.Client({ connectionString: url.toString() });
  await client.connect();
  if (LANGUAGE !== undefined) await client.query(`create extension ${client.escapeIdentifier(LANGUAGE)}`);
  const { languageHost } = await install(client);
  await client.end();
  return languageHost;
}

/** TEST_DATABASE_URL names a server to use instead of private ones; TEST_PORTABLE=1 makes these do as PL/V8. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.TEST_DATABASE_URL;
  const home = given ? null : mkdtempSync(join(tmpdir(), 'hartonomous-test-'));
  const clusters: Cluster[] = [];
  const adminUrls: string[] = given ? [given] : [];
  if (home !== null) {
    chmodSync(home, 0o755);
    for (let worker = 1; worker <= WORKERS; worker++) {
      const folder = join(home, `cluster-${worker}`);
      mkdirSync(folder);
      const cluster = new Cluster(folder);
      clusters.push(cluster);
      await startCluster(cluster);
      adminUrls.push(cluster.url('postgres'));
    }
  }
  console.log(
    given
      ? 'tests run against TEST_DATABASE_URL'
      : `tests run against ${WORKERS} private PostgreSQL${existsSync('/var/run/docker.sock') ? '' : ' (no Docker engine here)'}`,
  );
  if (LANGUAGE !== undefined) console.log(`LANGUAGE plv8 is that of extension ${LANGUAGE}`);
  let languageHost = '';
  for (const url of adminUrls) languageHost = await installTemplate(url);
  const own = languageHost === OWN_HOST;
  if (own && PORTABLE)
    console.log('hartonomous_v8 is portable: it does as PL/V8 3.2, and refuses what that does not survive');
  project.provide('adminUrls', adminUrls);
  project.provide('language', !own ? 'upstream' : PORTABLE ? 'portable' : 'own');
  return async () => {
    for (const cluster of clusters) cluster.destroy();
    if (home !== null) await rm(home, { recursive: true, force: true });
  };
}
