/** Errors of this backend, which the loader of the bundle has counted for every function. */
import { returnNext } from '../db.ts';
import { callErrorRows } from '../backend/call-errors.ts';
import { currentCatalog } from '../backend/registry.ts';

export function callErrors(): void {
  currentCatalog();
  for (const row of callErrorRows()) returnNext(row);
}
