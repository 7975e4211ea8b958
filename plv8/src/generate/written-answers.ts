/**
 * Answers that this backend wrote for a caller, with their ids: a turn that comes back in a conversation is then what the
 * model wrote and not what its text would be cut into. Bounded in number; the oldest go first.
 */
import { callerRole } from '../backend/caller.ts';
import { keptTexts } from '../db.ts';
import { decodeUtf8 } from '../format/utf8.ts';
import type { Text } from '../tokenizer/jinja/text.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Answers remembered in one backend. */
const MAX_ANSWERS = 256;

/** Tokens of an answer that is remembered. */
const MAX_TOKENS = 8192;

const answers = new Map<string, readonly number[]>();

let hasTakenKept = false;

/** Answers that an engine wrote for this backend before it had JavaScript, as texts in JSON. */
function takeKept(): void {
  if (hasTakenKept) return;
  hasTakenKept = true;
  for (const text of keptTexts()) rememberWhole(JSON.parse(text) as Written);
}

function keyOf(caller: string, digest: string, text: string): string {
  return `${JSON.stringify([caller, digest])}${text}`;
}

export interface Written {
  caller: string;
  digest: string;
  text: string;
  ids: readonly number[];
}

/** Remember an answer; one whose text is not the text of its tokens (cut off by a stop string) is not. */
export function rememberAnswer(written: Written, tokenizer: Tokenizer): void {
  if (isWhole(written, tokenizer)) rememberWhole(written);
}

/** Whether an answer can be remembered: its text is that of its tokens. */
export function isWhole({ text, ids }: { text: string; ids: readonly number[] }, tokenizer: Tokenizer): boolean {
  if (text === '' || ids.length > MAX_TOKENS) return false;
  const bytes = ids.flatMap((id) => Array.from(tokenizer.tokenBytes(id)));
  return decodeUtf8(Uint8Array.from(bytes)) === text;
}

/** Remember an answer that `isWhole`. */
export function rememberWhole({ caller, digest, text, ids }: Written): void {
  takeKept();
  const key = keyOf(caller, digest, text);
  answers.delete(key);
  if (answers.size >= MAX_ANSWERS) answers.delete(answers.keys().next().value!);
  answers.set(key, ids);
}

/** Ids of an answer of this text; undefined where nobody knows of one. */
export type FindAnswer = (text: string) => readonly number[] | undefined;

/** What this backend wrote for its caller with the model of this digest. */
export function ownAnswers(digest: string): FindAnswer {
  takeKept();
  let caller: string | null = null;
  return (text) => {
    if (answers.size === 0) return undefined;
    caller ??= callerRole();
    return answers.get(keyOf(caller, digest, text));
  };
}

/** Answers with their ids that were written for a caller and stand in one of these texts. */
export function answersIn(texts: readonly string[], caller: string, digest: string): [text: string, ids: number[]][] {
  takeKept();
  const begin = keyOf(caller, digest, '');
  return [...answers]
    .filter(([key]) => key.startsWith(begin))
    .map(([key, ids]): [string, number[]] => [key.slice(begin.length), [...ids]])
    .filter(([answer]) => standsIn(answer, texts));
}

export function standsIn(answer: string, texts: readonly string[]): boolean {
  return texts.some((text) => text.includes(answer));
}

export interface WrittenSpan {
  start: number;
  end: number;
  ids: readonly number[];
}

/** Where in a rendered conversation an assistant's turn stands unchanged that a model wrote for the caller. */
export function writtenSpans(text: Text, find: FindAnswer): WrittenSpan[] {
  return text.spans
    .filter((span) => span.answer)
    .flatMap(({ start, end }) => {
      const ids = find(text.chars.slice(start, end));
      return ids === undefined ? [] : [{ start, end, ids }];
    });
}
