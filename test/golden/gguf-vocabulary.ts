import { readFileSync } from 'node:fs';
import type { Vocabulary } from '../../plv8/src/tokenizer/vocabulary.ts';
import { mergesFromStrings } from '../../plv8/src/tokenizer/vocabulary.ts';

type Value = number | bigint | boolean | string | Value[];

/** The vocabulary of a GGUF file, read straight from its header: independent of the ingest that the product uses. */
export function readGgufVocabulary(file: string): Vocabulary {
  const metadata = readGgufMetadata(file);
  const list = <T>(key: string): T[] | undefined => metadata.get(`tokenizer.ggml.${key}`) as T[] | undefined;
  const tokens = list<string>('tokens') ?? [];
  const merges = list<string>('merges');
  const scores = list<number>('scores');
  const settings: Record<string, unknown> = {};
  for (const [key, value] of metadata) {
    if (/^general\.name$|^tokenizer\.ggml\.(?!(tokens|token_type|scores|merges)$)/.test(key)) settings[key] = value;
  }
  return {
    model: String(settings['tokenizer.ggml.model']),
    pre: (settings['tokenizer.ggml.pre'] as string | undefined) ?? null,
    tokens,
    types: list<number>('token_type') ?? new Array<number>(tokens.length).fill(1),
    scores: scores ? Float32Array.from(scores) : null,
    merges: merges ? mergesFromStrings(tokens, merges) : null,
    settings,
  };
}

/** Every metadata key of a GGUF v2 or v3 file. */
export function readGgufMetadata(file: string): Map<string, Value> {
  const bytes = readFileSync(file);
  let at = 8;
  const u32 = (): number => bytes.readUInt32LE((at += 4) - 4);
  const u64 = (): number => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const text = (): string => {
    const size = u64();
    return bytes.toString('utf8', at, (at += size));
  };
  const readers: (() => Value)[] = [
    () => bytes.readUInt8(at++),
    () => bytes.readInt8(at++),
    () => bytes.readUInt16LE((at += 2) - 2),
    () => bytes.readInt16LE((at += 2) - 2),
    u32,
    () => bytes.readInt32LE((at += 4) - 4),
    () => bytes.readFloatLE((at += 4) - 4),
    () => bytes.readUInt8(at++) !== 0,
    text,
    () => {
      const read = readers[u32()]!;
      return Array.from({ length: u64() }, read);
    },
    u64,
    () => bytes.readBigInt64LE((at += 8) - 8),
    () => bytes.readDoubleLE((at += 8) - 8),
  ];
  u64(); // tensor count
  const metadata = new Map<string, Value>();
  for (let left = u64(); left > 0; left--) {
    const key = text();
    metadata.set(key, readers[u32()]!());
  }
  return metadata;
}
