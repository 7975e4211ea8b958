/** Writes a model's files again, byte for byte, checking every SHA-256 on the way. */
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, isAbsolute, join, normalize } from 'node:path';
import type pg from 'pg';
import { brief, quoted } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import { statOf } from '../sources/model-source.ts';
import { Digest, fileBytes, storedModel } from './stored-files.ts';
import type { StoredFile, StoredModel } from './stored-files.ts';

export interface ExportOptions {
  /** Write over what is there. */
  force?: boolean;
  onBytes?(done: number, total: number): void;
  signal?: AbortSignal;
}

export interface ExportResult {
  model: string;
  /** Files that were written. */
  files: string[];
  bytes: number;
  /** SHA-256 of the model's source, hex. */
  digest: string;
}

/** Where a file goes below the folder; a name that leads out of it is refused. */
function placeBelow(folder: string, name: string): string {
  const plain = normalize(name);
  if (isAbsolute(plain) || plain === '..' || plain.startsWith('../') || plain.includes('\0'))
    throw new CommandError(`file name ${quoted(name)} leads out of the folder`);
  return join(folder, plain);
}

async function writeFile(
  client: pg.Client,
  model: StoredModel,
  file: StoredFile,
  path: string,
  onBytes: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const partial = `${path}.part-${process.pid}`;
  const handle = await open(partial, 'w');
  try {
    const digest = new Digest();
    for await (const { bytes } of fileBytes(client, model, file)) {
      signal?.throwIfAborted();
      digest.update(bytes);
      await handle.writeFile(bytes);
      onBytes(bytes.length);
    }
    await handle.sync();
    await handle.close();
    const found = digest.finish();
    if (!found.equals(file.digest))
      throw new CommandError(
        `file ${file.name} has SHA-256 ${found.toString('hex')} over ${digest.bytes} bytes, its source had ${file.digest.toString('hex')} over ${file.size}`,
        { hint: `run: hartonomous verify ${model.name}` },
      );
    await rename(partial, path);
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(partial, { force: true });
    throw error;
  }
}

/** Write the model to `path`: a file, or a folder where the model came from several files. */
export async function exportModel(
  client: pg.Client,
  name: string,
  path: string,
  options: ExportOptions = {},
): Promise<ExportResult> {
  const model = await storedModel(client, name);
  const [first, ...others] = model.files;
  if (first === undefined)
    throw new CommandError(`model ${name} was ingested by a version that did not keep what export needs`, {
      hint: 'remove it and ingest it again; the weights are not sent again while another name holds them',
    });
  const asFolder = others.length > 0;
  const there = statOf(path);
  const targets = asFolder
    ? model.files.map((file) => placeBelow(path, file.name))
    : [there?.isDirectory() === true ? placeBelow(path, first.name) : path];
  if (asFolder && there !== null && !there.isDirectory())
    throw new CommandError(`model ${name} has ${model.files.length} files, and ${brief(path)} is no folder`);
  for (const target of targets)
    if (statOf(target) !== null && options.force !== true)
      throw new CommandError(`file ${brief(target)} exists`, { hint: 'use --force to write over it' });
  const total = model.files.reduce((sum, file) => sum + file.size, 0);
  let done = 0;
  const progress = (bytes: number): void => options.onBytes?.((done += bytes), total);
  try {
    for (const [i, file] of model.files.entries()) {
      await mkdir(dirname(targets[i]!), { recursive: true });
      await writeFile(client, model, file, targets[i]!, progress, options.signal);
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (cause instanceof CommandError || typeof code !== 'string' || !code.startsWith('E')) throw cause;
    throw new CommandError(`cannot write ${brief(path)}: ${brief((cause as Error).message)}`, { cause });
  }
  return { model: name, files: targets, bytes: total, digest: model.digest.toString('hex') };
}
