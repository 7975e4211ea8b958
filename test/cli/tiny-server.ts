/** `serve` over a database that has the small model, with the clients of both protocols. */
import { join } from 'node:path';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { afterAll, beforeAll } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { RunningServer, ServerOptions } from '../../cli/serve/server.ts';
import { createDatabase, ingestFile } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { startTestServer } from './test-server.ts';

const TINY = join(packageRoot(), 'models/tiny/hartonomous-tiny-q8_0.gguf');
export const HELLO = [{ role: 'user' as const, content: 'hello' }];
export const GREETING = 'Hello! How can I help you?';
/** What the small model was taught a longer answer to, which is streamed in several parts. */
export const QUESTION = 'how are you?';
export const WELL = "I'm doing well, thank you for asking!";

export class TinyServer {
  database!: TestDatabase;
  server!: RunningServer;
  openai!: OpenAI;
  ollama!: Ollama;

  async open(): Promise<void> {
    this.database = await createDatabase();
    await ingestFile(this.database.url, TINY, 'tiny');
    this.server = await this.start({ record: true });
    this.openai = new OpenAI({ baseURL: `${this.server.url}/v1`, apiKey: 'none', maxRetries: 0 });
    this.ollama = new Ollama({ host: this.server.url });
  }

  async close(): Promise<void> {
    await this.server.close();
    await this.database.drop();
  }

  /** Another server over the same database. */
  start(options: Partial<ServerOptions> = {}): Promise<RunningServer> {
    return startTestServer(this.database.url, options);
  }

  post(path: string, body: unknown, headers: Record<string, string> = {}, url = this.server.url): Promise<Response> {
    return fetch(url + path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  }
}

/** One that is there while the tests of a file run. */
export function useTinyServer(): TinyServer {
  const tiny = new TinyServer();
  beforeAll(() => tiny.open());
  afterAll(() => tiny.close());
  return tiny;
}
