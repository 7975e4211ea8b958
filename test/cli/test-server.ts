/** `serve` for tests: on a free port of this machine, without a token, over two backends. */
import { startServer } from '../../cli/serve/server.ts';
import type { RunningServer, ServerOptions } from '../../cli/serve/server.ts';

export function startTestServer(databaseUrl: string, options: Partial<ServerOptions> = {}): Promise<RunningServer> {
  return startServer({
    connection: { databaseUrl },
    host: '127.0.0.1',
    port: 0,
    backends: 2,
    queue: 8,
    tokens: [],
    origins: [],
    record: false,
    version: '0.0.0',
    ...options,
  });
}
