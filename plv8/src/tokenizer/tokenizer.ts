import { raise, SQLSTATE } from '../errors.ts';
import { decodeUtf8, wellFormed, writeUtf8 } from '../format/utf8.ts';
import { CHARACTER_BYTES } from './byte-bpe.ts';
import { cleanSpaces } from './clean-spaces.ts';
import type { EncodeText } from './encoders.ts';
import { defaultsOf, textEncoder } from './encoders.ts';
import { endOfGeneration } from './end-of-generation.ts';
import { SPACE_MARK } from './sentencepiece.ts';
import type { Stretch } from './special-tokens.ts';
import { SpecialTokens } from './special-tokens.ts';
import type { Vocabulary } from './vocabulary.ts';
import { flagSetting, idSetting, TOKEN_TYPE } from './vocabulary.ts';

const EMPTY = new Uint8Array(0);

/** Bytes of UTF-8 that a code unit of UTF-16 becomes at the most. */
const MAX_UNIT_BYTES = 3;

/** Byte that a code unit of a byte-level token stands for; -1 for none. */
const CODE_BYTES = new Int16Array(0x180).fill(-1);
for (const [character, byte] of CHARACTER_BYTES) CODE_BYTES[character.charCodeAt(0)] = byte;

/** Characters of a text to encode; PL/V8 does not survive a heap that is full of ids, 200 million bytes of them by default. */
const MAX_CHARACTERS = 8_388_608;

export interface EncodeOptions {
  /** Put BOS and EOS where the vocabulary wants them. */
  addSpecial: boolean;
  /** Recognise control tokens written in the text. */
  parseSpecial: boolean;
  /** Where the text is a caller's and not a template's: control tokens are text there. */
  content?: readonly Stretch[];
  /** The text goes on after ordinary tokens, so nothing is put in front of it. */
  continues?: boolean;
  /** Called every few milliseconds; may throw to cancel. */
  poll?: () => void;
}

export interface Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly addBos: boolean;
  readonly addEos: boolean;
  /** Token that ends a text of an encoder, null where there is none. */
  readonly separatorId: number | null;
  /** Ids of `text`; a lone surrogate counts as U+FFFD. */
  encode(text: string, options: EncodeOptions): number[];
  /** Bytes the token adds to the output; empty for control tokens. */
  tokenBytes(id: number): Uint8Array;
  /** The same of all tokens, one after the other, with the place (vocabSize) where each ends. */
  allTokenBytes(): { bytes: Uint8Array; ends: Int32Array };
  /** The token for people: its bytes as text, control tokens by name. */
  tokenText(id: number): string;
  /** Text of a sequence without the space that encoding put in front; control tokens by name when `special`. */
  decode(ids: ArrayLike<number>, options?: { special?: boolean }): string;
  /** Tokens that end an answer. */
  readonly endOfGeneration: Iterable<number>;
  isEndOfGeneration(id: number): boolean;
  isControl(id: number): boolean;
}

class VocabularyTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly addBos: boolean;
  readonly addEos: boolean;
  readonly separatorId: number | null;
  private readonly types: Int8Array;
  private readonly ends: ReadonlySet<number>;
  private readonly specials: SpecialTokens;
  private readonly byteLevel: boolean;
  private readonly addSpacePrefix: boolean;
  private readonly cleanSpaces: boolean;
  private readonly encodeText: EncodeText;

  constructor(private readonly vocabulary: Vocabulary) {
    const { tokens } = vocabulary;
    const defaults = defaultsOf(vocabulary);
    this.vocabSize = tokens.length;
    this.byteLevel = vocabulary.model === 'gpt2';
    const cls = vocabulary.model === 'bert' ? idSetting(vocabulary, 'cls_token_id', defaults.bosId) : defaults.bosId;
    this.bosId = idSetting(vocabulary, 'bos_token_id', cls);
    this.eosId = idSetting(vocabulary, 'eos_token_id', defaults.eosId);
    this.addBos = flagSetting(vocabulary, 'add_bos_token', defaults.addBos) && this.bosId !== null;
    this.addEos = flagSetting(vocabulary, 'add_eos_token', defaults.addEos ?? false) && this.eosId !== null;
    // GGUF's key is spelled like that.
    const separator = idSetting(vocabulary, 'seperator_token_id', defaults.separatorId);
    this.separatorId = vocabulary.model === 'bert' && flagSetting(vocabulary, 'add_sep_token', true) ? separator : null;
    this.addSpacePrefix = flagSetting(vocabulary, 'add_space_prefix', defaults.addSpacePrefix);
    this.cleanSpaces = defaults.cleanSpaces;
    const idOf = new Map<string, number>();
    for (let id = 0; id < tokens.length; id++) idOf.set(tokens[id]!, id);
    this.types = Int8Array.from(vocabulary.types);
    this.ends = endOfGeneration(vocabulary, idOf, this.types, this.eosId);
    this.specials = new SpecialTokens(tokens, this.types, stripsRight(vocabulary));
    const unknownId = idSetting(vocabulary, 'unknown_token_id', defaults.unknownId);
    this.encodeText = textEncoder(vocabulary, idOf, this.types, { addSpacePrefix: this.addSpacePrefix, unknownId });
  }

  encode(text: string, options: EncodeOptions): number[] {
    if (text.length > MAX_CHARACTERS)
      raise(SQLSTATE.programLimitExceeded, `text has ${text.length} characters, at most ${MAX_CHARACTERS} are read`);
    const poll = options.poll ?? ((): void => undefined);
    const out: number[] = [];
    if (options.addSpecial && this.addBos) out.push(this.bosId!);
    let afterSpecial = options.continues !== true;
    for (const fragment of this.specials.split(wellFormed(text), options.parseSpecial, options.content)) {
      if (typeof fragment === 'number') out.push(fragment);
      else this.encodeText(fragment, afterSpecial, out, poll);
      afterSpecial = typeof fragment === 'number';
    }
    if (options.addSpecial && this.separatorId !== null) out.push(this.separatorId);
    if (options.addSpecial && this.addEos) out.push(this.eosId!);
    return out;
  }

  tokenBytes(id: number): Uint8Array {
    const type = this.types[id];
    return type === TOKEN_TYPE.control || type === TOKEN_TYPE.unknown ? EMPTY : this.pieceBytes(id);
  }

  tokenText(id: number): string {
    const bytes = this.pieceBytes(id);
    return decodeUtf8(bytes);
  }

  decode(ids: ArrayLike<number>, options: { special?: boolean } = {}): string {
    const pieces: Uint8Array[] = [];
    let size = 0;
    for (let i = 0; i < ids.length; i++) {
      let piece = options.special === true ? this.pieceBytes(ids[i]!) : this.tokenBytes(ids[i]!);
      if (i === 0 && this.addSpacePrefix && piece[0] === 0x20) piece = piece.subarray(1);
      pieces.push(piece);
      size += piece.length;
    }
    const bytes = new Uint8Array(size);
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    const text = decodeUtf8(bytes);
    return this.cleanSpaces ? cleanSpaces(text) : text;
  }

  get endOfGeneration(): Iterable<number> {
    return this.ends;
  }

  isEndOfGeneration(id: number): boolean {
    return this.ends.has(id);
  }

  isControl(id: number): boolean {
    return this.types[id] === TOKEN_TYPE.control;
  }

  allTokenBytes(): { bytes: Uint8Array; ends: Int32Array } {
    const { tokens } = this.vocabulary;
    const bytes = new Uint8Array(tokens.reduce((sum, text) => sum + text.length, 0) * MAX_UNIT_BYTES);
    const ends = new Int32Array(tokens.length);
    let end = 0;
    for (let id = 0; id < tokens.length; id++) {
      const type = this.types[id];
      if (type !== TOKEN_TYPE.control && type !== TOKEN_TYPE.unknown)
        end = this.writePiece(id, tokens[id]!, bytes, end);
      ends[id] = end;
    }
    return { bytes, ends };
  }

  /** Bytes of a token, special tokens by name. */
  private pieceBytes(id: number): Uint8Array {
    const text = this.vocabulary.tokens[id];
    if (text === undefined) {
      raise(
        SQLSTATE.invalidParameterValue,
        `token ${id} is outside the vocabulary, which has ids 0 to ${this.vocabSize - 1}`,
      );
    }
    const out = new Uint8Array(text.length * MAX_UNIT_BYTES);
    return out.slice(0, this.writePiece(id, text, out, 0));
  }

  /** Write them into `out` from `at` on; the offset after the last one. */
  private writePiece(id: number, text: string, out: Uint8Array, at: number): number {
    switch (this.types[id]) {
      case TOKEN_TYPE.control:
      case TOKEN_TYPE.unknown:
      case TOKEN_TYPE.userDefined:
        return writeUtf8(text, out, at);
      case TOKEN_TYPE.byte: {
        const byte = parseInt(text.slice(3, 5), 16);
        if (Number.isNaN(byte)) return at;
        out[at] = byte;
        return at + 1;
      }
      case TOKEN_TYPE.normal:
        return this.byteLevel ? writeByteText(text, out, at) : writeUtf8(text.replaceAll(SPACE_MARK, ' '), out, at);
      default:
        return at;
    }
  }
}

/** Special tokens of Phi 3 that leave the white space after them alone, unlike its others. */
const PHI3_KEEPING: ReadonlySet<string> = new Set(['<unk>', '<s>', '<|endoftext|>']);

/**
 * Which special tokens take the white space after them with them: those that a Hugging Face tokenizer names, and Phi
 * 3's, whose GGUF files say it by nothing but their name.
 */
function stripsRight({ settings }: Vocabulary): (id: number, text: string) => boolean {
  const named = settings['tokenizer.hartonomous.rstrip_token_ids'];
  if (Array.isArray(named)) {
    const ids = new Set(named);
    return (id) => ids.has(id);
  }
  const phi3 = /phi-?3/i.test(String(settings['general.name'] ?? ''));
  return (_id, text) => phi3 && !PHI3_KEEPING.has(text);
}

/** Write the bytes that a byte-level token stands for; a character that stands for no byte adds its own UTF-8 form. */
function writeByteText(text: string, out: Uint8Array, from: number): number {
  let at = from;
  for (let i = 0; i < text.length; i++) {
    const byte = CODE_BYTES[text.charCodeAt(i)] ?? -1;
    if (byte >= 0) out[at++] = byte;
    else {
      const character = String.fromCodePoint(text.codePointAt(i)!);
      at = writeUtf8(character, out, at);
      i += character.length - 1;
    }
  }
  return at;
}

/** Build a tokenizer. Throws featureNotSupported, naming the value, for a kind of tokenizer that is not known here. */
export function createTokenizer(vocabulary: Vocabulary): Tokenizer {
  return new VocabularyTokenizer(vocabulary);
}
