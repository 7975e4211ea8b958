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

/** Send rows through one COPY; memory stays bounded by the stream's own buffer. */
export async function copyRows(client: pg.Client, target: string, rows: Iterable<Field[]>): Promise<void> {
  const stream = client.query(copyFrom(`copy ${target} from stdin (format binary)`));
  let failure: Error | null = null;
  const finished = new Promise<void>((resolve, reject) => {
    stream.once('finish', () => resolve());
    stream.once('error', (error: Error) => {
      failure = error;
      reject(error);
    });
  });
  finished.catch(() => undefined);
  const write = async (chunk: Buffer): Promise<void> => {
    if (failure === null && !stream.write(chunk)) await Promise.race([once(stream, 'drain'), finished]);
  };
  try {
    await write(SIGNATURE);
    for (const row of rows) {
      if (failure !== null) break;
      const parts: Buffer[] = [int2(row.length)];
      for (const field of row) {
        if (field === null) parts.push(int4(-1));
        else parts.push(int4(field.length), field);
      }
      await write(Buffer.concat(parts));
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
