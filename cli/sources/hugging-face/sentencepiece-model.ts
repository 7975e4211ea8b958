/** tokenizer.model of SentencePiece: protobuf of pieces, scores and types. Format: sentencepiece_model.proto. */
import { CommandError } from '../../errors.ts';

export interface Piece {
  text: string;
  score: number;
  /** SentencePiece's types have GGUF's numbers. */
  type: number;
}

export interface SentencePieceModel {
  kind: 'unigram' | 'bpe';
  pieces: Piece[];
  addSpacePrefix: boolean;
  removeExtraSpaces: boolean;
  /** Precompiled normalisation; null for none. */
  characterMap: Buffer | null;
}

interface Field {
  number: number;
  /** A varint's value or a fixed field's bits. */
  value: number;
  bytes: Buffer | null;
}

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Fields of one message. */
function* fields(message: Buffer): Generator<Field> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) break;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new CommandError(`tokenizer.model is damaged at byte ${at}`);
  };
  while (at < message.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    const wire = tag % 8;
    if (wire === WIRE.varint) {
      yield { number, value: varint(), bytes: null };
      continue;
    }
    const length = wire === WIRE.bytes ? varint() : wire === WIRE.fixed32 ? 4 : wire === WIRE.fixed64 ? 8 : NaN;
    if (!(length <= message.length - at)) throw new CommandError(`tokenizer.model is damaged at byte ${at}`);
    const bytes = message.subarray(at, at + length);
    at += length;
    yield { number, value: wire === WIRE.fixed32 ? bytes.readFloatLE() : 0, bytes: wire === WIRE.bytes ? bytes : null };
  }
}

function readPiece(message: Buffer): Piece {
  const piece: Piece = { text: '', score: 0, type: 1 };
  for (const { number, value, bytes } of fields(message)) {
    if (number === 1 && bytes !== null) piece.text = bytes.toString('utf8');
    else if (number === 2) piece.score = value;
    else if (number === 3) piece.type = value;
  }
  return piece;
}

const UNIGRAM = 1;
const BPE = 2;

export function readSentencePieceModel(file: Buffer): SentencePieceModel {
  const model: SentencePieceModel = {
    kind: 'unigram',
    pieces: [],
    addSpacePrefix: true,
    removeExtraSpaces: true,
    characterMap: null,
  };
  let kind = UNIGRAM;
  for (const { number, bytes } of fields(file)) {
    if (bytes === null) continue;
    if (number === 1) model.pieces.push(readPiece(bytes));
    else if (number === 2) {
      for (const field of fields(bytes)) if (field.number === 3) kind = field.value;
    } else if (number === 3) {
      for (const field of fields(bytes)) {
        if (field.number === 2 && field.bytes !== null && field.bytes.length > 0) model.characterMap = field.bytes;
        else if (field.number === 3) model.addSpacePrefix = field.value !== 0;
        else if (field.number === 4) model.removeExtraSpaces = field.value !== 0;
      }
    }
  }
  if (kind !== UNIGRAM && kind !== BPE)
    throw new CommandError(`tokenizer.model has model type ${kind}, 1 and 2 are read`);
  if (kind === BPE) model.kind = 'bpe';
  return model;
}
