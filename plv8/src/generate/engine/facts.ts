/** What an engine shows others of itself and of its requests. The host keeps numbers without names; here they have theirs. */

/** Of an engine, since it began. */
const ENGINE_FACTS = [
  'passes',
  'rows', // tokens evaluated in them
  'sequences', // answers and prompts in them, each counted once a pass
  'latest', // sequences of the latest pass
  'busyMs', // milliseconds of them
  'answers',
  'failures', // requests that ended in an error
  'promptTokens', // of requests that were taken up
  'reusedTokens', // of these, those that a cache had
  'generatedTokens',
  'firstTokens', // answers that have one
  'firstTokenMs', // milliseconds from the request to it, summed over them
  'memoryBytes',
  'cacheBytes', // of these, those of key/value caches
  'cachedTokens',
] as const;

/** Of a request. */
const REQUEST_FACTS = [
  'place', // 1: it has one among those that are computed
  'promptTokens',
  'reusedTokens',
  'generatedTokens',
  'firstTokenAt', // milliseconds since 1970; 0: there is none yet
] as const;

export type EngineFacts = Record<(typeof ENGINE_FACTS)[number], number>;
export type RequestFacts = Record<(typeof REQUEST_FACTS)[number], number>;

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>;
}

function named<Name extends string>(names: readonly Name[], numbers: readonly number[]): Record<Name, number> {
  return Object.fromEntries(names.map((name, i) => [name, numbers[i] ?? 0])) as Record<Name, number>;
}

export const newEngineFacts = (): EngineFacts => zeros(ENGINE_FACTS);
export const newRequestFacts = (): RequestFacts => zeros(REQUEST_FACTS);

export const engineNumbers = (facts: EngineFacts): number[] => ENGINE_FACTS.map((name) => facts[name]);
export const requestNumbers = (facts: RequestFacts): number[] => REQUEST_FACTS.map((name) => facts[name]);

export const engineFacts = (numbers: readonly number[]): EngineFacts => named(ENGINE_FACTS, numbers);
export const requestFacts = (numbers: readonly number[]): RequestFacts => named(REQUEST_FACTS, numbers);
