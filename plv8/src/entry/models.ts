/** Models of the database and of this backend. */
import { returnNext } from '../db.ts';
import { findModel } from '../backend/catalog.ts';
import { currentCatalog, loadedModelRows, unloadModels } from '../backend/registry.ts';

export { setDefaultModel } from '../backend/registry.ts';

export function defaultModel(): string | null {
  const catalog = currentCatalog();
  if (catalog.defaultName === null && catalog.models.length !== 1) return null;
  return findModel(catalog, null).name;
}

export function unload(model: string | null): number {
  return unloadModels(model);
}

export function loadedModels(): void {
  for (const row of loadedModelRows()) returnNext(row);
}
