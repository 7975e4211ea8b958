/**
 * The exported surface: one function per SQL function of plv8/functions/*.sql, called with its arguments as they are.
 * One file a topic, as there. `entry/loader.ts` is for the loader alone.
 */
export * from './entry/batches.ts';
export * from './entry/call-errors.ts';
export * from './entry/classification.ts';
export * from './entry/constrained.ts';
export * from './entry/embeddings.ts';
export * from './entry/engine.ts';
export * from './entry/explain.ts';
export * from './entry/generation.ts';
export * from './entry/ingest.ts';
export * from './entry/loader.ts';
export * from './entry/mathematics.ts';
export * from './entry/models.ts';
export * from './entry/nearest.ts';
export * from './entry/search.ts';
export * from './entry/segments.ts';
export * from './entry/sessions.ts';
export * from './entry/tokens.ts';
