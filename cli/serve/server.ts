/** The HTTP server: who may ask, how much, and in which shape errors go back. The routes translate to SQL. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import type { Context, Next } from 'hono';
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { ConnectionOptions } from '../cluster/connect.ts';
import { BackendPool } from './backends.ts';
import { Catalog } from './catalog.ts';
import { asHttpError, HttpError, ollamaError, openaiError } from './errors.ts';
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
  /** Bearer token that every request must bring; null for none. */
  token: string | null;
  /** Record what is generated in hartonomous.runs. */
  record: boolean;
  version: string;
}

export interface RunningServer {
  url: string;
  /** Take no more requests, stop the answers that run, and end the connections. */
  close(): Promise<void>;
}

function sameToken(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

function requireToken(expected: string) {
  return async (c: Context, next: Next): Promise<void> => {
    const given = /^Bearer (.+)$/i.exec(c.req.header('Authorization') ?? '')?.[1];
    if (given === undefined || !sameToken(given, expected)) {
      c.header('WWW-Authenticate', 'Bearer');
      throw new HttpError(401, given === undefined ? 'a bearer token is required' : 'the bearer token is wrong', {
        code: 'invalid_api_key',
      });
    }
    await next();
  };
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host.includes(':') && !host.startsWith('[') ? `[${host}]` : host);
}

/**
 * A page of the web in this machine's browser may send requests here too. One that tells where it comes from is
 * refused, and on a loopback address also one that calls it by another name (a name that was pointed here).
 */
function refuseForeignPages(host: string) {
  return async (c: Context, next: Next): Promise<void> => {
    const origin = c.req.header('Origin');
    if (origin !== undefined && !LOOPBACK.test(origin.replace(/^https?:\/\//, ''))) {
      throw new HttpError(403, 'requests from pages of other origins are refused');
    }
    if (isLoopback(host) && !LOOPBACK.test(c.req.header('Host') ?? 'localhost')) {
      throw new HttpError(403, 'this address is called localhost, the request names another host');
    }
    await next();
  };
}

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const pool = new BackendPool(options.connection, { size: options.backends, queue: options.queue });
  const catalog = new Catalog(options.connection);
  const api = { pool, catalog, defaults: { num_predict: -1, record: options.record } };
  const app = new Hono();

  const failed = (error: unknown, c: Context): Response => {
    const shown = asHttpError(error);
    if (shown.fields.retryAfter !== undefined) c.header('Retry-After', String(shown.fields.retryAfter));
    return c.json(c.req.path.startsWith('/api') ? ollamaError(shown) : openaiError(shown), shown.status);
  };
  app.onError(failed);
  app.notFound((c) => failed(new HttpError(404, `there is no ${c.req.method} ${c.req.path.slice(0, 100)}`), c));
  app.use(refuseForeignPages(options.host));
  app.use(
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: (c) => failed(new HttpError(413, `request body has more than ${MAX_BODY_BYTES} bytes`), c),
    }),
  );
  app.get('/', (c) => c.text('Hartonomous is running'));
  if (options.token !== null) {
    app.use('/v1/*', requireToken(options.token));
    app.use('/api/*', requireToken(options.token));
  }
  app.route('/v1', openaiRoutes(api));
  app.route('/api', ollamaRoutes(api, options.version));

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
