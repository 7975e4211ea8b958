/** COPY ... (format binary): https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4 */
import { once } from 'node:events';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const TRAILER = Buffer.from([0xff, 0xff]);

export type Field = Buffer | null;

export function int2(value: number): Buffer {
  const out = Buffer.allocUnsafe(2);
  out.writeInt16BE(value);
  return out;
}

export function int4(value: number): Buffer {
  const out = Buffer.allocUnsafe(4);
  out.writeInt32BE(value);
  return out;
}

export function int8(value: bigint | number): Buffer {
  const out = Buffer.allocUnsafe(8);
  out.writeBigInt64BE(BigInt(value));
  return out;
}

export function float4(value: number): Buffer {
  const out = Buffer.allocUnsafe(4);
  out.writeFloatBE(value);
  return out;
}

/** Rows are put together to chunks of about this size before they are sent. */
const CHUNK_BYTES = 1 << 18;

/** The parts of a row up to the bytes of its last field, which has `lastBytes` of them. */
export function rowBefore(fields: readonly Field[], lastBytes: number): Buffer {
  return Buffer.concat([int2(fields.length + 1), ...fields.flatMap(encoded), int4(lastBytes)]);
}

function encoded(field: Field): Buffer[] {
  return field === null ? [int4(-1)] : [int4(field.length), field];
}

/** Send encoded rows through one COPY; memory stays bounded by the stream's own buffer. A chunk may end inside a row. */
export async function copyChunks(client: pg.Client, target: string, chunks: Iterable<Buffer>): Promise<void> {
  const stream = client.query(copyFrom(`copy ${target} from stdin (format binary)`));
  let failure: Error | null = null;
  const finished = new Promise<void>((resolve, reject) => {
    stream.once('finish', () => resolve());
    // More than one where the server goes down: its last message, then the socket's end.
    stream.on('error', (error: Error) => {
      failure ??= error;
      reject(error);
    });
  });
  finished.catch(() => undefined);
  const write = async (chunk: Buffer): Promise<void> => {
    if (failure === null && !stream.write(chunk)) await Promise.race([once(stream, 'drain'), finished]);
  };
  try {
    await write(SIGNATURE);
    for (const chunk of chunks) {
      if (failure !== null) break;
      await write(chunk);
    }
  } catch (error) {
    // Rows that cannot be made end the statement too; else the connection would wait for more of them for ever.
    stream.destroy(error as Error);
    await finished.catch(() => undefined);
    throw error;
  }
  if (failure === null) {
    stream.write(TRAILER);
    stream.end();
  }
  await finished;
}

function* chunksOf(rows: Iterable<readonly Field[]>): Generator<Buffer> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for (const row of rows) {
    parts.push(int2(row.length));
    bytes += 2;
    for (const field of row) {
      parts.push(...encoded(field));
      bytes += 4 + (field?.length ?? 0);
    }
    if (bytes >= CHUNK_BYTES) {
      yield Buffer.concat(parts);
      parts = [];
      bytes = 0;
    }
  }
  if (bytes > 0) yield Buffer.concat(parts);
}

/** Send rows through one COPY. */
export async function copyRows(client: pg.Client, target: string, rows: Iterable<readonly Field[]>): Promise<void> {
  await copyChunks(client, target, chunksOf(rows));
}
