/**
 * While a model is loaded, application_name tells whoever looks at pg_stat_activity how far it is: "psql loading smollm2
 * 42 %". The name is set for the transaction only, so an error or a cancel takes it back with everything else.
 */
import { query } from '../db.ts';

/** Bytes of application_name that PostgreSQL keeps. */
const MAX_NAME = 63;
/** Milliseconds between two changes. */
const INTERVAL_MS = 100;

function setName(name: string): void {
  query(`select set_config('application_name', $1::text, true)`, [name]);
}

/** The name while this much of a model is there; PostgreSQL shows other characters than ASCII as question marks. */
export function loadingName(client: string, model: string, share: number): string {
  const percent = ` ${Math.floor(Math.min(1, share) * 100)} %`;
  const loading = `loading ${model}`.replace(/[^\x20-\x7e]/g, '?').slice(0, MAX_NAME - percent.length) + percent;
  const room = MAX_NAME - loading.length - 1;
  return client === '' || room < 1 ? loading : `${client.slice(0, room)} ${loading}`;
}

/** Run `load`, which tells how many bytes of how many it has read. */
export function showLoading<T>(model: string, load: (read: (bytes: number, of: number) => void) => T): T {
  const client = String(query(`select current_setting('application_name') as name`)[0]?.name);
  setName(loadingName(client, model, 0));
  let shownAt = Date.now();
  let done = 0;
  const loaded = load((bytes, of) => {
    done += bytes;
    const now = Date.now();
    if (now - shownAt < INTERVAL_MS) return;
    shownAt = now;
    setName(loadingName(client, model, done / of));
  });
  setName(client);
  return loaded;
}
