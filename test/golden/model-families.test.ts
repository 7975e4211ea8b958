/** docs/models.md lists what model-families.ts says, and that is what there are architectures and proofs for. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ARCHITECTURE_NAMES, isArchitectureName } from '../../plv8/src/format/architecture-names.ts';
import { FAMILIES, familyTable } from './model-families.ts';
import { modelPath } from './model-files.ts';

const ROOT = new URL('../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, ROOT), 'utf8');
/** Cells without what prettier fills columns up with. */
const plain = (table: string): string => table.replace(/ *\| */g, '|').replace(/-{3,}/g, '---');

it('docs/models.md has the table of families', () => {
  expect(plain(read('docs/models.md'))).toContain(plain(familyTable()));
});

it('a family works where its architecture is there, and every architecture has a family', () => {
  for (const { family, architecture, proof } of FAMILIES)
    expect(isArchitectureName(architecture), family).toBe(proof !== null);
  const proved = new Set(FAMILIES.map(({ architecture }) => architecture));
  expect(ARCHITECTURE_NAMES.filter((name) => !proved.has(name))).toEqual([]);
});

it.each(FAMILIES.filter(({ proof }) => proof !== null))('$family has a test with a model', ({ proof, real }) => {
  for (const model of proof!.models) {
    expect(existsSync(modelPath(`zoo/${model.replace(/(-f32)?$/, '-f32')}.gguf`)), model).toBe(true);
    // Names of models stand in the test or in the golden that it reads.
    const goldens = ['embedding-zoo', 'decoder-zoo'].map((name) => read(`test/golden/models/goldens/${name}.json`));
    const where = [read(proof!.test), read('test/golden/metadata-keys.json'), ...goldens];
    expect(
      where.some((text) => text.includes(model.replace(/^ollama-/, ''))),
      `${proof!.test}: ${model}`,
    ).toBe(true);
  }
  for (const { test, models } of real ?? []) {
    const where = (read(test) + read('test/golden/real-embedding-models.ts')).toLowerCase();
    for (const model of models) expect(where).toContain(model.toLowerCase().split('-135m')[0]);
  }
});
