/** Who may ask `serve`: tokens and their roles, addresses, origins. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { roleName } from '../db/harness.ts';
import { hartonomous } from './program.ts';
import { HELLO, useTinyServer } from './tiny-server.ts';

const tiny = useTinyServer();

describe('who may ask', () => {
  test('with a token only those who bring it', async () => {
    const guarded = await tiny.start({ tokens: [{ token: 'secret', role: null }] });
    try {
      const ask = (apiKey: string) => new OpenAI({ baseURL: `${guarded.url}/v1`, apiKey, maxRetries: 0 }).models.list();
      await expect(ask('wrong')).rejects.toMatchObject({ status: 401, type: 'authentication_error' });
      expect((await ask('secret')).data).toHaveLength(1);
      expect((await fetch(`${guarded.url}/api/tags`)).status).toBe(401);
      expect((await fetch(`${guarded.url}/api/tags`, { headers: { Authorization: 'Bearer secret' } })).status).toBe(
        200,
      );
      expect((await fetch(`${guarded.url}/`)).status).toBe(200);
    } finally {
      await guarded.close();
    }
  });

  test('each token acts as its role: neither caches nor runs are shared, and rights are the role’s', async () => {
    const [anna, ben, outsider] = [roleName('anna'), roleName('ben'), roleName('outsider')];
    for (const role of [anna, ben]) await tiny.database.createRole(role, 'hartonomous_user');
    await tiny.database.createRole(outsider);
    const tokens = [anna, ben, outsider].map((role) => ({ role, token: `token of ${role}` }));
    const shared = await tiny.start({ tokens, backends: 1, record: true });
    try {
      const ask = async (role: string): Promise<{ status: number; evaluated: number }> => {
        const body = {
          model: 'tiny',
          prompt: 'a secret of mine',
          raw: true,
          stream: false,
          options: { num_predict: 1 },
        };
        const headers = { Authorization: `Bearer token of ${role}` };
        const response = await tiny.post('/api/generate', body, headers, shared.url);
        const { prompt_eval_count: evaluated } = (await response.json()) as { prompt_eval_count: number };
        return { status: response.status, evaluated };
      };
      const whole = await ask(anna);
      expect(whole.status).toBe(200);
      expect(whole.evaluated).toBeGreaterThan(2);
      expect(await ask(ben)).toEqual(whole);
      expect((await ask(anna)).status).toBe(200);
      expect((await ask(outsider)).status).toBe(403);
      const { rows } = await tiny.database.pool.query(
        'select caller, array_agg(prompt_eval_count order by id) as computed from hartonomous.runs where caller = any ($1) group by 1 order by 1',
        [[anna, ben]],
      );
      // Another role's prompt cannot be confirmed by what a guess at it costs.
      expect(rows).toEqual([
        { caller: anna, computed: [whole.evaluated, 1] },
        { caller: ben, computed: [whole.evaluated] },
      ]);
    } finally {
      await shared.close();
    }
  });

  test('models are freed for all only by a token whose role is an admin, and no endpoint changes which there are', async () => {
    const [user, admin] = [roleName('user'), roleName('admin')];
    await tiny.database.createRole(user, 'hartonomous_user');
    await tiny.database.createRole(admin, 'hartonomous_user');
    await tiny.database.pool.query(`grant hartonomous_admin to ${admin}`);
    const tokens = [user, admin].map((role) => ({ role, token: `token of ${role}` }));
    const { rows } = await tiny.database.pool.query<{ pid: number }>('select pid from hartonomous.loaded_everywhere');
    const others = rows.map(({ pid }) => pid);
    const shared = await tiny.start({ tokens });
    try {
      const ask = (role: string, path: string, body: object): Promise<Response> =>
        tiny.post(path, body, { Authorization: `Bearer token of ${role}` }, shared.url);
      for (const [path, body] of [
        ['/api/generate', { model: 'tiny', prompt: '', keep_alive: 0 }],
        ['/api/chat', { model: 'tiny', messages: [], keep_alive: '0s' }],
      ] as const) {
        const refused = await ask(user, path, body);
        expect(refused.status).toBe(403);
        expect(await refused.json()).toEqual({
          error: `role ${user} is not a member of hartonomous_admin, which frees models for all`,
        });
        // With a prompt it is ignored, as for everybody.
        expect((await ask(user, '/api/generate', { model: 'tiny', prompt: 'hi', keep_alive: 0 })).status).toBe(200);
      }
      // Those of this server; the other one of these tests has backends of its own.
      const held = async (): Promise<number> =>
        Number(
          (
            await tiny.database.pool.query<{ n: string }>(
              `select count(*) as n from hartonomous.loaded_everywhere where not pid = any ($1)`,
              [others],
            )
          ).rows[0]!.n,
        );
      expect(await held()).toBe(2);
      expect((await ask(admin, '/api/generate', { model: 'tiny', prompt: '', keep_alive: 0 })).status).toBe(200);
      // A backend that answers is freed when it has.
      await expect.poll(held).toBe(0);
      for (const role of [user, admin])
        for (const path of ['/api/pull', '/api/delete', '/api/copy', '/api/create', '/api/push'])
          expect((await ask(role, path, { model: 'tiny' })).status, path).toBe(404);
      expect((await tiny.database.pool.query('select name from hartonomous.model_list')).rows).toHaveLength(1);
    } finally {
      await shared.close();
    }
  });

  test('another address than loopback needs a token, unless it is asked for by name', async () => {
    const refused = await hartonomous(['serve', '--host', '0.0.0.0', '--port', '0'], { url: tiny.database.url });
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('without a token anybody who reaches 0.0.0.0 might ask');
    expect(refused.stderr).toContain('--without-token');
  });

  test('a token of a role that is not there, or a file that has none, is refused at the start', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hartonomous-tokens-'));
    try {
      const file = join(folder, 'tokens');
      const serve = () => hartonomous(['serve', '--port', '0', '--tokens', file], { url: tiny.database.url });
      for (const [text, message] of [
        ['nobody_at_all secret\n', 'role nobody_at_all of a token does not exist'],
        ['one\n', `line 1 of ${file} is not a role and its token`],
        ['a secret\nb secret\n', `${file} gives a token to two roles`],
        ['# none\n', `${file} has no tokens`],
      ] as const) {
        writeFileSync(file, text);
        const { code, stderr } = await serve();
        expect(code).toBeGreaterThan(0);
        expect(stderr).toContain(message);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('origins that are allowed are answered as CORS asks, to preflights and errors too', async () => {
    const open = await tiny.start({ origins: ['https://*.example.com'], tokens: [{ token: 'secret', role: null }] });
    try {
      const preflight = (origin: string): Promise<Response> =>
        fetch(`${open.url}/v1/chat/completions`, {
          method: 'OPTIONS',
          headers: {
            Origin: origin,
            'Access-Control-Request-Method': 'POST',
            'Access-Control-Request-Headers': 'authorization,content-type',
          },
        });
      for (const origin of ['https://app.example.com', 'http://localhost:3000']) {
        const response = await preflight(origin);
        expect(response.status).toBe(204);
        expect(response.headers.get('access-control-allow-origin')).toBe(origin);
        expect(response.headers.get('access-control-allow-headers')).toBe('authorization,content-type');
        expect(response.headers.get('access-control-allow-methods')).toContain('POST');
      }
      for (const origin of ['https://example.org', 'https://app.example.com.evil.org']) {
        const response = await preflight(origin);
        expect(response.status).toBe(403);
        expect(response.headers.get('access-control-allow-origin')).toBeNull();
      }
      const models = (headers: Record<string, string>): Promise<Response> =>
        fetch(`${open.url}/v1/models`, { headers: { Origin: 'https://app.example.com', ...headers } });
      for (const [headers, status] of [
        [{ Authorization: 'Bearer secret' }, 200],
        [{}, 401],
      ] as const) {
        const response = await models(headers);
        expect(response.status).toBe(status);
        expect(response.headers.get('access-control-allow-origin')).toBe('https://app.example.com');
      }
    } finally {
      await open.close();
    }
  });

  test('pages of other origins and under other names may not', async () => {
    const body = { model: 'tiny', messages: HELLO, max_tokens: 1 };
    expect((await tiny.post('/v1/chat/completions', body, { Origin: 'https://example.com' })).status).toBe(403);
    expect((await tiny.post('/v1/chat/completions', body, { Origin: 'http://localhost:3000' })).status).toBe(200);
    const renamed = http.get(`${tiny.server.url}/api/tags`, { headers: { Host: 'rebound.example' } });
    const [response] = (await once(renamed, 'response')) as [http.IncomingMessage];
    response.resume();
    expect(response.statusCode).toBe(403);
  });
});
