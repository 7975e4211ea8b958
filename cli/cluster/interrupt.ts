import type pg from 'pg';
import { CommandError } from '../errors.ts';
import { cancelBackend } from './connect.ts';
import type { ConnectionOptions } from './connect.ts';

/** What the shell reports for a program that SIGINT ended. */
export const EXIT_INTERRUPTED = 130;

/** Let Ctrl-C cancel what the server is doing for `client`; a second one ends this program at once. */
export function cancelOnInterrupt(
  client: pg.Client,
  options: ConnectionOptions,
): { interrupted(): boolean; signal: AbortSignal; stop(): void } {
  let interrupted = false;
  const controller = new AbortController();
  const onInterrupt = (): void => {
    if (interrupted) process.exit(EXIT_INTERRUPTED);
    interrupted = true;
    controller.abort();
    const pid = (client as pg.Client & { processID: number }).processID;
    cancelBackend(options, pid).catch(() => process.exit(EXIT_INTERRUPTED));
  };
  process.on('SIGINT', onInterrupt);
  return { interrupted: () => interrupted, signal: controller.signal, stop: () => process.off('SIGINT', onInterrupt) };
}

/** Run a statement that Ctrl-C cancels; throws with exit code 130 when that happened. */
export async function interruptible<T>(
  client: pg.Client,
  options: ConnectionOptions,
  body: () => Promise<T>,
): Promise<T> {
  const interrupt = cancelOnInterrupt(client, options);
  try {
    return await body();
  } catch (cause) {
    if (!interrupt.interrupted()) throw cause;
    throw new CommandError('interrupted', { exitCode: EXIT_INTERRUPTED, cause });
  } finally {
    interrupt.stop();
  }
}
