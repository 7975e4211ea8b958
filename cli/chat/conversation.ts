/** What a chat knows: the model, the messages so far, the system message and the options. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import envPaths from 'env-paths';
import { brief } from '../../plv8/src/format/visible-text.ts';
import type { AnswerRequest, ChatMessage } from '../answer/backend.ts';
import { CommandError } from '../errors.ts';

/** Prompts and answers are private. */
const PRIVATE_FILE = 0o600;
const PRIVATE_FOLDER = 0o700;

/** The user's folder for history and saved conversations. */
export function dataFolder(): string {
  return envPaths('hartonomous', { suffix: '' }).data;
}

export class Conversation {
  messages: ChatMessage[] = [];
  system: string | null = null;
  /** Options of generation, under SQL's names. */
  options: Record<string, unknown> = {};

  constructor(
    public model: string,
    /** Whether the model takes messages; one without a chat template continues each prompt. */
    public hasTemplate: boolean,
  ) {}

  /** The request that answers one more prompt. */
  ask(prompt: string): AnswerRequest {
    if (!this.hasTemplate) return { model: this.model, options: { record: true, ...this.options }, prompt };
    // As long as the model has something to say; Ctrl-C stops it.
    const options = { record: true, num_predict: -1, ...this.options };
    const system = this.system === null ? [] : [{ role: 'system', content: this.system }];
    return {
      model: this.model,
      options,
      prompt: [...system, ...this.messages, { role: 'user', content: prompt }],
    };
  }

  /** Remember a turn; of an answer that was stopped what came of it. */
  add(prompt: string, answer: string): void {
    if (!this.hasTemplate) return;
    this.messages.push({ role: 'user', content: prompt }, { role: 'assistant', content: answer });
  }

  /** Write the conversation to the user's folder under a name. */
  save(name: string): void {
    const { model, messages, system, options } = this;
    mkdirSync(conversationFolder(), { recursive: true, mode: PRIVATE_FOLDER });
    writeFileSync(fileOf(name), `${JSON.stringify({ model, system, options, messages }, null, 2)}\n`, {
      mode: PRIVATE_FILE,
    });
  }
}

export interface SavedConversation {
  model: string;
  system: string | null;
  options: Record<string, unknown>;
  messages: ChatMessage[];
}

function conversationFolder(): string {
  return join(dataFolder(), 'conversations');
}

function fileOf(name: string): string {
  if (!/^[\w.-]{1,100}$/.test(name) || name.startsWith('.')) {
    throw new CommandError(
      `a conversation's name has letters, digits, dots, dashes and underscores, got ${brief(name)}`,
    );
  }
  return join(conversationFolder(), `${name}.json`);
}

/** A conversation saved under this name; null where there is none. */
export function savedConversation(name: string): SavedConversation | null {
  if (!/^[\w.-]{1,100}$/.test(name) || name.startsWith('.')) return null;
  let text: string;
  try {
    text = readFileSync(fileOf(name), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    const saved = JSON.parse(text) as SavedConversation;
    if (typeof saved.model !== 'string' || !Array.isArray(saved.messages)) throw new Error('model or messages missing');
    return saved;
  } catch (cause) {
    throw new CommandError(`${fileOf(name)} is not a saved conversation`, { cause });
  }
}
