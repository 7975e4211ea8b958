/** SIGKILL of backends that compute, and of engines, each of which ends all sessions until the server has recovered. */
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

/** Kill one of the processes that compute, every few seconds, an engine every second time where there is one; how many were. */
export async function killProcesses(url: string, random: () => number, until: number): Promise<number> {
  let kills = 0;
  for (;;) {
    await sleep(EVERY_MS * (0.5 + random()));
    if (Date.now() >= until) return kills;
    const client = await connectedAgain(url);
    try {
      const { rows } = await client.query<{ pid: number; backend_type: string }>(
        `select pid, backend_type from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()
           and (backend_type = 'client backend' and query ~ 'hartonomous\\.' or backend_type = 'hartonomous engine')`,
      );
      const engines = rows.filter((row) => row.backend_type === 'hartonomous engine');
      const from = engines.length > 0 && random() < 0.5 ? engines : rows;
      const victim = from[Math.floor(random() * from.length)];
      if (victim !== undefined && end(victim.pid)) kills++;
    } catch (error) {
      if (!wasKilled(error)) throw error;
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}
