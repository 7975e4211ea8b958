/** The small files of a Hugging Face folder, read with bounds. */
import { CommandError } from '../../errors.ts';
import type { SourceFile } from '../model-source.ts';
import { parseObject, parseValue } from '../safetensors.ts';

/** The largest tokenizer.json known, of 262,144 tokens, has 33 MB. */
const MAX_TEXT_BYTES = 64 << 20;

export type Json = Record<string, unknown>;

/** Bytes of a small file. */
export async function readSmallFile(file: SourceFile): Promise<Buffer> {
  if (file.size > MAX_TEXT_BYTES)
    throw new CommandError(`file ${file.path} has ${file.size} bytes, at most ${MAX_TEXT_BYTES} are read`);
  const out = Buffer.alloc(file.size);
  const { bytesRead } = await file.handle.read(out, 0, file.size, 0);
  if (bytesRead !== file.size) throw new CommandError(`file ${file.path} ends early: it shrank while it was read`);
  return out;
}

export async function readJsonValue(file: SourceFile): Promise<unknown> {
  return parseValue((await readSmallFile(file)).toString('utf8'), `file ${file.name}`);
}

export async function readJson(file: SourceFile): Promise<Json> {
  return parseObject((await readSmallFile(file)).toString('utf8'), `file ${file.name}`);
}

export function object(value: unknown): Json | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : null;
}

export function list(value: unknown): readonly unknown[] | null {
  return Array.isArray(value) ? (value as unknown[]) : null;
}
