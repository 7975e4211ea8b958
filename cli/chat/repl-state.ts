/** What a conversation at a terminal holds while it lasts. */
import type { AnswerFacts, Backend } from '../answer/backend.ts';
import type { Conversation } from './conversation.ts';
import type { Terminal } from './terminal.ts';

export interface ReplSettings {
  verbose: boolean;
  wordWrap: boolean;
  /** print each answer as one JSON object */
  json: boolean;
}

export interface Repl {
  readonly backend: Backend;
  readonly terminal: Terminal;
  readonly conversation: Conversation;
  readonly settings: ReplSettings;
  /** Facts of the latest answer. */
  last: AnswerFacts | null;
}
