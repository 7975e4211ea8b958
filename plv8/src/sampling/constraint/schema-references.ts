/** References within a schema: what a $ref leads to, and that none leads in a circle. */
import { isObject } from '../../format/json-object.ts';
import { invalid, MAX_DEPTH } from './schema-keywords.ts';

/** A schema that leads to itself before a bracket is opened describes nothing. */
export function refuseCircle(root: unknown, from: string): void {
  const seen = new Set<string>();
  const waiting = [from];
  for (let target = waiting.pop(); target !== undefined; target = waiting.pop()) {
    if (seen.has(target)) continue;
    seen.add(target);
    for (const next of directReferences(lookUp(root, target), 0)) {
      if (next === from) invalid(from, 'the schema refers to itself without an object or array between');
      if (next.startsWith('#')) waiting.push(next);
    }
  }
}

/** What a JSON pointer (RFC 6901) in a fragment leads to. */
export function lookUp(root: unknown, pointer: string): unknown {
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
