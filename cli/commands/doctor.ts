import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import type pg from 'pg';
import { Cluster, postgresBin } from '../cluster/cluster.ts';
import { connect, databaseUrl, usesPrivateCluster, withClient } from '../cluster/connect.ts';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { CommandError } from '../errors.ts';
import { labelsFit } from '../install/bundle.ts';
import { compareBodies } from '../install/compare-bodies.ts';
import { cannotCompare, compare } from '../install/compare.ts';
import { refuseForeignSchema } from '../install/foreign-schema.ts';
import { languageHost, languageVersion, OWN_HOST } from '../install/language.ts';
import { refuseOtherSchemas } from '../install/schema-version.ts';
import { formatBytes, print, printJson } from '../output.ts';
import { globalsOf } from './globals.ts';
import { kernelChecks } from './kernel-checks.ts';
import type { Finding } from './operation-checks.ts';
import { operationChecks } from './operation-checks.ts';
import { workerChecks } from './worker-checks.ts';

/** What this machine has; `host` is the extension of a database that was reached. */
function local(host: string | null): Finding[] {
  const findings: Finding[] = [];
  const major = Number(process.versions.node.split('.')[0]);
  findings.push({
    check: 'node',
    ok: major >= 20,
    found: process.versions.node,
    next: major >= 20 ? '' : 'install Node.js 20 or later',
  });
  try {
    const bin = postgresBin();
    const library = existsSync(`${bin}/../lib/hartonomous_v8.so`);
    const needed = host === null || host === OWN_HOST;
    findings.push({ check: 'PostgreSQL', ok: true, found: bin, next: '' });
    findings.push({
      check: 'hartonomous_v8',
      ok: library || !needed,
      found: library ? 'installed' : needed ? 'not installed' : 'not installed, and not needed',
      next: library || !needed ? '' : 'run: host/setup.sh, unless the server has PL/V8',
    });
  } catch (error) {
    findings.push({
      check: 'PostgreSQL',
      ok: false,
      found: error instanceof Error ? error.message : '',
      next: 'run: host/setup.sh',
    });
  }
  const running = new Cluster().isRunning;
  findings.push({
    check: 'private cluster',
    ok: true,
    found: running ? 'running' : 'not running',
    next: running ? '' : 'hartonomous up starts it',
  });
  return findings;
}

/** What PL/V8 does not give that our own host does (docs/managed.md). */
const LACKS =
  'beside hartonomous_v8 it lacks shared weights, native kernels, threads, counts that a rollback leaves, parallel plans, cancel within a loop, and the trap handler that makes WebAssembly faster';

/** Whether everything in the schema is as this program makes it, whatever the stored build says: a finding each. */
async function definitionsOf(client: pg.Client, host: string, connection: ConnectionOptions): Promise<Finding[]> {
  const check = 'definitions';
  try {
    await refuseOtherSchemas(client);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return [{ check, ok: false, found: error.message, next: error.hint ?? '' }];
  }
  const reason = await cannotCompare(client);
  // In the private database the daily login may not, and the superuser who installed into it is at hand.
  if (reason !== null && usesPrivateCluster(connection) && connection.login === undefined) {
    const own = { ...connection, login: 'superuser' as const };
    return withClient(own, (superuser) => definitionsOf(superuser, host, own));
  }
  const texts = reason === null ? (await compare(client, host)).map(({ text }) => text) : await compareBodies(client);
  if (texts.length > 0) return texts.map((found) => ({ check, ok: false, found, next: 'run: hartonomous install' }));
  const found = reason === null ? 'as installed' : `bodies and owners as installed; no more was compared: ${reason}`;
  return [{ check, ok: true, found, next: '' }];
}

async function database(
  client: pg.Client,
  host: string | null,
  connection: ConnectionOptions,
  fix: boolean,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const available = await client.query<{ name: string }>(
    `select name from pg_available_extensions where name in ('plv8', 'hartonomous_v8')`,
  );
  findings.push({
    check: 'LANGUAGE plv8',
    ok: host !== null,
    found:
      host === null
        ? `none; available: ${available.rows.map((row) => row.name).join(', ') || 'nothing'}`
        : `from ${host}${await languageVersion(client)}`,
    next: host === null ? 'run: hartonomous install' : host === OWN_HOST ? '' : LACKS,
  });
  try {
    await refuseForeignSchema(client); // before anything there is read or called
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    findings.push({ check: 'schema', ok: false, found: error.message, next: error.hint ?? '' });
    return findings;
  }
  const schema = await client.query<{ there: boolean }>(
    `select to_regclass('hartonomous.settings') is not null as there`,
  );
  const installed = schema.rows[0]?.there === true;
  findings.push({
    check: 'schema',
    ok: installed,
    found: installed ? 'installed' : 'missing',
    next: installed ? '' : 'run: hartonomous install',
  });
  if (!installed || host === null) return findings;
  const fit = await labelsFit(client, host);
  findings.push({
    check: 'labels',
    ok: fit,
    found: fit ? 'those that this language needs' : 'those of a server with another LANGUAGE plv8',
    next: fit ? '' : 'run: hartonomous install',
  });
  if (!fit) return findings; // every labelled function would differ, and a parallel plan over one ends the connection on PL/V8
  const definitions = await definitionsOf(client, host, connection);
  findings.push(...definitions);
  if (definitions.some(({ ok }) => !ok)) return findings; // nothing that somebody has changed is called
  const facts = await client.query<{
    version: number;
    build: string;
    models: string;
    unfinished: string[] | null;
    name: string | null;
  }>(
    `select (select max(id) from hartonomous.migrations)::integer as version,
       (select value #>> '{}' from hartonomous.settings where name = 'build_id') as build,
       (select count(*) from hartonomous.models where state = 'ready') as models,
       (select array_agg(model) from hartonomous.ingest_progress where not is_running) as unfinished,
       hartonomous.default_model() as name`,
  );
  const row = facts.rows[0]!;
  findings.push({ check: 'version', ok: true, found: `schema ${row.version}, build ${row.build}`, next: '' });
  findings.push({
    check: 'models',
    ok: Number(row.models) > 0,
    found: row.models,
    next: Number(row.models) > 0 ? '' : 'run: hartonomous ingest FILE.gguf',
  });
  findings.push({
    check: 'default model',
    ok: row.name !== null,
    found: row.name ?? 'none',
    next: row.name === null ? `select hartonomous.set_default_model('NAME')` : '',
  });
  for (const name of row.unfinished ?? []) {
    if (fix) await client.query('select hartonomous._abandon_ingest($1)', [name]);
    findings.push({
      check: 'unfinished ingest',
      ok: fix,
      found: fix ? `${name}: swept` : name,
      next: fix ? '' : 'ingest the same file again, or run: hartonomous doctor --fix',
    });
  }
  const segments = await client.query<{ n: string; bytes: string }>(
    'select count(*) as n, coalesce(sum(bytes), 0) as bytes from hartonomous.segment_list',
  );
  const swept = fix ? (await client.query<{ n: number }>('select hartonomous._sweep_segments() as n')).rows[0]!.n : 0;
  findings.push({
    check: 'shared weights',
    ok: true,
    found: `${segments.rows[0]!.n} segments, ${formatBytes(Number(segments.rows[0]!.bytes))}${swept > 0 ? `, ${swept} files swept` : ''}`,
    next: '',
  });
  findings.push(
    ...(await kernelChecks(client, host)),
    ...(await operationChecks(client)),
    ...(await workerChecks(client, host)),
  );
  const problems = await client.query<{ n: string }>('select count(*) as n from hartonomous.check_integrity(false)');
  const broken = Number(problems.rows[0]?.n);
  findings.push({
    check: 'integrity',
    ok: broken === 0,
    found: `${broken} problems`,
    next: broken === 0 ? '' : 'select * from hartonomous.check_integrity()',
  });
  return findings;
}

/** `doctor`: what is well, what is not, and what to do; exit code 1 when something is not. */
export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('check this machine and the database, and say what to do')
    .option('--fix', 'sweep what unfinished ingests and models that are gone left behind')
    .action(async (options: { fix?: boolean }, command: Command) => {
      const globals = globalsOf(command);
      const findings: Finding[] = [];
      let client: pg.Client | null = null;
      let host: string | null = null;
      try {
        databaseUrl(globals);
        client = await connect(globals);
        await client.query('set search_path = pg_catalog');
        host = await languageHost(client);
        findings.push(...(await database(client, host, globals, options.fix === true)));
      } catch (error) {
        if (!(error instanceof CommandError)) throw error;
        findings.push({ check: 'database', ok: false, found: error.message, next: error.hint ?? '' });
      } finally {
        await client?.end();
      }
      findings.unshift(...local(host));
      if (globals.format === 'json') printJson(findings);
      else {
        for (const { check, ok, found, next } of findings) {
          print(`${ok ? 'ok  ' : 'FAIL'} ${check.padEnd(18)} ${found}${next === '' ? '' : ` -> ${next}`}\n`);
        }
      }
      if (findings.some((finding) => !finding.ok)) process.exitCode = 1;
    });
}
