/** A model as files on this machine, whatever their format: metadata and tensors under GGUF's names. */
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import { readGgufHeader } from './gguf.ts';
import type { GgufTensor, GgufValue } from './gguf.ts';

export interface SourceFile {
  /** Name below the model's folder. */
  name: string;
  path: string;
  size: number;
  handle: FileHandle;
  /** When it was last written, to notice that it changes while it is read. */
  modified: number;
}

/** A tensor under its GGUF name. */
export interface SourceTensor extends GgufTensor {
  /** Place of its file. */
  file: number;
  /** Its name in the file where that is another one. */
  sourceName: string | null;
}

export interface ModelSource {
  format: 'gguf' | 'safetensors';
  /** Name of the model unless another is given. */
  name: string;
  /** Where it is, for people and for verify. */
  location: string;
  files: SourceFile[];
  metadata: Map<string, GgufValue>;
  /** Tensors in file order. */
  tensors: SourceTensor[];
  /** Options of generation that the source recommends. */
  defaultOptions: Record<string, unknown>;
  /** System message that the source recommends. */
  systemPrompt: string | null;
  /** What its user should know of it, a line each. */
  notes?: string[];
  /** SHA-256 (hex) that its only file must have, where the source states one. */
  expectedDigest?: string;
  close(): Promise<void>;
}

/** Parts of a split model; llama.cpp writes five digits. */
const SPLIT_NAME = /^(.+)-(\d{5})-of-(\d{5})\.gguf$/i;
const MAX_PARTS = 1024;

/** Files being opened, closed again when one of them cannot be read. */
export class OpenFiles {
  readonly files: SourceFile[] = [];

  /** Open a file and put it last. */
  async add(path: string, name: string): Promise<SourceFile> {
    // Opening a pipe would wait for somebody to write into it.
    if (statOf(path)?.isFile() === false) throw new CommandError(`cannot read ${brief(path)}: it is no file`);
    let handle: FileHandle;
    try {
      handle = await open(path, 'r');
    } catch (cause) {
      throw new CommandError(
        `cannot read ${brief(path)}: ${brief(cause instanceof Error ? cause.message : String(cause))}`,
        {
          cause,
        },
      );
    }
    const { size, mtimeMs } = await handle.stat();
    const file: SourceFile = { name, path, size, handle, modified: mtimeMs };
    this.files.push(file);
    return file;
  }

  async close(): Promise<void> {
    await Promise.all(this.files.map((file) => file.handle.close()));
  }
}

export function statOf(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}

/** Paths of all parts of a split GGUF file, from the name of any of them; the file alone when it is whole. */
function partsOf(path: string): string[] {
  const match = SPLIT_NAME.exec(basename(path));
  const count = Number(match?.[3] ?? 1);
  if (match === null || count < 1) return [path];
  if (count > MAX_PARTS)
    throw new CommandError(`${brief(path)} is one of ${count} parts, at most ${MAX_PARTS} are read`);
  const parts: string[] = [];
  for (let i = 1; i <= count; i++)
    parts.push(join(dirname(path), `${match[1]}-${String(i).padStart(5, '0')}-of-${match[3]}${path.slice(-5)}`));
  return parts;
}

/** What a part says of the split, checked against its name. */
function checkSplit(metadata: Map<string, GgufValue>, part: number, parts: number, tensors: number | null): void {
  const says = (key: string, expected: number): void => {
    const value = metadata.get(key);
    if (value !== undefined && value !== expected)
      throw new CommandError(
        `part ${part + 1} of ${parts} says ${key} ${typeof value === 'object' ? 'of another kind' : brief(String(value))}, expected ${expected}`,
      );
  };
  says('split.no', part);
  says('split.count', parts);
  if (tensors !== null) says('split.tensors.count', tensors);
}

/** Open a GGUF file, or all parts of a split one. */
export async function openGguf(path: string): Promise<ModelSource> {
  const open = new OpenFiles();
  try {
    const paths = partsOf(path);
    const tensors: SourceTensor[] = [];
    const names = new Set<string>();
    let metadata: Map<string, GgufValue> | null = null;
    for (const [part, each] of paths.entries()) {
      const file = await open.add(each, basename(each));
      const header = readGgufHeader(file.handle.fd);
      metadata ??= header.metadata;
      const count = header.metadata.get('split.count');
      if (paths.length > 1) checkSplit(header.metadata, part, paths.length, null);
      else if (typeof count === 'number' && count > 1)
        throw new CommandError(
          `file ${brief(path)} is one of ${count} parts, and its name is not NAME-00001-of-0000N.gguf`,
        );
      for (const tensor of header.tensors) {
        if (names.has(tensor.name)) throw new CommandError(`tensor ${tensor.name} occurs in two parts`);
        names.add(tensor.name);
        tensors.push({ ...tensor, file: part, sourceName: null });
      }
    }
    if (metadata === null) throw new CommandError(`no file ${brief(path)}`);
    if (paths.length > 1) checkSplit(metadata, 0, paths.length, tensors.length);
    const split = SPLIT_NAME.exec(basename(path));
    return {
      format: 'gguf',
      name: split?.[1] ?? basename(path).replace(/\.gguf$/i, ''),
      location: resolve(path),
      files: open.files,
      metadata,
      tensors,
      defaultOptions: {},
      systemPrompt: null,
      close: () => open.close(),
    };
  } catch (error) {
    await open.close();
    throw error;
  }
}
