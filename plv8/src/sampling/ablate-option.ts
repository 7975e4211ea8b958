/** Option `ablate`: parts of the network that a call leaves out. */
import { raise, SQLSTATE } from '../errors.ts';
import type { AblatedParts } from '../format/ablated-parts.ts';
import { quoted } from '../format/visible-text.ts';

/** Parts of one call. */
const MAX_PARTS = 10_000;

const LISTS = { heads: ['layer', 'head'], ffns: ['layer'], neurons: ['layer', 'index'] } as const;

function refuse(rule: string, value: unknown): never {
  raise(SQLSTATE.invalidParameterValue, `option ablate must be ${rule}, got ${quoted(value, 60)}`);
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** {"heads": [{"layer": 3, "head": 1}], "ffns": [{"layer": 3}], "neurons": [{"layer": 3, "index": 5}], "by": "mean", "from": 12} */
export function ablatedParts(given: unknown): AblatedParts {
  if (!isRecord(given)) refuse('an object with heads, ffns or neurons', given);
  for (const key of Object.keys(given)) {
    if (!(key in LISTS) && key !== 'by' && key !== 'from')
      refuse('an object of heads, ffns, neurons, by and from', { [key]: given[key] });
  }
  const listOf = (name: keyof typeof LISTS): Record<string, number>[] => {
    const list = given[name] ?? [];
    const fields: readonly string[] = LISTS[name];
    const form = `{${fields.map((field) => `"${field}": number`).join(', ')}}`;
    if (!Array.isArray(list)) refuse(`an object whose ${name} are an array of ${form}`, list);
    return list.map((part: unknown) => {
      const fits =
        isRecord(part) && Object.keys(part).length === fields.length && fields.every((field) => isCount(part[field]));
      return fits ? (part as Record<string, number>) : refuse(`an object whose ${name} are an array of ${form}`, part);
    });
  };
  const by = given.by ?? 'zero';
  if (by !== 'zero' && by !== 'mean') refuse('an object whose by is zero or mean', by);
  const from = given.from ?? 0;
  if (!isCount(from)) refuse('an object whose from is a position, from 0', from);
  const parts = {
    heads: listOf('heads') as AblatedParts['heads'],
    ffns: listOf('ffns') as AblatedParts['ffns'],
    neurons: listOf('neurons') as AblatedParts['neurons'],
    by,
    from,
  } as const;
  const count = parts.heads.length + parts.ffns.length + parts.neurons.length;
  if (count === 0 || count > MAX_PARTS) refuse(`an object that names 1 to ${MAX_PARTS} parts`, given);
  return parts;
}
