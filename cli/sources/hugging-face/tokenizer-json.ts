/** tokenizer.json as a vocabulary under GGUF's names. Format: https://github.com/huggingface/tokenizers */
import { quoted } from '../../../plv8/src/format/visible-text.ts';
import { CommandError } from '../../errors.ts';
import type { GgufValue } from '../gguf.ts';
import type { Json } from './json-files.ts';
import { list, object } from './json-files.ts';

/** GGUF's token types. */
export const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
/** The largest vocabulary known has 262,144 tokens. */
export const MAX_TOKENS = 1_048_576;
/** Score of a piece that no merge makes: worse than every one that a merge makes. */
const UNMERGED_SCORE = -1e6;

export interface Vocabulary {
  /** tokenizer.ggml.model */
  model: 'gpt2' | 'llama' | 't5' | 'bert';
  pre: string | null;
  tokens: string[];
  types: number[];
  scores: number[] | null;
  /** 'left right' in rank order. */
  merges: string[] | null;
  addSpacePrefix: boolean | null;
  unknown: string | null;
  /** Whether encoding a text begins with a special token, where the file says it. */
  addBos: boolean | null;
  /** Further settings under GGUF's keys. */
  settings: Readonly<Record<string, GgufValue>>;
}

const CL100K = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const CASED = (digits: string, contractions: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+${contractions}|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*${contractions}|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
/** Names that GGUF gives to ways of splitting words, by the regular expression of tokenizer.json. */
const PRE_BY_PATTERN: ReadonlyMap<string, string> = new Map([
  [CL100K('\\p{N}'), 'qwen2'],
  [CL100K('\\p{N}{1,3}'), 'llama-bpe'],
  [CASED('\\p{N}', ''), 'tekken'],
  [CASED('\\p{N}{1,3}', "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"), 'gpt-4o'],
]);

/** Normalizers that change text and that a byte-level BPE here does not have. */
const UNKNOWN_NORMALIZERS: readonly unknown[] = ['NFD', 'NFKC', 'NFKD', 'Lowercase', 'StripAccents', 'Strip'];

/** All steps of a normalizer, pre-tokenizer or post-processor, sequences opened up. */
function steps(value: unknown, depth = 0): Json[] {
  const step = object(value);
  if (step === null || depth > 8) return [];
  const inner = list(step.normalizers) ?? list(step.pretokenizers) ?? list(step.processors) ?? list(step.decoders);
  return inner === null ? [step] : inner.flatMap((each) => steps(each, depth + 1));
}

function preName(tokenizer: Json): string | null {
  const all = steps(tokenizer.pre_tokenizer);
  const split = all.filter((step) => step.type === 'Split');
  if (split.length > 0) {
    const pattern = object(split[0]!.pattern)?.Regex;
    const name = split.length === 1 && typeof pattern === 'string' ? PRE_BY_PATTERN.get(pattern) : undefined;
    if (name !== undefined) return name;
    throw new CommandError(`tokenizer.json splits words by ${quoted(pattern ?? null)}, which is not known`, {
      hint: 'use a GGUF file of this model',
    });
  }
  return all.some((step) => step.type === 'Digits' && step.individual_digits === true) ? 'smollm' : 'gpt-2';
}

/** Tokens in order of their ids; ids must be whole, different, and not far apart. */
class TokenTable {
  readonly tokens: string[] = [];
  readonly types: number[] = [];

  set(id: unknown, text: string, type: number): void {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= MAX_TOKENS)
      throw new CommandError(
        `tokenizer has id ${quoted(id, 40)} for ${quoted(text, 60)}, ids are whole numbers below ${MAX_TOKENS}`,
      );
    this.tokens[id] = text;
    this.types[id] = type;
  }

  has(id: number): boolean {
    return this.tokens[id] !== undefined;
  }

  /** Give ids without a token a name, as GGUF's converters do, up to `length`. */
  fill(length: number): void {
    for (let id = 0; id < Math.max(length, this.tokens.length); id++)
      if (!this.has(id)) this.set(id, `[PAD${id}]`, TYPE.unused);
  }
}

function vocabularyEntries(model: Json): [string, unknown][] {
  const listed = list(model.vocab);
  if (listed !== null) return listed.map((entry, id) => [String(list(entry)?.[0] ?? ''), id]);
  const named = object(model.vocab);
  if (named === null) throw new CommandError('tokenizer.json has no model.vocab');
  return Object.entries(named);
}

function mergePair(merge: unknown, rank: number): [string, string] {
  const pair = list(merge);
  if (pair !== null && pair.length === 2 && pair.every((side) => typeof side === 'string'))
    return pair as [string, string];
  const at = typeof merge === 'string' ? merge.indexOf(' ', 1) : -1;
  if (at < 0) throw new CommandError(`merge ${rank} of tokenizer.json has no two parts`);
  return [(merge as string).slice(0, at), (merge as string).slice(at + 1)];
}

/** Scores with which SentencePiece's algorithm makes the merges in their order: the rank of the first that makes a piece. */
function scoresOfMerges(table: TokenTable, merges: readonly unknown[]): number[] {
  const rank = new Map<string, number>();
  merges.forEach((merge, i) => {
    const made = mergePair(merge, i).join('');
    if (!rank.has(made)) rank.set(made, i);
  });
  return table.tokens.map((text, id) => {
    if (table.types[id] !== TYPE.normal) return 0;
    const made = rank.get(text);
    return made === undefined ? UNMERGED_SCORE : -(made + 1);
  });
}

const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

/** Whether texts begin with a special token by the post-processor; null where it does not say. */
function beginsSpecial(tokenizer: Json): boolean | null {
  const templates = steps(tokenizer.post_processor).filter((step) => step.type === 'TemplateProcessing');
  if (templates.length === 0) return null;
  return templates.some((step) => object(list(step.single)?.[0])?.SpecialToken !== undefined);
}

/** What the normalizer does, and which added tokens take the white space after them with them. */
function normalizerSettings(tokenizer: Json): Record<string, GgufValue> {
  const settings: Record<string, GgufValue> = {};
  for (const step of steps(tokenizer.normalizer)) {
    if (step.type === 'NFC') settings['tokenizer.hartonomous.normalizer'] = 'NFC';
    if (step.type === 'BertNormalizer') {
      const lowercase = step.lowercase !== false;
      settings['tokenizer.ggml.normalizer.lowercase'] = lowercase;
      settings['tokenizer.ggml.normalizer.strip_accents'] =
        typeof step.strip_accents === 'boolean' ? step.strip_accents : lowercase;
    }
    if (step.type === 'Precompiled' && typeof step.precompiled_charsmap === 'string')
      settings['tokenizer.ggml.precompiled_charsmap'] = [...Buffer.from(step.precompiled_charsmap, 'base64')];
    if (step.type === 'Replace' && object(step.pattern)?.Regex === ' {2,}')
      settings['tokenizer.ggml.remove_extra_whitespaces'] = true;
  }
  const stripping = (list(tokenizer.added_tokens) ?? []).map((added) => object(added) ?? {});
  const ids = stripping.filter((token) => token.rstrip === true).map((token) => token.id);
  if (ids.length > 0) settings['tokenizer.hartonomous.rstrip_token_ids'] = ids.filter((id) => typeof id === 'number');
  return settings;
}

/** Read tokenizer.json. `rows` is the number of embeddings, to which the vocabulary is filled up. */
export function readTokenizerJson(tokenizer: Json, rows: number): Vocabulary {
  const model = object(tokenizer.model);
  if (model === null) throw new CommandError('tokenizer.json has no model');
  const kind = typeof model.type === 'string' ? model.type : model.merges === undefined ? 'WordPiece' : 'BPE';
  const byteLevel = steps(tokenizer.pre_tokenizer).some((step) => step.type === 'ByteLevel');
  const unknown = typeof model.unk_token === 'string' ? model.unk_token : null;
  const table = new TokenTable();
  for (const [text, id] of vocabularyEntries(model)) {
    const type =
      !byteLevel && text === unknown ? TYPE.unknown : !byteLevel && BYTE_TOKEN.test(text) ? TYPE.byte : TYPE.normal;
    table.set(id, text, type);
  }
  for (const added of list(tokenizer.added_tokens) ?? []) {
    const token = object(added) ?? {};
    if (typeof token.content !== 'string') throw new CommandError('tokenizer.json has an added token without content');
    const type =
      token.content === unknown && !byteLevel ? TYPE.unknown : token.special === true ? TYPE.control : TYPE.userDefined;
    table.set(token.id, token.content, type);
  }
  table.fill(Math.min(rows, MAX_TOKENS));
  const base = {
    tokens: table.tokens,
    types: table.types,
    unknown,
    addBos: beginsSpecial(tokenizer),
    settings: normalizerSettings(tokenizer),
  };
  const merges = list(model.merges) ?? [];
  if (kind === 'BPE' && byteLevel) {
    const other = steps(tokenizer.normalizer).find((step) => UNKNOWN_NORMALIZERS.includes(step.type));
    if (other !== undefined)
      throw new CommandError(`tokenizer.json normalizes by ${quoted(other.type)}, which is not supported`, {
        hint: 'use a GGUF file of this model',
      });
    return {
      ...base,
      model: 'gpt2',
      pre: preName(tokenizer),
      scores: null,
      merges: merges.map((merge, rank) => mergePair(merge, rank).join(' ')),
      addSpacePrefix: null,
    };
  }
  const prefix = [...steps(tokenizer.normalizer), ...steps(tokenizer.pre_tokenizer)].some(
    (step) =>
      (step.type === 'Prepend' && step.prepend === '\u2581') ||
      (step.type === 'Metaspace' && step.prepend_scheme !== 'never' && step.add_prefix_space !== false),
  );
  if (kind === 'BPE')
    return {
      ...base,
      model: 'llama',
      pre: 'default',
      scores: scoresOfMerges(table, merges),
      merges: null,
      addSpacePrefix: prefix,
    };
  if (kind === 'Unigram') {
    const scores = (list(model.vocab) ?? []).map((entry) => Number(list(entry)?.[1] ?? NaN));
    const at = typeof model.unk_id === 'number' ? model.unk_id : -1;
    if (table.has(at)) table.types[at] = TYPE.unknown;
    return {
      ...base,
      unknown: table.tokens[at] ?? null,
      model: 't5',
      pre: 'default',
      scores: table.tokens.map((_, id) => scores[id] ?? 0),
      merges: null,
      addSpacePrefix: prefix,
    };
  }
  if (kind === 'WordPiece')
    return {
      ...base,
      // GGUF marks the beginning of a word, tokenizer.json its continuation.
      tokens: table.tokens.map((text, id) =>
        table.types[id] !== TYPE.normal || /^\[.*\]$/.test(text)
          ? text
          : text.startsWith('##')
            ? text.slice(2)
            : `\u2581${text}`,
      ),
      model: 'bert',
      pre: null,
      scores: null,
      merges: null,
      addSpacePrefix: null,
    };
  throw new CommandError(`tokenizer.json has a model of type ${quoted(kind, 40)}, which is not supported`);
}
