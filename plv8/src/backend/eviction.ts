/**
 * Which loaded models this backend drops: those that the tables no longer list as they were loaded, and the least recently
 * used one where another needs its room or its place (max_model_bytes, max_loaded_models).
 */
import { logEvent } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { giveBackMemory } from '../model/give-back.ts';
import type { Model, Precision } from '../model/model.ts';
import { forgetCaches } from './caches.ts';
import type { Catalog, ModelDescription } from './catalog.ts';
import type { Limits } from './limits.ts';
import { dropSegmentsOf } from './sharing.ts';

export interface Usage {
  calls: number;
  promptTokens: number;
  reusedTokens: number;
  generatedTokens: number;
  /** Calls that found the beginning of their prompt in a cache. */
  cacheHits: number;
}

export interface LoadedModel {
  readonly description: ModelDescription;
  readonly precision: Precision;
  readonly model: Model;
  readonly loadNs: number;
  readonly loadedAt: Date;
  lastUsedAt: Date;
  readonly usage: Usage;
}

/** By loadedKey. Insertion order is order of use: the first is the least recently used. */
export const loaded = new Map<string, LoadedModel>();

export function loadedKey(id: number, precision: Precision): string {
  return `${id}/${precision}`;
}

/** Free a loaded model and its caches. */
export function drop(key: string): void {
  const entry = loaded.get(key);
  if (entry === undefined) return;
  loaded.delete(key);
  logEvent('unload', {
    model: entry.description.name,
    memory_bytes: entry.model.memoryBytes,
    calls: entry.usage.calls,
  });
  forgetCaches(entry.model);
  entry.model.free();
  giveBackMemory();
}

/** Whether a model is gone from the tables, has another digest now or was stopped. */
export function isStale({ id, digest, unloadGeneration }: ModelDescription, catalog: Catalog): boolean {
  const row = catalog.models.find((model) => model.id === id);
  return row?.digest !== digest || row.unloadGeneration !== unloadGeneration;
}

/** Drop every model that the tables no longer list as it was loaded, and its segments, but those that are in use. */
export function dropStale(catalog: Catalog, isUsed: (model: Model) => boolean = () => false): void {
  for (const [key, entry] of loaded) {
    if (!isStale(entry.description, catalog) || isUsed(entry.model)) continue;
    drop(key);
    dropSegmentsOf(entry.description.digest, catalog);
  }
}

export function loadedIds(): Set<number> {
  return new Set([...loaded.values()].map((entry) => entry.description.id));
}

export function dropOldest(): void {
  const oldest = loaded.keys().next().value;
  if (oldest !== undefined) drop(oldest);
}

/** Drop models until `bytes` more stay within limit max_model_bytes. Throws where they alone do not. */
export function makeRoom(name: string, bytes: number, limits: Limits): void {
  const most = limits.get('max_model_bytes') ?? Infinity;
  if (bytes > most) {
    raise(SQLSTATE.configurationLimitExceeded, `model ${name} takes ${bytes} bytes, limit max_model_bytes is ${most}`, {
      hint: 'use a smaller model, or have the operator raise the limit with set_limit',
    });
  }
  const held = (): number => [...loaded.values()].reduce((sum, { model }) => sum + model.memoryBytes, 0);
  while (loaded.size > 0 && held() + bytes > most) dropOldest();
}
