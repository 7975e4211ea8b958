/** SIGKILL of backends that compute, each of which ends all sessions until the server has recovered. */
import { setTimeout as sleep } from 'node:timers/promises';
import { connectedAgain, wasKilled } from './sessions.ts';

/** Long enough for the server to recover and for sessions to be at work again. */
const EVERY_MS = 4000;

/** Kill a process; whether it was there. */
function end(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch {
    return false;
  }
}

/** Kill one of the backends that compute, every few seconds; how many were. */
export async function killBackends(url: string, random: () => number, until: number): Promise<number> {
  let kills = 0;
  for (;;) {
    await sleep(EVERY_MS * (0.5 + random()));
    if (Date.now() >= until) return kills;
    const client = await connectedAgain(url);
    try {
      const { rows } = await client.query<{ pid: number }>(
        `select pid from pg_stat_activity where backend_type = 'client backend' and state = 'active'
           and query ~ 'hartonomous\\.' and pid <> pg_backend_pid()`,
      );
      const victim = rows[Math.floor(random() * rows.length)];
      if (victim !== undefined && end(victim.pid)) kills++;
    } catch (error) {
      if (!wasKilled(error)) throw error;
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}
