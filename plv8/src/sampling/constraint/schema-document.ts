/** A schema with what its references lead to, and how much work it may make. */
import { raise, SQLSTATE } from '../../errors.ts';
import { isObject } from '../../format/json-object.ts';
import { byteText, utf8Encoding } from './characters.ts';
import type { Expression, ExpressionRoom } from './expression.ts';
import { Expressions } from './expression.ts';
import { compilePattern } from './pattern.ts';
import { invalid, MAX_DEPTH } from './schema-keywords.ts';

/** Steps of working out what a schema says: some thousands for one that a person wrote, two seconds of work at most. */
const MAX_STEPS = 300_000;

export class SchemaDocument {
  private readonly targets = new Map<string, unknown>();
  /** References that lead to a bracket sooner or later; false while that is not known yet. */
  private readonly straight = new Map<string, boolean>();
  private readonly patterns = new Map<string, { expressions: Expressions; start: Expression }>();
  private steps = 0;

  constructor(
    readonly root: unknown,
    private readonly poll: () => void = () => undefined,
    private readonly room?: ExpressionRoom,
  ) {}

  /** Count steps. Throws programLimitExceeded where there are too many, as alternatives of alternatives make. */
  step(count = 1): void {
    this.steps += count;
    if (this.steps > MAX_STEPS) {
      raise(SQLSTATE.programLimitExceeded, `schema needs more than ${MAX_STEPS} steps to be worked out`, {
        hint: 'fewer alternatives in allOf, anyOf, oneOf and not need fewer',
      });
    }
    if (this.steps % 1024 < count) this.poll();
  }

  /** What a reference within the document leads to. Throws where it leads nowhere, or in a circle. */
  target(reference: string): unknown {
    this.refuseCircle(reference);
    return this.lookUp(reference);
  }

  /** Whether a text matches a pattern, byte by byte: V8's own way may take time that doubles with each character. */
  matches(pattern: string, text: string): boolean {
    let known = this.patterns.get(pattern);
    if (known === undefined) {
      const expressions = new Expressions(this.poll, this.room);
      const start = compilePattern(expressions, pattern, utf8Encoding(expressions), 'part');
      expressions.close();
      this.patterns.set(pattern, (known = { expressions, start }));
    }
    const { expressions } = known;
    let state = known.start;
    for (const byte of byteText(text)) state = expressions.derive(state, byte.charCodeAt(0));
    return expressions.acceptsEmpty(state);
  }

  /** A schema that leads to itself before a bracket is opened describes nothing. */
  private refuseCircle(reference: string): void {
    const known = this.straight.get(reference);
    if (known === true) return;
    if (known === false) invalid(reference, 'the schema refers to itself without an object or array between');
    this.straight.set(reference, false);
    for (const next of directReferences(this.lookUp(reference), 0)) if (next.startsWith('#')) this.refuseCircle(next);
    this.straight.set(reference, true);
  }

  private lookUp(pointer: string): unknown {
    if (!this.targets.has(pointer)) this.targets.set(pointer, lookUp(this.root, pointer));
    return this.targets.get(pointer);
  }
}

/** Keywords whose values are data and no schemas. */
const DATA: ReadonlySet<string> = new Set(['const', 'enum', 'default', 'example', 'examples']);
/** Keywords whose values are schemas by names, which may be those of keywords. */
const BY_NAME: ReadonlySet<string> = new Set([
  ...['$defs', 'definitions', 'properties', 'patternProperties', 'dependentSchemas', 'dependencies'],
]);

/**
 * Refuse a schema within the document that has an address of its own ($id) and references to its own parts (#/...), which
 * would be looked for in the whole document.
 */
export function refuseOwnAddresses(root: unknown): void {
  const first = { value: root, path: '#', own: null as string | null, byName: false };
  const waiting = [first];
  for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) {
    const { value, path, byName } = one;
    if (typeof value !== 'object' || value === null) continue;
    const { $id, $ref } = byName ? {} : (value as Record<string, unknown>);
    const addressed = path !== '#' && typeof $id === 'string' && !$id.startsWith('#');
    const own = addressed ? path : one.own;
    if (own !== null && typeof $ref === 'string' && $ref.startsWith('#')) {
      raise(SQLSTATE.featureNotSupported, `schema $id at ${own} with references to its own parts is not supported`, {
        hint: `leave $id out; references, as at ${path}, then lead into the whole schema`,
      });
    }
    for (const [key, member] of Object.entries(value))
      if (byName || !DATA.has(key))
        waiting.push({ value: member, path: `${path}/${key}`, own, byName: !byName && BY_NAME.has(key) });
  }
}

/** What a JSON pointer (RFC 6901) in a fragment leads to. */
function lookUp(root: unknown, pointer: string): unknown {
  let value: unknown = root;
  let fragment: string;
  try {
    fragment = decodeURIComponent(pointer.slice(1));
  } catch {
    invalid(pointer, 'the reference is not valid');
  }
  if (fragment !== '' && !fragment.startsWith('/')) {
    return named(root, fragment) ?? invalid(pointer, 'the reference leads nowhere');
  }
  for (const part of fragment.split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) {
      invalid(pointer, 'the reference leads nowhere');
    }
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}

/** References that a schema follows without opening a bracket. */
function directReferences(schema: unknown, depth: number): string[] {
  if (!isObject(schema) || depth > MAX_DEPTH) return [];
  const own = typeof schema.$ref === 'string' ? [schema.$ref] : [];
  const lists = [schema.allOf, schema.anyOf, schema.oneOf].flatMap((list): unknown[] =>
    Array.isArray(list) ? list : [],
  );
  const dependent = [schema.dependentSchemas, schema.dependencies].flatMap((each) =>
    isObject(each) ? Object.values(each) : [],
  );
  const members = [...lists, schema.not, schema.if, schema.then, schema.else, ...dependent];
  return [...own, ...members.flatMap((member) => directReferences(member, depth + 1))];
}

/** The schema within `value` that names itself so by $anchor (or $id, as draft 7 does); undefined where none does. */
function named(value: unknown, name: string, depth = 0): unknown {
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return undefined;
  const { $anchor, $dynamicAnchor, $id, id } = value as Record<string, unknown>;
  if ($anchor === name || $dynamicAnchor === name || $id === `#${name}` || id === `#${name}`) return value;
  for (const member of Object.values(value)) {
    const found = named(member, name, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}
