/** What `serve` tells Prometheus is what was asked of it, and is told to those who may know. */
import { expect, test } from 'vitest';
import { roleName } from '../db/harness.ts';
import { HELLO, useTinyServer } from './tiny-server.ts';

const tiny = useTinyServer();

/** Samples by their names and labels, as the text has them. */
async function samples(url: string): Promise<Map<string, number>> {
  const response = await fetch(`${url}/metrics`);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.replace(/ [^ ]+$/, ''), Number(line.replace(/^.* /, ''))]));
}

test('requests, answers, tokens and times are counted, whole and streamed', async () => {
  const server = await tiny.start({ backends: 1 });
  try {
    const ask = { model: 'tiny', messages: HELLO };
    const whole = (await (await tiny.post('/v1/chat/completions', ask, {}, server.url)).json()) as {
      usage: { prompt_tokens: number; completion_tokens: number };
    };
    const { prompt_tokens: prompt, completion_tokens: written } = whole.usage;
    await (await tiny.post('/api/chat', { ...ask, options: { num_predict: 2 } }, {}, server.url)).text();
    expect((await tiny.post('/v1/chat/completions', { ...ask, messages: [] }, {}, server.url)).status).toBe(400);
    expect((await fetch(`${server.url}/v1/models/tiny`)).status).toBe(200);
    expect((await fetch(`${server.url}/v1/models/nobody`)).status).toBe(404);
    expect((await fetch(`${server.url}/api/wp-login.php`)).status).toBe(404);
    const found = await samples(server.url);
    const requests = Object.fromEntries([...found].filter(([name]) => name.startsWith('hartonomous_http_requests')));
    expect(requests).toEqual({
      'hartonomous_http_requests_total{endpoint="/v1/chat/completions",code="200"}': 1,
      'hartonomous_http_requests_total{endpoint="/v1/chat/completions",code="400"}': 1,
      'hartonomous_http_requests_total{endpoint="/api/chat",code="200"}': 1,
      'hartonomous_http_requests_total{endpoint="/v1/models/NAME",code="200"}': 1,
      'hartonomous_http_requests_total{endpoint="/v1/models/NAME",code="404"}': 1,
      'hartonomous_http_requests_total{endpoint="other",code="404"}': 1,
    });
    expect(Object.fromEntries(found)).toMatchObject({
      'hartonomous_answers_total{model="tiny",done_reason="stop"}': 1,
      'hartonomous_answers_total{model="tiny",done_reason="length"}': 1,
      'hartonomous_prompt_tokens_total{model="tiny"}': 2 * prompt,
      // The second prompt is the first one's: all but its last token were there.
      'hartonomous_cached_prompt_tokens_total{model="tiny"}': prompt - 1,
      'hartonomous_generated_tokens_total{model="tiny"}': written + 2,
      'hartonomous_first_token_seconds_count{model="tiny"}': 2,
      'hartonomous_next_token_seconds_count{model="tiny"}': 2,
      'hartonomous_answer_seconds_count{model="tiny"}': 2,
      hartonomous_backends: 1,
      hartonomous_running: 0,
      hartonomous_waiting: 0,
    });
    const sum = (name: string): number => found.get(`hartonomous_${name}_seconds_sum{model="tiny"}`)!;
    expect(sum('first_token')).toBeGreaterThan(0);
    expect(sum('answer')).toBeGreaterThanOrEqual(sum('first_token'));
  } finally {
    await server.close();
  }
});

test('where there are tokens they are told to those whose role is an admin', async () => {
  const [user, admin] = [roleName('user'), roleName('admin')];
  for (const role of [user, admin]) await tiny.database.createRole(role, 'hartonomous_user');
  await tiny.database.pool.query(`grant hartonomous_admin to ${admin}`);
  const server = await tiny.start({ tokens: [user, admin].map((role) => ({ role, token: `token of ${role}` })) });
  try {
    const asked = (role: string) =>
      fetch(`${server.url}/metrics`, { headers: { Authorization: `Bearer token of ${role}` } });
    expect((await fetch(`${server.url}/metrics`)).status).toBe(401);
    const refused = await asked(user);
    expect({ status: refused.status, body: await refused.json() }).toMatchObject({
      status: 403,
      body: { error: { message: `role ${user} is not a member of hartonomous_admin, which sees what all do` } },
    });
    expect(await (await asked(admin)).text()).toContain('hartonomous_backends 2');
  } finally {
    await server.close();
  }
});
