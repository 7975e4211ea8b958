/** What each kind of tokenizer (tokenizer.ggml.model) is made of: its defaults and its way from text to ids. */
import { raise, SQLSTATE } from '../errors.ts';
import { decodeBase64 } from '../format/base64.ts';
import { ByteBpeEncoder } from './byte-bpe.ts';
import { CharacterMap } from './character-map.ts';
import { SentencePieceEncoder, SPACE_MARK } from './sentencepiece.ts';
import { UnigramEncoder } from './unigram.ts';
import { nfc } from './unicode/normalize.ts';
import type { Vocabulary } from './vocabulary.ts';
import { flagSetting, TOKEN_TYPE } from './vocabulary.ts';
import { WordPieceEncoder } from './word-piece.ts';
import { wordRules } from './word-splitter.ts';
import { quoted } from '../format/visible-text.ts';

const MODELS = ['llama', 'gpt2', 'bert', 't5'];

/** `afterSpecial` where the text begins the input or follows a special token. */
export type EncodeText = (text: string, afterSpecial: boolean, out: number[], poll: () => void) => void;

/** What a tokenizer model decides when the file is silent. */
export interface Defaults {
  bosId: number | null;
  eosId: number | null;
  separatorId: number | null;
  unknownId: number | null;
  addBos: boolean;
  addEos?: boolean;
  addSpacePrefix: boolean;
  cleanSpaces: boolean;
}

/** Throws featureNotSupported for a kind of tokenizer that is not known here. */
export function defaultsOf(vocabulary: Vocabulary): Defaults {
  if (vocabulary.model === 'llama') {
    return {
      bosId: 1,
      eosId: 2,
      separatorId: null,
      unknownId: 0,
      addBos: true,
      addSpacePrefix: true,
      cleanSpaces: false,
    };
  }
  if (vocabulary.model === 't5') {
    return {
      bosId: null,
      eosId: 1,
      separatorId: null,
      unknownId: 2,
      addBos: false,
      addSpacePrefix: true,
      cleanSpaces: false,
    };
  }
  if (vocabulary.model === 'bert') {
    return {
      bosId: 101,
      eosId: null,
      separatorId: 102,
      unknownId: 100,
      addBos: true,
      addSpacePrefix: false,
      cleanSpaces: true,
    };
  }
  if (vocabulary.model !== 'gpt2') {
    raise(SQLSTATE.featureNotSupported, `tokenizer.ggml.model is ${quoted(vocabulary.model)}, which is not supported`, {
      hint: `supported: ${MODELS.join(', ')}`,
    });
  }
  const rules = wordRules(vocabulary.pre);
  return {
    bosId: 11,
    eosId: 11,
    separatorId: null,
    unknownId: null,
    addBos: rules.addBos,
    addEos: rules.addEos === true,
    addSpacePrefix: false,
    cleanSpaces: rules.cleanSpaces,
  };
}

/** The way from text to ids of a vocabulary, with the settings that its file or the defaults give. */
export function textEncoder(
  vocabulary: Vocabulary,
  idOf: ReadonlyMap<string, number>,
  types: ArrayLike<number>,
  settings: { addSpacePrefix: boolean; unknownId: number | null },
): EncodeText {
  const { addSpacePrefix, unknownId } = settings;
  switch (vocabulary.model) {
    case 'gpt2':
      return byteLevelEncoder(vocabulary, idOf);
    case 'bert':
      return wordPieceEncoder(vocabulary, needUnknown(vocabulary, unknownId));
    case 't5':
      return unigramEncoder(vocabulary, types, addSpacePrefix, needUnknown(vocabulary, unknownId));
    default:
      return sentencePieceEncoder(vocabulary, idOf, addSpacePrefix, unknownId);
  }
}

function needUnknown(vocabulary: Vocabulary, unknownId: number | null): number {
  return (
    unknownId ??
    raise(
      SQLSTATE.dataCorrupted,
      `tokenizer.ggml.model is ${quoted(vocabulary.model)} and the vocabulary has no unknown token`,
    )
  );
}

function byteLevelEncoder(vocabulary: Vocabulary, idOf: ReadonlyMap<string, number>): EncodeText {
  if (vocabulary.merges === null) {
    raise(SQLSTATE.dataCorrupted, 'tokenizer.ggml.model is "gpt2" and the vocabulary has no merges');
  }
  const encoder = new ByteBpeEncoder(vocabulary.tokens, idOf, vocabulary.merges, wordRules(vocabulary.pre));
  const composes = vocabulary.settings['tokenizer.hartonomous.normalizer'] === 'NFC';
  return (text, _afterSpecial, out, poll) => encoder.encode(composes ? nfc(text) : text, out, poll);
}

function sentencePieceEncoder(
  vocabulary: Vocabulary,
  idOf: ReadonlyMap<string, number>,
  addSpacePrefix: boolean,
  unknownId: number | null,
): EncodeText {
  const scores = vocabulary.scores ?? new Float32Array(vocabulary.tokens.length);
  const encoder = new SentencePieceEncoder(idOf, scores, unknownId);
  return (text, afterSpecial, out, poll) => {
    const marked = text.replaceAll(' ', SPACE_MARK);
    encoder.encode(addSpacePrefix && afterSpecial ? SPACE_MARK + marked : marked, out, poll);
  };
}

function wordPieceEncoder(vocabulary: Vocabulary, unknownId: number): EncodeText {
  const lowercase = flagSetting(vocabulary, 'normalizer.lowercase', true);
  const stripAccents = flagSetting(vocabulary, 'normalizer.strip_accents', lowercase);
  const encoder = new WordPieceEncoder(vocabulary.tokens, unknownId, { lowercase, stripAccents });
  return (text, _afterSpecial, out, poll) => encoder.encode(text, out, poll);
}

function unigramEncoder(
  vocabulary: Vocabulary,
  types: ArrayLike<number>,
  addSpacePrefix: boolean,
  unknownId: number,
): EncodeText {
  const scores = vocabulary.tokens.map((_, id) => {
    const type = types[id];
    if (type === TOKEN_TYPE.userDefined) return 0;
    return type === TOKEN_TYPE.normal || type === TOKEN_TYPE.unused ? (vocabulary.scores?.[id] ?? 0) : NaN;
  });
  const encoder = new UnigramEncoder(vocabulary.tokens, scores, unknownId);
  const stored = storedBytes(vocabulary.settings['tokenizer.ggml.precompiled_charsmap']);
  const map = stored.length > 0 ? new CharacterMap(stored) : null;
  const merges = flagSetting(vocabulary, 'remove_extra_whitespaces', false);
  return (text, _afterSpecial, out, poll) => {
    const normal = map === null ? text : map.apply(text, poll);
    encoder.encode(markSpaces(normal, { addSpacePrefix, merges }), out, poll);
  };
}

/** A list of bytes, or of the characters of their base64, as Ollama's converter wrote it. */
function storedBytes(stored: unknown): Uint8Array {
  if (!Array.isArray(stored)) return new Uint8Array(0);
  return typeof stored[0] === 'string' ? decodeBase64(stored.join('')) : Uint8Array.from(stored as number[]);
}

/** Spaces marked; `merges` makes one of several and of the text's beginning, and drops those at its end. */
function markSpaces(text: string, rules: { addSpacePrefix: boolean; merges: boolean }): string {
  if (rules.merges) {
    let end = text.length;
    while (end > 0 && text[end - 1] === ' ') end--;
    return text.slice(0, end).replace(/^ *(?=[^ ])| +/g, SPACE_MARK);
  }
  const marked = text.replaceAll(' ', SPACE_MARK);
  return rules.addSpacePrefix ? marked.replace(/^(\u2581*)(?=[^\u2581])/, `$1${SPACE_MARK}`) : marked;
}
