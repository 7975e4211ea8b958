/** Sessions of the stress test, which a kill of any backend ends. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

/** Of every login. */
export const PASSWORD = 'stress';
/** How sessions end, and new ones are refused, where a backend was killed. */
const KILLED = /57P0[123]|Connection terminated|ECONNRESET|not queryable/;
const RECOVERY_MS = 60_000;

/** A session of a login, or of the one in the URL. */
export async function connected(url: string, login: string | null = null): Promise<pg.Client> {
  const as = new URL(url);
  if (login !== null) [as.username, as.password] = [login, PASSWORD];
  const client = new pg.Client({ connectionString: as.toString() });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** The same where the server may be about to recover. */
export async function connectedAgain(url: string, login: string | null = null): Promise<pg.Client> {
  for (const started = Date.now(); ;) {
    try {
      return await connected(url, login);
    } catch (error) {
      if (!wasKilled(error) || Date.now() - started > RECOVERY_MS) throw error;
      await sleep(100);
    }
  }
}

/** Whether an error, or what caused it, is that of a session that ended because some backend was killed. */
export function wasKilled(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (KILLED.test(`${(at as pg.DatabaseError).code ?? ''} ${at.message}`)) return true;
  }
  return false;
}
