/** Proof that the database holds what the source held: SHA-256 of every tensor and every file from what is stored. */
import { existsSync } from 'node:fs';
import type pg from 'pg';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import { openModel } from '../sources/open-model.ts';
import { hashModel } from './digests.ts';
import { Digest, fileBytes, storedModel, tensorBytes } from './stored-files.ts';
import type { StoredModel, StoredTensor } from './stored-files.ts';

export interface VerifyOptions {
  /** Source file or folder to compare with; the one the model came from by default, if it is still there. */
  file?: string;
  onTensor?(done: number, total: number): void;
}

export interface VerifyResult {
  model: string;
  tensors: number;
  bytes: number;
  /** Files whose every byte was put together again and hashed. */
  files: number;
  /** File that was compared as well, null when there was none. */
  file: string | null;
  /** One line for everything that differs; empty when all is well. */
  differences: string[];
}

function compare(tensor: StoredTensor, digest: Digest): string[] {
  const found = digest.finish();
  if (found.equals(tensor.digest)) return [];
  return [
    `tensor ${tensor.name} has SHA-256 ${found.toString('hex')} over ${digest.bytes} bytes, recorded were ${tensor.digest.toString('hex')} over ${tensor.sizeBytes}`,
  ];
}

async function compareWithSource(path: string, model: StoredModel): Promise<string[]> {
  const source = await openModel(path);
  try {
    const digests = await hashModel(source);
    const differences: string[] = [];
    if (!digests.model.equals(model.digest)) {
      differences.push(
        `file ${path} has SHA-256 ${digests.model.toString('hex')}, the model came from ${model.digest.toString('hex')}`,
      );
    }
    const inFile = new Map(source.tensors.map((tensor, i) => [tensor.name, digests.tensors[i]!.digest]));
    for (const { name, digest } of model.tensors) {
      const other = inFile.get(name);
      if (other === undefined) differences.push(`tensor ${name} is not in file ${path}`);
      else if (!other.equals(digest))
        differences.push(
          `tensor ${name} has SHA-256 ${other.toString('hex')} in the file, ${digest.toString('hex')} in the database`,
        );
      inFile.delete(name);
    }
    for (const name of inFile.keys()) differences.push(`tensor ${name} of file ${path} is not in the database`);
    return differences;
  } finally {
    await source.close();
  }
}

/** Verify one ready model. Throws when there is no such model. */
export async function verify(client: pg.Client, name: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  const model = await storedModel(client, name);
  const differences: string[] = [];
  let total = 0;
  let done = 0;
  const finish = (tensor: StoredTensor, digest: Digest): void => {
    differences.push(...compare(tensor, digest));
    total += digest.bytes;
    options.onTensor?.(++done, model.tensors.length);
  };
  for (const file of model.files) {
    const whole = new Digest();
    const digests = new Map(file.tensors.map((tensor) => [tensor, new Digest()]));
    for await (const { tensor, bytes } of fileBytes(client, model, file)) {
      whole.update(bytes);
      if (tensor !== null) digests.get(tensor)!.update(bytes);
    }
    const before = differences.length;
    for (const [tensor, digest] of digests) finish(tensor, digest);
    const found = whole.finish();
    // A tensor that differs makes its file differ; the tensor's own line says more.
    if (differences.length === before && !found.equals(file.digest))
      differences.push(
        `file ${file.name} has SHA-256 ${found.toString('hex')} over ${whole.bytes} bytes, recorded were ${file.digest.toString('hex')} over ${file.size}`,
      );
  }
  if (model.files.length === 0) {
    for (const tensor of model.tensors) {
      const digest = new Digest();
      for await (const bytes of tensorBytes(client, tensor)) digest.update(bytes);
      finish(tensor, digest);
    }
  }
  if (options.file !== undefined && !existsSync(options.file))
    throw new CommandError(`file ${brief(options.file)} does not exist`);
  const path = options.file ?? (model.source !== null && existsSync(model.source) ? model.source : null);
  if (path !== null) differences.push(...(await compareWithSource(path, model)));
  return {
    model: name,
    tensors: model.tensors.length,
    bytes: total,
    files: model.files.length,
    file: path,
    differences,
  };
}
