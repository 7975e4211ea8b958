/** Models and prompts of the stress test, and what is answered to them alone. */
import { join } from 'node:path';
import type pg from 'pg';
import { ingest } from '../../cli/ingest/ingest.ts';
import { packageRoot } from '../../cli/package-root.ts';
import { modelPath } from '../golden/model-files.ts';
import { connected } from './sessions.ts';

/** Models that stay, and those that come and go; all of them small. */
export const STAYING = 'staying';
export const PASSING = ['passing-a', 'passing-b', 'passing-c'];
/** A name whose model is now this file's, now that one's; answers are those of either. */
export const CHANGING = 'changing';
export const CHANGING_FILES = ['zoo/qwen2-tiny-f32.gguf', 'zoo/llama-untied-gqa-f32.gguf'].map(modelPath);
export const FILES: Record<string, string> = {
  [STAYING]: join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf'),
  'passing-a': modelPath('zoo/qwen2-tiny-f32.gguf'),
  'passing-b': modelPath('zoo/llama-untied-gqa-f32.gguf'),
  'passing-c': modelPath('zoo/qwen3-tiny-f32.gguf'),
};
export const PROMPTS = [
  'Hello, how are you?',
  'Who are you?',
  'What is two plus three?',
  'Good evening!',
  'Tell me a story.',
];
export const OPTIONS = { temperature: 0.7, seed: 5, num_predict: 12 };
/** An answer of the model's in it, as a conversation that goes on has it. */
export const CONVERSATION = (prompt: string, answer: string): string =>
  JSON.stringify([
    { role: 'user', content: prompt },
    { role: 'assistant', content: answer },
    { role: 'user', content: 'And then?' },
  ]);
/** Statements over a prompt, model and options that give an answer's text. */
export const GENERATE = 'select hartonomous.generate($1, $2, $3) as text';
export const STREAM = `select coalesce(string_agg(token, '' order by step), '') as text from hartonomous.generate_stream($1, $2, $3)`;
export const CHAT = `select hartonomous.chat($1::text, $2, $3) -> 'message' ->> 'content' as text`;

export const key = (model: string, prompt: string): string => `${model}\0${prompt}`;

/** Functions besides generate whose result has to be the one given alone: statements over a prompt, model and options. */
export const QUESTIONS: Record<string, string> = {
  embed: `select hartonomous.embed($1, $2, '{"pooling": "mean"}')::text as text where $3::jsonb is not null`,
  classify: `select string_agg(label || ' ' || probability, ', ') as text from hartonomous.classify($1, array['a greeting', 'a question', 'a story'], $2, $3)`,
  generate_json: `select hartonomous.generate_json($1, '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "count": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["name", "count"], "additionalProperties": false}', $2, ($3::jsonb || '{"num_predict": 40}')::json)::text as text`,
  explain: `select hartonomous.explain((hartonomous.complete($1, $2, ($3::jsonb || '{"record": true}')::json) ->> 'run_id')::bigint, 0) ->> 'summary' as text`,
};

export async function answerTo(client: pg.Client, sql: string, ...args: [string, string, object]): Promise<string> {
  const { rows } = await client.query<{ text: string | null }>(sql, args);
  if (typeof rows[0]?.text !== 'string') throw new Error(`no answer to ${sql}`);
  return rows[0].text;
}

/** Answers given alone, of every model to every prompt, and of one model to every question. */
export async function answersAlone(url: string): Promise<Map<string, string>> {
  const client = await connected(url);
  const answers = new Map<string, string>();
  try {
    for (const [name, file] of Object.entries(FILES)) {
      await ingest(client, file, { name, replace: true });
      for (const prompt of PROMPTS) {
        answers.set(key(name, prompt), await answerTo(client, GENERATE, prompt, name, { ...OPTIONS, cache: false }));
      }
    }
    for (const [i, file] of CHANGING_FILES.entries()) {
      await ingest(client, file, { name: CHANGING, replace: true });
      for (const prompt of PROMPTS)
        answers.set(key(`${CHANGING} ${i}`, prompt), await answerTo(client, GENERATE, prompt, CHANGING, OPTIONS));
    }
    for (const prompt of PROMPTS) {
      const conversation = CONVERSATION(prompt, answers.get(key(STAYING, prompt))!);
      answers.set(key('chat', prompt), await answerTo(client, CHAT, conversation, STAYING, OPTIONS));
    }
    for (const [question, sql] of Object.entries(QUESTIONS)) {
      for (const prompt of PROMPTS) {
        const { rows } = await client.query<{ text: string }>(sql, [prompt, STAYING, OPTIONS]);
        answers.set(key(question, prompt), rows[0]!.text);
      }
    }
  } finally {
    await client.end();
  }
  return answers;
}
