/** Tensors of plain numbers other than F32: stored as they are, computed with as floats. */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exportModel } from '../../cli/ingest/export.ts';
import { verify } from '../../cli/ingest/verify.ts';
import type { ElementType } from '../unit/gguf-writer.ts';
import { FileFolder, llamaBytes } from '../unit/gguf-writer.ts';
import { createDatabase, ingestFile } from './harness.ts';
import type { TestDatabase } from './harness.ts';

/** Tensors of a multiple of 32 elements, so that every type pads them alike and element i is the same weight. */
const SHAPE = { dim: 32, hidden: 64, vocab: 2 };
/** Whole numbers that every one of these types holds. */
const weight = (i: number): number => ((i * 7919) % 7) - 3;

const TYPES: Record<string, ElementType> = {
  F64: { id: 28, bytes: 8, write: (data, value, at) => void data.writeDoubleLE(value, at) },
  I8: { id: 24, bytes: 1, write: (data, value, at) => void data.writeInt8(value, at) },
  I16: { id: 25, bytes: 2, write: (data, value, at) => void data.writeInt16LE(value, at) },
  I32: { id: 26, bytes: 4, write: (data, value, at) => void data.writeInt32LE(value, at) },
  I64: { id: 27, bytes: 8, write: (data, value, at) => void data.writeBigInt64LE(BigInt(value), at) },
};

const folder = new FileFolder();
let database: TestDatabase;
let client: pg.Client;
let expected: unknown;

async function logits(model: string): Promise<unknown> {
  return (await client.query('select hartonomous.logits(array[0, 1, 0], $1) as logits', [model])).rows[0];
}

beforeAll(async () => {
  database = await createDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await ingestFile(database.url, folder.write(llamaBytes(SHAPE, weight)), 'f32');
  expected = await logits('f32');
});

afterAll(async () => {
  await client.end();
  await database.drop();
  folder.remove();
});

test.each(Object.keys(TYPES))('%s gives the logits of the same numbers in F32, and the file back', async (name) => {
  const file = folder.write(llamaBytes(SHAPE, weight, TYPES[name]));
  await ingestFile(database.url, file, name);
  expect(await logits(name)).toEqual(expected);
  expect(await verify(client, name)).toMatchObject({ differences: [] });
  const copy = `${file}.copy`;
  await exportModel(client, name, copy);
  expect(readFileSync(copy).equals(readFileSync(file))).toBe(true);
});

test('F64 beyond the floats is refused by the name of the tensor', async () => {
  const huge = folder.write(llamaBytes(SHAPE, () => 1e300, TYPES.F64));
  await ingestFile(database.url, huge, 'huge');
  await expect(logits('huge')).rejects.toThrow(/tensor .* has an infinite or undefined value/);
});
