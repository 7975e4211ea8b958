import { test } from 'vitest';
import { isHere } from './model-files.ts';

/** Those of `names` that are here; for each other one a skipped test that says why, so that it is counted. */
export function availableModels(names: readonly string[]): string[] {
  for (const name of names)
    if (!isHere(name)) test.skip(`${name}: made by others, and ../shared/models is not beside the repository`);
  return names.filter(isHere);
}
