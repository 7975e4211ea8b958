import { raise, SQLSTATE } from '../errors.ts';
import { quoted } from '../format/visible-text.ts';

/** Values of GGUF's tokenizer.ggml.token_type. */
export const TOKEN_TYPE = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

/** BPE merges in rank order. Ids below the vocabulary size are tokens; the rest index `parts`. */
export interface Merges {
  /** (2 x merges): left id, right id of rank 0, then of rank 1, ... */
  pairs: Int32Array;
  /** Texts of merge parts that are no token; part i has the id vocabulary size + i. */
  parts: string[];
}

/** A vocabulary as a model file states it. */
export interface Vocabulary {
  /** tokenizer.ggml.model: 'llama', 'gpt2', 'bert' */
  model: string;
  /** tokenizer.ggml.pre: how a byte-level BPE splits text into words */
  pre: string | null;
  /** (vocabSize) texts exactly as in the file */
  tokens: string[];
  /** (vocabSize) TOKEN_TYPE */
  types: ArrayLike<number>;
  /** (vocabSize) scores of a SentencePiece vocabulary */
  scores: Float32Array | null;
  merges: Merges | null;
  /** the tokenizer.* settings and general.name under their full names */
  settings: Record<string, unknown>;
}

/** Merges from GGUF's strings ('left right'); the parts are parted by the first space that is not the first character. */
export function mergesFromStrings(tokens: readonly string[], merges: readonly string[]): Merges {
  const ids = new Map<string, number>();
  for (let id = 0; id < tokens.length; id++) ids.set(tokens[id]!, id);
  const parts: string[] = [];
  const idOf = (text: string): number => {
    let id = ids.get(text);
    if (id === undefined) {
      id = tokens.length + parts.length;
      ids.set(text, id);
      parts.push(text);
    }
    return id;
  };
  const pairs = new Int32Array(merges.length * 2);
  for (let rank = 0; rank < merges.length; rank++) {
    const merge = merges[rank]!;
    const space = merge.indexOf(' ', 1);
    if (space < 0) raise(SQLSTATE.dataCorrupted, `merge ${rank} has no space: ${quoted(merge, 40)}`);
    pairs[2 * rank] = idOf(merge.slice(0, space));
    pairs[2 * rank + 1] = idOf(merge.slice(space + 1));
  }
  return { pairs, parts };
}

/** A scalar id setting, or `fallback` when it is missing; null when it lies outside the vocabulary. */
export function idSetting(vocabulary: Vocabulary, key: string, fallback: number | null): number | null {
  const value = vocabulary.settings[`tokenizer.ggml.${key}`] ?? fallback;
  return isTokenId(vocabulary, value) ? value : null;
}

function isTokenId(vocabulary: Vocabulary, value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < vocabulary.tokens.length;
}

/** The ids of a list setting that lie inside the vocabulary. */
export function idsSetting(vocabulary: Vocabulary, key: string): number[] {
  const value = vocabulary.settings[`tokenizer.ggml.${key}`];
  return Array.isArray(value) ? value.filter((id) => isTokenId(vocabulary, id)) : [];
}

/** A scalar boolean setting, or `fallback` when it is missing. */
export function flagSetting(vocabulary: Vocabulary, key: string, fallback: boolean): boolean {
  const value = vocabulary.settings[`tokenizer.ggml.${key}`];
  return typeof value === 'boolean' ? value : fallback;
}
