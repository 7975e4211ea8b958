/** Models that an engine lets go of while nobody asks it: those that were stopped or removed, and those that a caller unloads. */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { startTestServer } from '../cli/test-server.ts';
import type { EngineServer } from './server.ts';
import { QWEN, STORIES, TINY, errorOf, foreign, generate, loaded, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer((started) => (server = started));

const OPTIONS = { num_predict: 4, seed: 7 };

/** Models that the engine holds. */
async function held(): Promise<string[]> {
  const rows = await server.asAdmin<{ model: string }>(
    `select e.model from hartonomous.loaded_everywhere e join hartonomous.engine_list l on l.pid = e.pid order by 1`,
  );
  return rows.map(({ model }) => model);
}

const untilHeld = (models: readonly string[]): Promise<void> =>
  server.until(
    `the engine holds ${models.join()}`,
    `array(select e.model from hartonomous.loaded_everywhere e join pg_stat_activity a on a.pid = e.pid
       where a.backend_type = 'hartonomous engine' order by 1)::text[] = '{${models.join()}}'`,
    'hartonomous',
  );

async function unload(client: pg.Client, model: string | null): Promise<unknown> {
  const { rows } = await client.query<{ freed: string }>('select hartonomous.unload($1)::int as freed', [model]);
  return rows[0]!.freed;
}

describe.skipIf(foreign)('an engine that nobody asks', () => {
  it('lets go of a model that was stopped, and of one that was removed', async () => {
    const client = await server.open('anna');
    for (const model of [QWEN, STORIES]) await generate(client, 'Once', model, OPTIONS);
    await untilHeld([QWEN, STORIES]);
    await server.asAdmin(`select hartonomous.stop_model('${QWEN}')`);
    await untilHeld([STORIES]);
    await server.asAdmin(
      `update hartonomous.models set source_digest = decode(repeat('00', 32), 'hex') where name = '${STORIES}'`,
    );
    await untilHeld([]);
    expect(await generate(client, 'Once', STORIES, OPTIONS)).not.toBe('');
    await untilHeld([STORIES]);
  });

  it('lets go of a stopped model while it computes with another', async () => {
    const [busy, other] = [await server.open('anna'), await server.open('anna')];
    const { prompt, model, options } = server.endless;
    const endless = errorOf(generate(busy, prompt, model, options));
    await generate(other, 'Once', STORIES, OPTIONS);
    await untilHeld([STORIES, TINY]);
    await server.asAdmin(`select hartonomous.stop_model('${STORIES}'), hartonomous.stop_model('${TINY}')`);
    await untilHeld([TINY]);
    await server.cancel('anna');
    expect(await endless).toMatchObject({ code: '57014' });
    await untilHeld([]);
  });

  it('ends where functions of another build were installed', async () => {
    const client = await server.open('anna');
    await generate(client, 'Once', STORIES, OPTIONS);
    const id = await server.build();
    await server.rebuild(id, '0123456789abcdef');
    await server.untilEngines(0);
    await server.rebuild('0123456789abcdef', id);
  });
});

describe.skipIf(foreign)('unload', () => {
  it('frees a model of the engine that nobody else has used, and starts none for it', async () => {
    await server.startAnew();
    const client = await server.open('anna');
    expect(await unload(client, STORIES)).toBe(0);
    expect(await server.engines()).toEqual([]);
    for (const model of [QWEN, STORIES]) await generate(client, 'Once', model, OPTIONS);
    expect(await unload(client, STORIES)).toBe(1);
    expect(await held()).toEqual([QWEN]);
    expect(await unload(client, null)).toBe(1);
    expect(await held()).toEqual([]);
  });

  it('leaves others what they have used, with caches or without, unless an admin wants all to go', async () => {
    const [anna, ben] = [await server.open('anna'), await server.open('ben')];
    await generate(anna, 'Once', STORIES, OPTIONS);
    await generate(ben, 'Once', STORIES, { ...OPTIONS, cache: false });
    expect(await unload(anna, STORIES)).toBe(0);
    expect(await held()).toEqual([STORIES]);
    expect(await unload(ben, STORIES)).toBe(1);
    for (const client of [anna, ben]) await generate(client, 'Once', STORIES, OPTIONS);
    await server.asAdmin(`create role chief login password 'secret'; grant hartonomous_admin to chief`);
    expect(await unload(await server.open('chief'), STORIES)).toBe(1);
    expect(await held()).toEqual([]);
  });

  it('leaves a model that is computed with', async () => {
    const { prompt, model, options } = server.endless;
    const [busy, client] = [await server.open('anna'), await server.open('anna')];
    const endless = errorOf(generate(busy, prompt, model, options));
    await server.untilWriting(1);
    expect(await unload(client, null)).toBe(0);
    expect(await held()).toEqual([TINY]);
    await server.cancel('anna');
    expect(await endless).toMatchObject({ code: '57014' });
  });

  it('frees what it can where the engine takes no more requests', async () => {
    await server.set('engine_requests = 1');
    const { prompt, model, options } = server.endless;
    const [busy, client] = [await server.open('anna'), await server.open('ben')];
    await client.query('select hartonomous.logits($1, $2)', [[1], STORIES]);
    expect(await loaded(client)).toEqual([{ model: STORIES }]);
    const endless = errorOf(generate(busy, prompt, model, options));
    await server.untilWriting(1);
    expect(await unload(client, STORIES)).toBe(1);
    expect(await loaded(client)).toEqual([]);
    await server.cancel('anna');
    expect(await endless).toMatchObject({ code: '57014' });
  });

  it('is done by serve as who asks for it, whatever role its backend acted as last', async () => {
    await server.asAdmin(`create role boss; grant hartonomous_admin to boss; create role nobody_else`);
    const clients = [await server.open('anna'), await server.open('ben')];
    const tokens = ['boss', 'anna', 'nobody_else'].map((role) => ({ role, token: role }));
    const serving = await startTestServer(server.url, { backends: 1, tokens });
    const ask = async (role: string, body: object): Promise<number> => {
      const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${role}` };
      const init = { method: 'POST', headers, body: JSON.stringify({ model: STORIES, stream: false, ...body }) };
      return (await fetch(`${serving.url}/api/generate`, init)).status;
    };
    try {
      for (const [role, status] of [
        ['anna', 200],
        ['nobody_else', 403],
      ] as const) {
        for (const client of clients) await generate(client, 'Once', STORIES, OPTIONS);
        await ask('anna', { prompt: 'Once', options: OPTIONS });
        expect(await ask(role, { prompt: 'Once', options: OPTIONS })).toBe(status);
        expect(await ask('boss', { prompt: '', keep_alive: 0 })).toBe(200);
        expect(await server.asAdmin(`select from hartonomous.loaded_everywhere where model = '${STORIES}'`)).toEqual(
          [],
        );
      }
    } finally {
      await serving.close();
    }
  });
});
