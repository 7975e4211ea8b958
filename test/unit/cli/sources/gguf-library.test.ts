/** Our reader against the one of the npm package @huggingface/gguf, which reads the same format by its own code. */
import { closeSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gguf } from '@huggingface/gguf';
import { expect, test } from 'vitest';
import { packageRoot } from '../../../../cli/package-root.ts';
import { readGgufHeader } from '../../../../cli/sources/gguf.ts';
import type { GgufValue } from '../../../../cli/sources/gguf.ts';
import { StringTable } from '../../../../cli/sources/string-table.ts';

const MODELS = join(packageRoot(), 'test/golden/models');
const FILES = ['zoo', 'quants'].flatMap((folder) =>
  readdirSync(join(MODELS, folder))
    .filter((name) => name.endsWith('.gguf'))
    .map((name) => join(folder, name)),
);

function plain(value: GgufValue): unknown {
  if (value instanceof StringTable) return Array.from({ length: value.length }, (_, i) => value.at(i).toString());
  if (typeof value === 'object') return value.map(plain);
  return typeof value === 'bigint' ? Number(value) : value;
}

test.each(FILES)('%s has the same header for both readers', async (name) => {
  const path = join(MODELS, name);
  const theirs = await gguf(path, { allowLocalFile: true });
  const fd = openSync(path, 'r');
  try {
    const ours = readGgufHeader(fd);
    expect(ours.dataOffset).toBe(Number(theirs.tensorDataOffset));
    expect(ours.tensors.map((tensor) => [tensor.name, tensor.type.id, tensor.shape, tensor.offset])).toEqual(
      theirs.tensorInfos.map((info) => [
        info.name,
        Number(info.dtype),
        info.shape.map(Number),
        Number(theirs.tensorDataOffset) + Number(info.offset),
      ]),
    );
    const metadata = theirs.metadata as unknown as Record<string, unknown>;
    for (const [key, value] of ours.metadata) {
      const other = metadata[key];
      const list = Array.isArray(other) ? other.map((each) => (typeof each === 'bigint' ? Number(each) : each)) : other;
      expect(plain(value), key).toEqual(typeof list === 'bigint' ? Number(list) : list);
    }
  } finally {
    closeSync(fd);
  }
});
