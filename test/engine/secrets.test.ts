/** Nothing that an engine computed for one role reaches another, over whatever connections they come. */
import type pg from 'pg';
import { beforeEach, describe, expect, it } from 'vitest';
import type { EngineServer } from './server.ts';
import { STORIES, errorOf, foreign, useEngineServer } from './server.ts';

let server: EngineServer;

useEngineServer((started) => (server = started));
beforeEach(async () => {
  if (!foreign) await server.asAdmin('delete from hartonomous.runs');
});

const OPTIONS = { raw: true, temperature: 0, num_predict: 2 };

let prompts = 0;

/** A prompt that nobody has asked before. */
function freshPrompt(): string {
  return `${prompts++} Once upon a time there was a little girl who had a red ball and a blue hat and`;
}

interface Facts {
  prompt_tokens: number;
  prompt_eval_count: number;
}

/** Tokens of a prompt that a cache had, of all of it but the last one, which is always computed. */
async function reused(client: pg.Client, prompt: string, options: object = {}): Promise<'all' | number> {
  const { rows } = await client.query<{ facts: Facts }>('select hartonomous.complete($1, $2, $3::json) as facts', [
    prompt,
    STORIES,
    JSON.stringify({ ...OPTIONS, ...options }),
  ]);
  return share(rows[0]!.facts);
}

function share({ prompt_tokens: all, prompt_eval_count: computed }: Facts): 'all' | number {
  return computed === 1 ? 'all' : all - computed;
}

/** The same of a session. */
async function reusedBySession(client: pg.Client, prompt: string): Promise<'all' | number> {
  const opened = await client.query<{ id: string }>('select hartonomous.open_session($1::json, $2, $3::json) as id', [
    JSON.stringify(prompt),
    STORIES,
    JSON.stringify(OPTIONS),
  ]);
  await client.query('select * from hartonomous.next_tokens($1, 2)', [opened.rows[0]!.id]);
  const { rows } = await client.query<{ facts: Facts }>('select hartonomous.close_session($1) as facts', [
    opened.rows[0]!.id,
  ]);
  return share(rows[0]!.facts);
}

/** First tokens of prompts begin alike: what a cache of one's own has of a prompt that is none of one's own. */
const LITTLE = 3;

describe.skipIf(foreign)('what an engine holds of one role', () => {
  it('serves its own calls over all connections, and nobody else, be it asked by a call or a session', async () => {
    const [anna, again, ben] = [await server.open('anna'), await server.open('anna'), await server.open('ben')];
    const superuser = await server.open();
    for (const first of [reused, reusedBySession]) {
      for (const second of [reused, reusedBySession]) {
        const prompt = freshPrompt();
        expect(await first(anna, prompt)).toBeLessThanOrEqual(LITTLE);
        expect(await second(ben, prompt)).toBeLessThanOrEqual(LITTLE);
        expect(await second(superuser, prompt)).toBeLessThanOrEqual(LITTLE);
        expect(await second(again, prompt)).toBe('all');
        expect(await second(ben, prompt)).toBe('all');
      }
    }
    expect(await server.asAdmin('select answers >= 20 as computed from hartonomous.engine_list')).toEqual([
      { computed: true },
    ]);
  });

  it('follows SET ROLE, not the login, and a function of another role its caller', async () => {
    const [superuser, anna] = [await server.open(), await server.open('anna')];
    const prompt = freshPrompt();
    expect(await reused(anna, prompt)).toBeLessThanOrEqual(LITTLE);
    await superuser.query('set role ben');
    expect(await reused(superuser, prompt)).toBeLessThanOrEqual(LITTLE);
    await superuser.query('set role anna');
    expect(await reused(superuser, prompt)).toBe('all');
    await superuser.query('reset role');
    const other = freshPrompt();
    expect(await reused(anna, other)).toBeLessThanOrEqual(LITTLE);
    expect(await reused(superuser, other)).toBeLessThanOrEqual(LITTLE);
    // Of the owner's rights a function has nothing that its owner computed, as without an engine.
    await superuser.query(
      `create function ask(prompt text) returns json language sql security definer as $$
         select hartonomous.complete(prompt, '${STORIES}', '${JSON.stringify(OPTIONS)}') $$;
       grant hartonomous_user to anna; alter function ask(text) owner to anna`,
    );
    const third = freshPrompt();
    expect(await reused(anna, third)).toBeLessThanOrEqual(LITTLE);
    const ben = await server.open('ben');
    const { rows } = await ben.query<{ facts: Facts }>('select ask($1) as facts', [third]);
    expect(share(rows[0]!.facts)).toBeLessThanOrEqual(LITTLE);
    await superuser.query('drop function ask(text)');
  });

  it('is not that of another role which has its name', async () => {
    const create = `create role carl login password 'secret'; grant hartonomous_user to carl`;
    await server.asAdmin(create);
    const prompt = freshPrompt();
    const first = await server.open('carl');
    expect(await reused(first, prompt)).toBeLessThanOrEqual(LITTLE);
    expect(await reused(first, prompt)).toBe('all');
    await first.end();
    await server.asAdmin('drop role carl');
    await server.asAdmin(create);
    const second = await server.open('carl');
    expect(await reused(second, prompt)).toBeLessThanOrEqual(LITTLE);
    await second.end();
    // Nor is it lost to a role that is renamed.
    await server.asAdmin(`alter role carl rename to dora; alter role dora password 'secret'`);
    expect(await reused(await server.open('dora'), prompt)).toBe('all');
    await server.endSessions();
    await server.asAdmin('drop role dora');
  });

  it('stays where others cancel, fail, and fill the caches', async () => {
    const [anna, ben] = [await server.open('anna'), await server.open('ben')];
    const prompt = freshPrompt();
    expect(await reused(anna, prompt)).toBeLessThanOrEqual(LITTLE);
    await ben.query(`set statement_timeout = '100ms'`);
    const { prompt: once, model, options } = server.endless;
    expect(
      await errorOf(
        ben.query('select hartonomous.generate($1, $2, $3::json)', [
          once,
          model,
          JSON.stringify({ ...options, cache: true }),
        ]),
      ),
    ).toMatchObject({ code: '57014' });
    await ben.query('reset statement_timeout');
    for (let i = 0; i < 8; i++) await reused(ben, freshPrompt());
    expect(await reused(ben, prompt)).toBeLessThanOrEqual(LITTLE);
    expect(await reused(anna, prompt)).toBe('all');
  });

  it('are no sessions of others: their ids are nothing to other connections', async () => {
    const [anna, again, ben] = [await server.open('anna'), await server.open('anna'), await server.open('ben')];
    const { rows } = await anna.query<{ id: string }>(
      `select hartonomous.open_session('"Once"'::json, '${STORIES}', '{"num_predict": 9}') as id`,
    );
    await anna.query('select * from hartonomous.next_tokens($1, 1)', [rows[0]!.id]);
    for (const client of [again, ben])
      for (const call of ['* from hartonomous.next_tokens($1, 1)', 'hartonomous.close_session($1)'])
        expect(await errorOf(client.query(`select ${call}`, [rows[0]!.id]))).toMatchObject({ code: '42704' });
    expect((await anna.query('select * from hartonomous.next_tokens($1, 1)', [rows[0]!.id])).rowCount).toBe(1);
  });

  it('cuts a conversation of another who quotes its answer as any text, on the same connection, too', async () => {
    /** Ids of the prompt of a conversation that has this answer in it, for a role of this session. */
    const promptOf = async (client: pg.Client, role: string, answer: string): Promise<unknown> => {
      await client.query(`set role ${role}`);
      const messages = [
        { role: 'user', content: 'Hello' },
        { role: 'assistant', content: answer },
        { role: 'user', content: 'And then?' },
      ];
      const { rows } = await client.query<{ id: string }>(
        `select hartonomous.chat($1::text, '${STORIES}', '{"num_predict": 1, "record": true}') ->> 'run_id' as id`,
        [JSON.stringify(messages)],
      );
      await client.query('reset role');
      return (await client.query('select prompt_ids from hartonomous.runs where id = $1', [rows[0]!.id])).rows[0];
    };
    await server.asAdmin(
      `update hartonomous.models set chat_template = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}' where name = '${STORIES}'`,
    );
    const seen: unknown[] = [];
    for (const engine of ['off', 'on']) {
      await server.set(`engine = ${engine}`);
      const client = await server.open();
      await client.query('set role anna');
      // So hot that the answer is other tokens than its text is cut into.
      const { rows } = await client.query<{ answer: string }>(
        `select hartonomous.chat('[{"role": "user", "content": "Hello"}]', '${STORIES}', '{"temperature": 3, "top_k": 0, "top_p": 1, "seed": 7, "num_predict": 24}') -> 'message' ->> 'content' as answer`,
      );
      const { answer } = rows[0]!;
      const [own, others] = [await promptOf(client, 'anna', answer), await promptOf(client, 'ben', answer)];
      expect(own).not.toEqual(others);
      seen.push([answer, own, others]);
    }
    expect(seen[1]).toEqual(seen[0]);
  });
});
