/** Errors of this backend, which the loader of the bundle has counted for every function. */
import { returnNext } from '../db.ts';
import { callErrorRows } from '../generate/call-errors.ts';
import { currentCatalog } from '../generate/registry.ts';

export { counted } from '../generate/call-errors.ts';

export function callErrors(): void {
  currentCatalog();
  for (const row of callErrorRows()) returnNext(row);
}
