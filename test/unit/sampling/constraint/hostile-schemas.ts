/** Schemas that are deep, huge or exponential, each with the line in which it ends. */

const numbered = (count: number, each: (i: number) => unknown): Record<string, unknown> =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [String(i), each(i)]));
const many = <T>(count: number, each: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => each(i));

/** Schemas as text, since the deep ones cannot be made by JSON.stringify. */
export const HOSTILE: [string, string, RegExp][] = [
  ['deep', `${'{"items":'.repeat(5000)}true${'}'.repeat(5000)}`, /nests/],
  ['huge', JSON.stringify({ enum: many(60_000, (i) => `v${i}`) }), /at most 262144 are read/],
  [
    'exponential',
    JSON.stringify({
      $ref: '#/$defs/0',
      $defs: numbered(60, (i) =>
        i === 59 ? { type: 'null' } : { items: { $ref: `#/$defs/${i + 1}` }, type: 'array', minItems: 2, maxItems: 2 },
      ),
    }),
    /needs at least \d+(e\+\d+)? tokens/,
  ],
  [
    'doubling without a bracket',
    JSON.stringify({
      $ref: '#/$defs/0',
      $defs: numbered(40, (i) => (i === 39 ? {} : { allOf: many(2, () => ({ $ref: `#/$defs/${i + 1}` })) })),
    }),
    /needs more than \d+ steps/,
  ],
  [
    'doubling beside a value',
    JSON.stringify({
      enum: [1],
      not: { not: { $ref: '#/$defs/0' } },
      $defs: numbered(40, (i) => (i === 39 ? {} : { allOf: many(2, () => ({ $ref: `#/$defs/${i + 1}` })) })),
    }),
    /needs more than \d+ steps/,
  ],
  [
    'alternatives of alternatives',
    JSON.stringify({ allOf: many(30, (i) => ({ anyOf: many(3, (j) => ({ required: [`a${i}_${j}`] })) })) }),
    /has more than 400 alternatives/,
  ],
  [
    'alternatives that exclude each other',
    JSON.stringify({ allOf: many(20, () => ({ anyOf: many(390, (i) => ({ const: i })) })) }),
    /needs more than \d+ steps/,
  ],
  [
    'members that exclude each other',
    JSON.stringify({ oneOf: many(60, (i) => ({ properties: numbered(9, (j) => ({ minLength: i + j })) })) }),
    /has more than 400 alternatives|needs more than \d+ steps/,
  ],
  [
    'patterns of names',
    JSON.stringify({ patternProperties: Object.fromEntries(many(40, (i) => [`^.*a.{${i}}$`, {}])) }),
    /"patternProperties" at # is not supported with more than 4 patterns/,
  ],
  [
    'a circle of references',
    JSON.stringify({ $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }, {}] } }, $ref: '#/$defs/a' }),
    /refers to itself/,
  ],
];

/** Those that take seconds until they are found out; npm test tries one of them. */
export const SLOW: [string, string, RegExp][] = [
  ['wide', JSON.stringify({ type: 'object', properties: numbered(3000, () => ({})) }), /needs more than 300000 states/],
  [
    'patterns of names that need all subsets',
    JSON.stringify({ patternProperties: Object.fromEntries(many(4, (i) => [`a.{${20 + i}}$`, {}])) }),
    /needs more than \d+ states/,
  ],
  [
    'a pattern with a count of counts',
    JSON.stringify({ pattern: '^((((a?){99}){99}){99}){99}b$', minLength: 3 }),
    /needs more than \d+ states/,
  ],
  [
    'a pattern whose automaton doubles with each letter',
    JSON.stringify({ pattern: 'a.{40}$', minLength: 41 }),
    /needs more than \d+ states/,
  ],
  [
    'look-aheads that double',
    JSON.stringify({ pattern: `^${many(24, (i) => `(?=.*${String.fromCharCode(97 + i)})`).join('')}.*$` }),
    /needs more than \d+ states/,
  ],
  [
    'many large patterns',
    JSON.stringify({
      properties: numbered(60, (i) => ({ pattern: `^[a-z]+${i}$`, minLength: 9000 })),
      required: many(60, (i) => String(i)),
    }),
    /needs more than \d+ states|tokens/,
  ],
  [
    'a chain of references through members',
    JSON.stringify({
      $ref: '#/$defs/0',
      $defs: numbered(3500, (i) =>
        i === 3499 ? {} : { required: ['a'], properties: { a: { $ref: `#/$defs/${i + 1}` } } },
      ),
    }),
    /nests too deep|needs at least \d+ tokens/,
  ],
  [
    'sets of values',
    JSON.stringify({ type: 'array', uniqueItems: true, minItems: 1000, items: { enum: many(2000, (i) => i) } }),
    /needs more than 300000 states/,
  ],
  [
    'contained items',
    JSON.stringify({ allOf: many(6, (i) => ({ contains: { const: i }, minContains: 60 })), type: 'array' }),
    /needs more than \d+ (states|steps)/,
  ],
];
