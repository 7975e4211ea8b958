/** What the private server loads at its start: the libraries of its configuration, and the worker of searches. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

export const WORKER_LIBRARY = 'hartonomous_worker';

/** Whether the PostgreSQL whose programs are in `bin` has the worker. */
export function hasWorker(bin: string): boolean {
  const { stdout, status } = spawnSync(join(bin, 'pg_config'), ['--pkglibdir'], { encoding: 'utf8' });
  return status === 0 && existsSync(join(stdout.trim(), `${WORKER_LIBRARY}.so`));
}

/**
 * The option of a server's start that adds the worker to the libraries which its configuration names; it stands in no file, since a
 * server that is to load a library that is gone does not start. Through a shell, as pg_ctl passes it on.
 */
export function preloadOption(configured: string): string {
  if (configured.split(',').some((name) => name.trim() === WORKER_LIBRARY)) return '';
  const libraries = configured === '' ? WORKER_LIBRARY : `${configured}, ${WORKER_LIBRARY}`;
  return ` -c shared_preload_libraries='${libraries.replaceAll("'", String.raw`'\''`)}'`;
}
