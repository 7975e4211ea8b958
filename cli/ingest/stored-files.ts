/** The files of a stored model, put together again from their frames and tiles. */
import { createHash } from 'node:crypto';
import type pg from 'pg';
import Cursor from 'pg-cursor';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import { gapsBetween } from './frame.ts';

/** Tiles fetched at once; a tile is about a megabyte. */
const TILES_PER_FETCH = 8;

export interface StoredTensor {
  name: string;
  file: number;
  offset: number;
  sizeBytes: number;
  atomId: string;
  digest: Buffer;
}

export interface StoredFile {
  ordinal: number;
  name: string;
  size: number;
  digest: Buffer;
  /** In file order. */
  tensors: StoredTensor[];
}

export interface StoredModel {
  id: string;
  name: string;
  source: string | null;
  format: string;
  digest: Buffer;
  /** Empty where the model was ingested by a version that kept no frames. */
  files: StoredFile[];
  /** All tensors by place in their file. */
  tensors: StoredTensor[];
}

/** What the tables say of a ready model. Throws when there is none of this name. */
export async function storedModel(client: pg.Client, name: string): Promise<StoredModel> {
  const found = await client.query<{ id: string; source: string | null; format: string; digest: Buffer }>(
    `select id, source, source_format as format, source_digest as digest
     from hartonomous.models where name = $1 and state = 'ready'`,
    [name],
  );
  const model = found.rows[0];
  if (model === undefined)
    throw new CommandError(`model ${brief(name)} does not exist`, { hint: 'see: hartonomous list' });
  const matrices = await client.query<StoredTensor>(
    `select name, source_file as file, source_offset::float8 as offset, size_bytes::float8 as "sizeBytes", atom_id as "atomId", digest
     from hartonomous.weight_matrices where model_id = $1 order by source_file, source_offset`,
    [model.id],
  );
  const files = await client.query<Omit<StoredFile, 'tensors'>>(
    `select ordinal, name, size_bytes::float8 as size, digest from hartonomous.source_files where model_id = $1 order by ordinal`,
    [model.id],
  );
  const tensors = matrices.rows;
  return {
    ...model,
    name,
    tensors,
    files: files.rows.map((file) => ({ ...file, tensors: tensors.filter((tensor) => tensor.file === file.ordinal) })),
  };
}

/** Bytes of a tensor, its tiles in order. */
export async function* tensorBytes(client: pg.Client, tensor: StoredTensor): AsyncGenerator<Buffer> {
  const cursor = client.query(
    new Cursor<{ content: Buffer }>(
      `select a.content from hartonomous.compositions c
       join hartonomous.atoms a on a.kind = c.child_kind and a.id = c.child_id
       where c.parent_kind = 'composite' and c.parent_id = $1 order by c.ordinal`,
      [tensor.atomId],
    ),
  );
  try {
    for (;;) {
      const rows = await cursor.read(TILES_PER_FETCH);
      if (rows.length === 0) return;
      for (const { content } of rows) yield content;
    }
  } finally {
    await cursor.close();
  }
}

/** A piece of a file; `tensor` is null for bytes outside of tensors. */
export interface FilePiece {
  tensor: StoredTensor | null;
  bytes: Buffer;
}

/** Bytes of a file in order. */
export async function* fileBytes(client: pg.Client, model: StoredModel, file: StoredFile): AsyncGenerator<FilePiece> {
  const { rows } = await client.query<{ frame: Buffer }>(
    'select frame from hartonomous.source_files where model_id = $1 and ordinal = $2',
    [model.id, file.ordinal],
  );
  const frame = rows[0]?.frame ?? Buffer.alloc(0);
  const extents = [
    ...gapsBetween(file.tensors, file.size).map((gap) => ({ ...gap, tensor: null })),
    ...file.tensors.map((tensor) => ({ offset: tensor.offset, sizeBytes: tensor.sizeBytes, tensor })),
  ].sort((a, b) => a.offset - b.offset || a.sizeBytes - b.sizeBytes);
  let at = 0;
  for (const { tensor, sizeBytes } of extents) {
    if (tensor === null) {
      yield { tensor: null, bytes: frame.subarray(at, at + sizeBytes) };
      at += sizeBytes;
    } else for await (const bytes of tensorBytes(client, tensor)) yield { tensor, bytes };
  }
}

/** SHA-256 and length of what is fed to it. */
export class Digest {
  private readonly hash = createHash('sha256');
  bytes = 0;

  update(piece: Buffer): void {
    this.hash.update(piece);
    this.bytes += piece.length;
  }

  finish(): Buffer {
    return this.hash.digest();
  }
}
