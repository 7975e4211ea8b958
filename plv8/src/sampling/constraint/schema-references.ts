/** References within a schema: what a $ref leads to, and that none leads in a circle. */
import { invalid, isObject, MAX_DEPTH } from './schema.ts';

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
  for (const part of fragment.split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) {
      invalid(pointer, 'the reference leads nowhere');
    }
    value = (value as Record<string, unknown>)[key];
  }
  if (fragment !== '' && !fragment.startsWith('/')) invalid(pointer, 'the reference leads nowhere');
  return value;
}

/** References that a schema follows without opening a bracket. */
function directReferences(schema: unknown, depth: number): string[] {
  if (!isObject(schema) || depth > MAX_DEPTH) return [];
  if (typeof schema.$ref === 'string') return [schema.$ref];
  const members = schema.anyOf ?? schema.allOf;
  return Array.isArray(members) ? members.flatMap((member) => directReferences(member, depth + 1)) : [];
}
