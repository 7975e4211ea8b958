/** Which tokens of a prompt are whose words: what the template wrote, and a system message that nobody gave, are nobody's. */
import { encodeUtf8, utf8Length } from '../format/utf8.ts';
import type { ChatMessage } from '../tokenizer/chat-template.ts';
import type { Text } from '../tokenizer/jinja/text.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Tokens [from, to) of a prompt that a message wrote. */
export interface PromptPart {
  from: number;
  to: number;
  role: string;
  /** Place among the caller's messages, from 0; -1 for option `system`. */
  message: number;
}

export interface Prompt {
  ids: number[];
  /** Null where the tokens cannot be laid beside the text, as those of a tokenizer that changes it. */
  parts(): PromptPart[] | null;
}

/** A prompt that is a text as the caller wrote it, with nothing around it but the tokenizer's own tokens. */
export function plainPrompt(ids: number[], tokenizer: Tokenizer): Prompt {
  const from = ids[0] === tokenizer.bosId ? 1 : 0;
  const to = ids.length - (tokenizer.addEos && ids[ids.length - 1] === tokenizer.eosId ? 1 : 0);
  return { ids, parts: () => (from < to ? [{ from, to, role: 'user', message: 0 }] : []) };
}

/** A prompt that is `text`, rendered from `messages`, of which -1 is option `system` where one was given. */
export function renderedPrompt(
  ids: number[],
  text: Text,
  messages: ReadonlyMap<number, ChatMessage>,
  tokenizer: Tokenizer,
): Prompt {
  return { ids, parts: () => partsOf(ids, text, messages, tokenizer) };
}

function partsOf(
  ids: readonly number[],
  text: Text,
  messages: ReadonlyMap<number, ChatMessage>,
  tokenizer: Tokenizer,
): PromptPart[] | null {
  const ends = tokenEnds(ids, encodeUtf8(text.chars), tokenizer);
  if (ends === null) return null;
  const parts: PromptPart[] = [];
  let token = 0;
  let units = 0;
  let bytes = 0;
  let next = -1; // the message that the next words may be of
  for (const span of text.spans) {
    const chars = text.chars.slice(span.start, span.end);
    const first = bytes + utf8Length(text.chars.slice(units, span.start));
    const last = first + utf8Length(chars);
    [units, bytes] = [span.end, last];
    const left = [...messages].filter(([index, { content }]) => index >= next && content.trim() !== '');
    // A template may leave out ends of a message, and stretches of several messages may have become one.
    const found =
      left.find(([, { content }]) => content.includes(chars)) ??
      left.find(([, { content }]) => chars.includes(content.trim()));
    // A token that begins in the template and ends in the message is the message's; blanks between them are nobody's.
    while (token < ids.length && ends[token]! <= first) token++;
    const from = token;
    while (token < ids.length && (token === 0 ? 0 : ends[token - 1]!) < last) token++;
    if (found === undefined || token === from) continue;
    const [message, { role }] = found;
    next = message;
    const before = parts[parts.length - 1];
    if (before?.message === message && before.to >= from) before.to = token;
    else parts.push({ from: Math.max(from, before?.to ?? 0), to: token, role, message });
  }
  return parts;
}

/** Where each token ends in the text's bytes; null where they do not follow it. */
function tokenEnds(ids: readonly number[], bytes: Uint8Array, tokenizer: Tokenizer): number[] | null {
  let at = 0;
  const ends: number[] = [];
  for (const id of ids) {
    const isControl = tokenizer.isControl(id);
    const own = isControl ? encodeUtf8(tokenizer.tokenText(id)) : tokenizer.tokenBytes(id);
    let end = endOf(own, bytes, at);
    // Blanks around control tokens may be left out, and one may stand for the beginning of a text.
    for (let skipped = at; end === null && isBlank(bytes[skipped]); skipped++) end = endOf(own, bytes, skipped + 1);
    if (end === null && own[0] === 0x20) end = endOf(own.subarray(1), bytes, at);
    if (end === null && !isControl) return null;
    at = end ?? at;
    ends.push(at);
  }
  return ends;
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a;
}

/** Where `own` ends if it stands at `at`. */
function endOf(own: Uint8Array, bytes: Uint8Array, at: number): number | null {
  for (let i = 0; i < own.length; i++) if (own[i] !== bytes[at + i]) return null;
  return at + own.length;
}
