/** What a file holds beside its tensors: with the tensors at their offsets it is the whole file again. */
import type { FileHandle } from 'node:fs/promises';
import { CommandError } from '../errors.ts';
import type { ModelSource } from '../sources/model-source.ts';

/** Headers of the largest vocabularies are about 15 MB, and a folder's small files come to about as much. */
export const MAX_FRAME_BYTES = 192 << 20;

export interface Extent {
  offset: number;
  sizeBytes: number;
}

/** The parts of a file of `size` bytes that are outside of the tensors, in file order. */
export function gapsBetween(tensors: readonly Extent[], size: number): Extent[] {
  const gaps: Extent[] = [];
  let at = 0;
  for (const { offset, sizeBytes } of [...tensors].sort((a, b) => a.offset - b.offset)) {
    if (offset > at) gaps.push({ offset: at, sizeBytes: offset - at });
    at = offset + sizeBytes;
  }
  if (size > at) gaps.push({ offset: at, sizeBytes: size - at });
  return gaps;
}

function tensorsOf(source: ModelSource, file: number): Extent[] {
  return source.tensors.filter((tensor) => tensor.file === file);
}

/** Refuse a source whose files hold more beside their tensors than headers need. */
export function checkFrames(source: ModelSource): void {
  let bytes = 0;
  for (const [i, file] of source.files.entries())
    for (const gap of gapsBetween(tensorsOf(source, i), file.size)) bytes += gap.sizeBytes;
  if (bytes > MAX_FRAME_BYTES)
    throw new CommandError(`model has ${bytes} bytes outside of its tensors, at most ${MAX_FRAME_BYTES} are stored`);
}

async function readInto(handle: FileHandle, out: Buffer, at: number, gap: Extent, path: string): Promise<void> {
  for (let done = 0; done < gap.sizeBytes;) {
    const { bytesRead } = await handle.read(out, at + done, gap.sizeBytes - done, gap.offset + done);
    if (bytesRead === 0) throw new CommandError(`file ${path} ends early: it shrank while it was read`);
    done += bytesRead;
  }
}

/** Bytes of one file outside of its tensors. */
export async function readFrame(source: ModelSource, file: number): Promise<Buffer> {
  const { handle, size, path } = source.files[file]!;
  const gaps = gapsBetween(tensorsOf(source, file), size);
  const out = Buffer.allocUnsafe(gaps.reduce((sum, gap) => sum + gap.sizeBytes, 0));
  let at = 0;
  for (const gap of gaps) {
    await readInto(handle, out, at, gap, path);
    at += gap.sizeBytes;
  }
  return out;
}
