/** The HTTP server: who may ask, how much, and in which shape errors go back. The routes translate to SQL. */
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import type { Context } from 'hono';
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { cors } from 'hono/cors';
import type { ConnectionOptions } from '../cluster/connect.ts';
import type { Token } from './access.ts';
import { refuseForeignPages, roleOf } from './access.ts';
import { BackendPool } from './backends.ts';
import { Catalog } from './catalog.ts';
import { engineMetrics } from './engine-metrics.ts';
import { asHttpError, HttpError, ollamaError, openaiError } from './errors.ts';
import { IGNORED_HEADER, NOTICE_HEADER } from './fields.ts';
import { ollamaRoutes } from './ollama.ts';
import { openaiRoutes } from './openai.ts';

/** Bytes of a request: a context of 128k tokens has about half a megabyte. */
const MAX_BODY_BYTES = 8 * 1024 * 1024;

export interface ServerOptions {
  connection: ConnectionOptions;
  host: string;
  /** 0 for any free port */
  port: number;
  backends: number;
  queue: number;
  /** Bearer tokens of which every request must bring one; empty where it need not. */
  tokens: readonly Token[];
  /** Origins of pages that may ask, beside those of this machine; * stands for any characters. */
  origins: readonly string[];
  /** Record what is generated in hartonomous.runs. */
  record: boolean;
  version: string;
}

export interface RunningServer {
  url: string;
  /** Take no more requests, stop the answers that run, and end the connections. */
  close(): Promise<void>;
}

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const pool = new BackendPool(options.connection, { size: options.backends, queue: options.queue });
  const catalog = new Catalog(options.connection);
  const app = new Hono();

  const failed = (error: unknown, c: Context): Response => {
    const shown = asHttpError(error);
    if (shown.fields.retryAfter !== undefined) c.header('Retry-After', String(shown.fields.retryAfter));
    return c.json(c.req.path.startsWith('/api') ? ollamaError(shown) : openaiError(shown), shown.status);
  };
  app.onError(failed);
  app.use(pool.metrics.count);
  const notFound = (c: Context): Response =>
    failed(new HttpError(404, `there is no ${c.req.method} ${c.req.path.slice(0, 100)}`), c);
  app.notFound(notFound);
  app.use(refuseForeignPages(options.host, options.origins));
  app.use(
    cors({ origin: (origin) => origin, exposeHeaders: [IGNORED_HEADER, NOTICE_HEADER, 'Retry-After'], maxAge: 600 }),
  );
  app.use(
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: (c) => failed(new HttpError(413, `request body has more than ${MAX_BODY_BYTES} bytes`), c),
    }),
  );
  app.get('/', (c) => c.text('Hartonomous is running'));
  app.get('/metrics', async (c) => {
    // They tell of everybody's requests.
    if (options.tokens.length > 0) await catalog.requireAdmin(roleOf(c, options.tokens), 'sees what all do');
    const text = (await pool.metrics.text()) + (await engineMetrics(await catalog.engine()));
    return c.body(text, 200, { 'Content-Type': pool.metrics.contentType });
  });
  /** The routes as they act for a role. */
  const routesFor = (role: string | null): Hono => {
    const api = {
      pool: pool.as(role),
      catalog,
      // Without tokens all who ask are one role, and the backends are theirs.
      requireAdmin: async () => (options.tokens.length === 0 ? undefined : catalog.requireAdmin(role)),
      defaults: { num_predict: -1, record: options.record },
    };
    const routes = new Hono().route('/v1', openaiRoutes(api)).route('/api', ollamaRoutes(api, options.version));
    routes.onError(failed);
    routes.notFound(notFound);
    return routes;
  };
  const byRole = new Map(
    [null, ...options.tokens.map(({ role }) => role)].map((role) => [role, routesFor(role)] as const),
  );
  const dispatch = (c: Context): Response | Promise<Response> =>
    byRole.get(roleOf(c, options.tokens))!.fetch(c.req.raw, c.env);
  app.all('/v1/*', dispatch);
  app.all('/api/*', dispatch);

  const server = await new Promise<ReturnType<typeof serve>>((resolve, reject) => {
    const listening = serve({ fetch: app.fetch, hostname: options.host, port: options.port }, () => resolve(listening));
    listening.once('error', reject);
  });
  await pool.warm();
  const { address, port, family } = server.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      // Connections that are cut abort their requests, which cancels what runs for them.
      if ('closeAllConnections' in server) server.closeAllConnections();
      await closed;
      await pool.close();
      await catalog.close();
    },
  };
}
