/** Proof that the database holds what the source file held: every tensor's SHA-256 from its tiles. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type pg from 'pg';
import Cursor from 'pg-cursor';
import { CommandError } from '../errors.ts';
import { readGgufHeader } from '../sources/gguf.ts';
import { hashTensors } from './digests.ts';

/** Tiles fetched at once; a tile is about a megabyte. */
const TILES_PER_FETCH = 8;

export interface VerifyOptions {
  /** Source file to compare with; the one the model came from by default, if it is still there. */
  file?: string;
  onTensor?(done: number, total: number): void;
}

export interface VerifyResult {
  model: string;
  tensors: number;
  bytes: number;
  /** File that was compared as well, null when there was none. */
  file: string | null;
  /** One line for everything that differs; empty when all is well. */
  differences: string[];
}

interface MatrixRow {
  name: string;
  atom_id: string;
  size_bytes: string;
  digest: Buffer;
}

/** SHA-256 and length of a composite's bytes, its tiles read in order. */
async function digestComposite(client: pg.Client, atomId: string): Promise<{ digest: Buffer; bytes: number }> {
  const cursor = client.query(
    new Cursor<{ content: Buffer }>(
      `select a.content from hartonomous.compositions c
       join hartonomous.atoms a on a.kind = c.child_kind and a.id = c.child_id
       where c.parent_kind = 'composite' and c.parent_id = $1 order by c.ordinal`,
      [atomId],
    ),
  );
  const hash = createHash('sha256');
  let bytes = 0;
  for (;;) {
    const rows = await cursor.read(TILES_PER_FETCH);
    if (rows.length === 0) break;
    for (const { content } of rows) {
      hash.update(content);
      bytes += content.length;
    }
  }
  await cursor.close();
  return { digest: hash.digest(), bytes };
}

async function compareWithFile(file: string, sourceDigest: Buffer, matrices: readonly MatrixRow[]): Promise<string[]> {
  const handle = await open(file, 'r');
  try {
    const header = readGgufHeader(handle.fd);
    const digests = await hashTensors(handle, header);
    const differences: string[] = [];
    if (!digests.file.equals(sourceDigest)) {
      differences.push(
        `file ${file} has SHA-256 ${digests.file.toString('hex')}, the model came from ${sourceDigest.toString('hex')}`,
      );
    }
    const inFile = new Map(header.tensors.map((tensor, i) => [tensor.name, digests.tensors[i]!.digest]));
    for (const { name, digest } of matrices) {
      const other = inFile.get(name);
      if (other === undefined) differences.push(`tensor ${name} is not in file ${file}`);
      else if (!other.equals(digest))
        differences.push(
          `tensor ${name} has SHA-256 ${other.toString('hex')} in the file, ${digest.toString('hex')} in the database`,
        );
      inFile.delete(name);
    }
    for (const name of inFile.keys()) differences.push(`tensor ${name} of file ${file} is not in the database`);
    return differences;
  } finally {
    await handle.close();
  }
}

/** Verify one ready model. Throws when there is no such model. */
export async function verify(client: pg.Client, model: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  const found = await client.query<{ id: string; source: string | null; digest: Buffer }>(
    `select id, source, source_digest as digest from hartonomous.models where name = $1 and state = 'ready'`,
    [model],
  );
  const row = found.rows[0];
  if (row === undefined) throw new CommandError(`model ${model} does not exist`, { hint: 'see: hartonomous list' });
  const { rows: matrices } = await client.query<MatrixRow>(
    'select name, atom_id, size_bytes, digest from hartonomous.weight_matrices where model_id = $1 order by load_ordinal',
    [row.id],
  );
  const differences: string[] = [];
  let total = 0;
  for (const [i, matrix] of matrices.entries()) {
    const { digest, bytes } = await digestComposite(client, matrix.atom_id);
    total += bytes;
    if (!digest.equals(matrix.digest)) {
      differences.push(
        `tensor ${matrix.name} has SHA-256 ${digest.toString('hex')} over ${bytes} bytes, recorded were ${matrix.digest.toString('hex')} over ${matrix.size_bytes}`,
      );
    }
    options.onTensor?.(i + 1, matrices.length);
  }
  if (options.file !== undefined && !existsSync(options.file))
    throw new CommandError(`file ${options.file} does not exist`);
  const file = options.file ?? (row.source !== null && existsSync(row.source) ? row.source : null);
  if (file !== null) differences.push(...(await compareWithFile(file, row.digest, matrices)));
  return { model, tensors: matrices.length, bytes: total, file, differences };
}
