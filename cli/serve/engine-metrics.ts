/** What the engine of the database does, for `/api/ps` and Prometheus: the row of hartonomous.engine_list as it is when it is asked for. */
import { Counter, Gauge, Registry } from 'prom-client';

const NS = 1e-9;

/** A row of engine_list; numbers that PostgreSQL has as bigint come as texts. */
export interface EngineRow extends Record<string, unknown> {
  started_at: Date;
  models: string[];
}

/** Column, name and unit of what is shown, and how many of it there are in one of the column's. */
const COUNTERS = [
  ['answers', 'answers', 'answers that were written to their end', 1],
  ['failures', 'failures', 'requests that ended with an error', 1],
  ['passes', 'passes', 'passes over the weights', 1],
  ['prompt_tokens', 'prompt_tokens', 'tokens of the prompts that were begun', 1],
  ['reused_tokens', 'cached_prompt_tokens', 'part of these that a cache had', 1],
  ['generated_tokens', 'generated_tokens', 'tokens written', 1],
  ['busy_ns', 'busy_seconds', 'seconds of computing', NS],
] as const;
const GAUGES = [
  ['requests_waiting', 'requests_waiting', 'requests of which nothing is computed yet', 1],
  ['requests_running', 'requests_running', 'requests whose prompt is read or whose answer is written', 1],
  ['latest_batch', 'latest_batch', 'answers and prompts in the latest pass', 1],
  ['mean_batch', 'mean_batch', 'answers and prompts in a pass, the mean of all', 1],
  ['mean_rows', 'mean_rows', 'tokens evaluated in a pass, the mean of all', 1],
  ['tokens_per_second', 'tokens_per_second', 'tokens written in a second of computing', 1],
  ['first_token_ns', 'first_token_seconds', 'seconds from a request to its first token, the mean of all', NS],
  ['memory_bytes', 'memory_bytes', 'memory of weights, caches and activations', 1],
  ['cache_bytes', 'cache_bytes', 'part of it that key/value caches take', 1],
  ['cached_tokens', 'cached_tokens', 'tokens whose keys and values are kept for later requests', 1],
] as const;

/** The row with numbers as JSON has them, without the models, which are listed beside it. */
export function engineFacts({ started_at, models, ...numbers }: EngineRow): Record<string, string | number | null> {
  void models;
  const shown = Object.entries(numbers).map(([name, value]) => [name, value === null ? null : Number(value)] as const);
  return { ...Object.fromEntries(shown), started_at: started_at.toISOString() };
}

/** The text for an engine; empty for null. Its counts begin anew with each engine, as Prometheus expects of a process. */
export async function engineMetrics(row: EngineRow | null): Promise<string> {
  if (row === null) return '';
  const registry = new Registry();
  const registers = [registry];
  for (const [column, name, help, unit] of COUNTERS) {
    new Counter({ name: `hartonomous_engine_${name}_total`, help, registers }).inc(Number(row[column] ?? 0) * unit);
  }
  for (const [column, name, help, unit] of GAUGES) {
    if (row[column] === null) continue; // no pass yet, or no answer, of which there is no mean
    new Gauge({ name: `hartonomous_engine_${name}`, help, registers }).set(Number(row[column]) * unit);
  }
  return registry.metrics();
}
