/** What `doctor` says of a database at work: its settings, limits, backends, errors and recorded runs. */
import type pg from 'pg';
import { formatBytes } from '../output.ts';

export interface Finding {
  check: string;
  ok: boolean;
  found: string;
  /** What to do about it, or to know more; empty when there is nothing. */
  next: string;
}

interface Facts {
  fsync: boolean;
  full_pages: boolean;
  check_interval: string;
  log_level: string;
  limits: string[] | null;
  backends: string;
  loading: string[] | null;
  errors: string;
  failing: string;
  runs: string;
  slowest: string | null;
  progress: { model: string; bytes: string; is_running: boolean }[] | null;
}

const FACTS = `
select current_setting('fsync')::boolean as fsync, current_setting('full_page_writes')::boolean as full_pages,
  current_setting('client_connection_check_interval', true) as check_interval, current_setting('log_min_messages') as log_level,
  (select array_agg(name || case role_name when '*' then '' else ' of ' || role_name end || ' ' || value order by name, role_name)
   from hartonomous.limit_list) as limits,
  (select count(distinct pid) from hartonomous.loaded_everywhere) as backends,
  (select array_agg(application_name || ' (' || pid || ')' order by pid) from pg_stat_activity
   where datname = current_database() and application_name ~ '(^| )loading .* \\d+ %$') as loading,
  (select coalesce(sum(errors), 0) from hartonomous.call_errors_everywhere) as errors,
  (select count(*) from hartonomous.call_errors_everywhere) as failing,
  (select coalesce(sum(runs), 0) from hartonomous.run_latency) as runs,
  (select model || ' ' || kind || ' p50 ' || round(p50_ms::numeric) || ' ms, p99 ' || round(p99_ms::numeric) || ' ms'
   from hartonomous.run_latency order by p99_ms desc limit 1) as slowest,
  (select json_agg(json_build_object('model', model, 'bytes', bytes_stored, 'is_running', is_running)) from hartonomous.ingest_progress) as progress`;

/** Levels of log_min_messages at which the lines of JSON are written. */
const DETAILED = /^debug/;

export async function operationChecks(client: pg.Client): Promise<Finding[]> {
  const facts = (await client.query<Facts>(FACTS)).rows[0]!;
  const safe = facts.fsync && facts.full_pages;
  const findings: Finding[] = [
    {
      check: 'power cut',
      ok: safe,
      found: `fsync ${facts.fsync ? 'on' : 'off'}, full_page_writes ${facts.full_pages ? 'on' : 'off'}`,
      next: safe ? '' : 'alter system set fsync = on; alter system set full_page_writes = on',
    },
    {
      check: 'lost clients',
      ok: true,
      found: `client_connection_check_interval ${facts.check_interval ?? 'not known to this server'}`,
      next: facts.check_interval === '0' ? `alter system set client_connection_check_interval = '5s'` : '',
    },
    {
      check: 'limits',
      ok: true,
      found: facts.limits?.join(', ') ?? 'none',
      next: facts.limits === null ? `select hartonomous.set_limit('max_model_bytes', 2000000000)` : '',
    },
    {
      check: 'backends',
      ok: true,
      found: `${facts.backends} hold a model${facts.loading === null ? '' : `; ${facts.loading.join(', ')}`}`,
      next: facts.backends === '0' ? '' : 'hartonomous ps',
    },
    {
      check: 'errors',
      ok: true,
      found: `${facts.errors} in ${facts.failing} backends`,
      next: facts.errors === '0' ? '' : 'select * from hartonomous.call_errors_everywhere, and the log of the server',
    },
    {
      check: 'recorded runs',
      ok: true,
      found: `${facts.runs}${facts.slowest === null ? '' : `; ${facts.slowest}`}`,
      next: facts.runs === '0' ? '' : 'select * from hartonomous.run_latency',
    },
    {
      check: 'log',
      ok: true,
      found: `log_min_messages ${facts.log_level}`,
      next: DETAILED.test(facts.log_level)
        ? ''
        : 'set log_min_messages = debug1 for a database or role to have a line for every load and answer',
    },
  ];
  findings.push(...(await searches(client)));
  for (const { model, bytes, is_running: running } of facts.progress ?? [])
    if (running)
      findings.push({
        check: 'ingest',
        ok: true,
        found: `${model}: ${formatBytes(Number(bytes))} committed`,
        next: '',
      });
  return findings;
}

interface SearchFacts {
  search: string;
  waiting: string | null;
  failed: string | null;
  seconds: string;
  error: string | null;
}

/** A finding for each search of the role that is connected, where it may have any. */
async function searches(client: pg.Client): Promise<Finding[]> {
  const { rows: may } = await client.query<{ may: boolean }>(
    `select has_table_privilege('hartonomous.search_list', 'select') as may`,
  );
  if (may[0]?.may !== true) return [];
  const { rows } = await client.query<SearchFacts>(
    `select search::text, waiting, failed, round(extract(epoch from lag)) as seconds, error from hartonomous.search_list`,
  );
  return rows.map(({ search, waiting, failed, seconds, error }) => {
    const check = 'search';
    if (waiting === null)
      return {
        check,
        ok: false,
        found: `${search}: its table or queue is gone`,
        next: `select hartonomous.drop_search('${search}')`,
      };
    const lag = waiting === '0' ? '' : `, the oldest for ${seconds} s`;
    const found = `${search}: ${waiting} changes wait${lag}, ${failed ?? 0} were given up${error === null ? '' : `: ${error}`}`;
    const mend = `select hartonomous.retry_search('${search}'), then: hartonomous work`;
    return {
      check,
      ok: error === null,
      found,
      next: error !== null ? mend : waiting === '0' ? '' : 'hartonomous work',
    };
  });
}
