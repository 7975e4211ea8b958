/** Models of the database and of this backend. */
import { returnNext } from '../db.ts';
import type { Purpose } from '../backend/catalog.ts';
import { defaultName, findModel } from '../backend/catalog.ts';
import { currentCatalog, loadedModelRows } from '../backend/registry.ts';
import { unloadEverywhere } from '../generate/engine/ask-unload.ts';

export { kernelFacts, setDefaultModel } from '../backend/registry.ts';

export function defaultModel(): string | null {
  return usedDefault('text');
}

export function defaultEmbeddingModel(): string | null {
  return usedDefault('embedding');
}

/** Throws where the chosen one is gone. */
function usedDefault(purpose: Purpose): string | null {
  const catalog = currentCatalog();
  return defaultName(catalog, purpose) === null ? null : findModel(catalog, null, purpose).name;
}

export function unload(model: string | null): number {
  return unloadEverywhere(model);
}

export function loadedModels(): void {
  for (const row of loadedModelRows()) returnNext(row);
}
