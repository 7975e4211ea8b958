/** Many clients of `serve` at once, some of which leave in the middle, while backends are killed under it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Ollama } from 'ollama';
import OpenAI from 'openai';

export interface Question {
  text: string;
  /** The one right answer. */
  answer: string;
}

export interface LoadOptions {
  url: string;
  model: string;
  questions: readonly Question[];
  clients: number;
  seconds: number;
  /** most tokens of an answer */
  tokens: number;
  /** End one backend that computes; whether there was one. */
  kill?: () => Promise<boolean>;
  /** seconds between two kills */
  killEvery?: number;
}

export interface LoadResult {
  answered: number;
  /** requests that their client gave up in the middle */
  left: number;
  /** the documented 503 */
  busy: number;
  killed: number;
  /** requests that a killed backend took with it, by their message */
  lost: string[];
  /** whatever else happened; there should be none */
  unexpected: string[];
  /** milliseconds to the first token of streams */
  firstToken: number[];
  /** milliseconds to the end of answers */
  whole: number[];
}

/** Messages of a request whose backend was ended, of OpenAI's client and Ollama's, whole and streamed. */
const LOST = /terminating connection due to administrator command|the connection to the database broke/;
const BUSY = /backends are busy/;

/** Every how many requests a client leaves in the middle. */
const LEAVE_EVERY = 7;

export async function loadServer(options: LoadOptions): Promise<LoadResult> {
  const { url, questions, clients, seconds } = options;
  const result: LoadResult = {
    answered: 0,
    left: 0,
    busy: 0,
    killed: 0,
    lost: [],
    unexpected: [],
    firstToken: [],
    whole: [],
  };
  const until = performance.now() + seconds * 1000;
  const client = async (number: number): Promise<void> => {
    const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
    const ollama = new Ollama({ host: url });
    for (let round = number; performance.now() < until; round++) {
      const question = questions[round % questions.length]!;
      try {
        if (round % LEAVE_EVERY === 0) await leave(openai, options, question);
        else await ask(round % 4, openai, ollama, options, question, result);
        if (round % LEAVE_EVERY === 0) result.left++;
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        if (BUSY.test(message)) {
          result.busy++;
          await sleep(200);
        } else if (LOST.test(message)) result.lost.push(message);
        else result.unexpected.push(message);
      }
    }
  };
  const killing = async (): Promise<void> => {
    const { kill, killEvery = 0 } = options;
    if (kill === undefined) return;
    while (performance.now() + killEvery * 1000 < until) {
      await sleep(killEvery * 1000);
      if (await kill()) result.killed++;
    }
  };
  await Promise.all([killing(), ...Array.from({ length: clients }, (_, number) => client(number))]);
  return result;
}

/** One answer by one of four ways. */
async function ask(
  way: number,
  openai: OpenAI,
  ollama: Ollama,
  { model, tokens }: LoadOptions,
  question: Question,
  result: LoadResult,
): Promise<void> {
  const started = performance.now();
  const messages = [{ role: 'user' as const, content: question.text }];
  const greedy = { temperature: 0, repeat_penalty: 1 };
  const openaiRequest = { model, messages, ...greedy, max_tokens: tokens };
  const ollamaRequest = { model, messages, options: { ...greedy, num_predict: tokens } };
  let text = '';
  const took = (piece: string): void => {
    if (text === '' && piece !== '') result.firstToken.push(performance.now() - started);
    text += piece;
  };
  if (way === 0) text = (await openai.chat.completions.create(openaiRequest)).choices[0]?.message.content ?? '';
  else if (way === 1) text = (await ollama.chat(ollamaRequest)).message.content;
  else if (way === 2) {
    for await (const chunk of await openai.chat.completions.create({ ...openaiRequest, stream: true }))
      took(chunk.choices[0]?.delta.content ?? '');
  } else {
    for await (const part of await ollama.chat({ ...ollamaRequest, stream: true })) took(part.message.content);
  }
  result.whole.push(performance.now() - started);
  if (text !== question.answer) throw new Error(`answer ${JSON.stringify(text)} to ${JSON.stringify(question.text)}`);
  result.answered++;
}

/** Ask, and leave after the first piece. */
async function leave(openai: OpenAI, { model, tokens }: LoadOptions, question: Question): Promise<void> {
  const stream = await openai.chat.completions.create({
    model,
    messages: [{ role: 'user', content: question.text }],
    max_tokens: tokens,
    stream: true,
  });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
}
