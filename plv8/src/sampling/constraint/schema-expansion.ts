/**
 * What a schema says about one value, without the keywords that put schemas together: a list of alternatives, each a list of
 * leaves that hold at once. A leaf is a schema of which only the keywords about the value itself count, or the denial of one
 * of them. Alternatives of a denial that cannot be written are left out, which makes fewer texts and never a wrong one.
 */
import { isObject } from '../../format/json-object.ts';
import { writeJson, writtenNumber } from '../../format/ordered-json.ts';
import { raise, SQLSTATE } from '../../errors.ts';
import type { SchemaDocument } from './schema-document.ts';
import type { Schema, Type } from './schema-keywords.ts';
import {
  at,
  inPlace,
  invalid,
  kindOf,
  KEYWORDS,
  MAX_DEPTH,
  membersOf,
  sameJson,
  show,
  TYPES,
  typesOf,
  unsupported,
} from './schema-keywords.ts';
import { holds, isOfType, memberSchemas } from './schema-validity.ts';

/** A schema at its place. */
export interface Placed {
  schema: unknown;
  path: string;
}

export interface Leaf {
  schema: Schema;
  path: string;
  /** the one keyword that must not hold; undefined where all must */
  denied?: string;
  /** whether the leaf comes from a denial, which names members that nobody offers */
  fromDenial?: boolean;
  /** the schemas for the same value that the leaf is part of, itself included */
  within: readonly Schema[];
}

export type Alternative = readonly Leaf[];

/** Alternatives of one value. */
const MAX_ALTERNATIVES = 400;

const ALWAYS: readonly Alternative[] = [[]];

export class SchemaExpansion {
  /** Keywords that nobody defines, with their places. */
  readonly ignored = new Set<string>();
  private depth = 0;

  constructor(readonly document: SchemaDocument) {}

  /** Alternatives of a value for which all of `schemas` hold. */
  all(schemas: readonly Placed[]): readonly Alternative[] {
    return schemas.reduce((found, each) => this.both(found, this.expand(each, []), each.path), ALWAYS);
  }

  /** Whether `keyword`s that put schemas together stand in a schema. */
  isComposed(schema: unknown): boolean {
    return isObject(schema) && Object.keys(schema).some((keyword) => kindOf(keyword) === 'applicator');
  }

  private expand({ schema, path }: Placed, within: readonly Schema[]): readonly Alternative[] {
    if (schema === true) return ALWAYS;
    if (schema === false) return [];
    return this.inside(path, () => {
      if (!isObject(schema)) return invalid(path, `a schema must be an object or a boolean, got ${show(schema)}`);
      this.check(schema, path);
      const here = [...within, schema];
      let found: readonly Alternative[] = [[{ schema, path, within: here }]];
      for (const keyword of Object.keys(schema)) {
        if (kindOf(keyword) !== 'applicator') continue;
        found = this.both(found, this.applied(schema, keyword, path, here), path);
      }
      return found;
    });
  }

  /** Alternatives that one keyword allows. */
  private applied(schema: Schema, keyword: string, path: string, within: readonly Schema[]): readonly Alternative[] {
    const member = (i: number | string, value: unknown): Placed => ({ schema: value, path: `${path}/${keyword}/${i}` });
    switch (keyword) {
      case '$ref':
        return this.expand(this.target(schema.$ref, path), within);
      case 'allOf':
        return membersOf(schema, keyword, path).reduce<readonly Alternative[]>(
          (found, each, i) => this.both(found, this.expand(member(i, each), within), path),
          ALWAYS,
        );
      case 'anyOf':
        return membersOf(schema, keyword, path).flatMap((each, i) => this.expand(member(i, each), within));
      case 'oneOf':
        return this.oneOf(schema, path, within);
      case 'not': {
        const placed = { schema: schema.not, path: `${path}/not` };
        const found = this.deny(placed);
        if (found.length === 0 && this.expand(placed, within).length > 0 && !allowsAll(schema.not)) {
          unsupported(keyword, path, ' for this schema', 'types, values, bounds, patterns and members can be denied');
        }
        return found;
      }
      case 'if':
        return this.conditional(schema, path, within);
      case 'then':
      case 'else':
        return ALWAYS; // what `if` takes up
      default:
        return this.dependent(schema, keyword, path, within);
    }
  }

  /** Exactly one member: itself with a member that tells it apart, else without each other one that could hold too. */
  private oneOf(schema: Schema, path: string, within: readonly Schema[]): readonly Alternative[] {
    const members = membersOf(schema, 'oneOf', path).map((each, i) => ({ schema: each, path: `${path}/oneOf/${i}` }));
    const expanded = members.map((each) => this.expand(each, within));
    const found = expanded.flatMap((own, i) => {
      const overlaps = (j: number, alone: readonly Alternative[]): boolean =>
        i !== j && alone.length > 0 && this.both(alone, expanded[j]!, path).length > 0;
      return own.flatMap((one) => {
        const others = expanded.flatMap((each, j) => (overlaps(j, [one]) ? each : []));
        const tag = tellingMember(one, others) ?? (others.length === 0 ? discriminatorOf(schema, one) : null);
        if (tag !== null) return this.both([one], [[leaf({ type: 'object', required: [tag] }, path, within)]], path);
        return members.reduce<readonly Alternative[]>(
          (alone, other, j) => (overlaps(j, alone) ? this.both(alone, this.deny(other), path) : alone),
          [one],
        );
      });
    });
    if (found.length === 0 && expanded.filter((own) => own.length > 0).length > 1) {
      unsupported('oneOf', path, ' for these schemas', 'anyOf, or a member whose const tells them apart');
    }
    return found;
  }

  private conditional(schema: Schema, path: string, within: readonly Schema[]): readonly Alternative[] {
    if (schema.then === undefined && schema.else === undefined) return ALWAYS;
    const condition = { schema: schema.if, path: `${path}/if` };
    const then = this.expand({ schema: schema.then ?? true, path: `${path}/then` }, within);
    const otherwise = this.expand({ schema: schema.else ?? true, path: `${path}/else` }, within);
    return [
      ...this.both(this.expand(condition, within), then, path),
      ...this.both(this.deny(condition), otherwise, path),
    ];
  }

  /** dependentRequired, dependentSchemas, and `dependencies`, which says both. */
  private dependent(schema: Schema, keyword: string, path: string, within: readonly Schema[]): readonly Alternative[] {
    const dependencies = schema[keyword];
    if (!isObject(dependencies)) invalid(path, `${keyword} must be an object, got ${show(dependencies)}`);
    return Object.entries(dependencies).reduce<readonly Alternative[]>((found, [name, needed]) => {
      const place = `${path}/${keyword}/${name}`;
      const absent = { ...leaf({ properties: { [name]: false } }, place, within), fromDenial: true };
      const present = { ...leaf({ required: [name] }, place, within), fromDenial: true };
      if (Array.isArray(needed) && needed.some((each) => typeof each !== 'string')) {
        invalid(place, `required must be an array of texts, got ${show(needed)}`);
      }
      const further = Array.isArray(needed)
        ? [[leaf({ required: needed }, place, within)]]
        : this.expand({ schema: needed, path: place }, within);
      return this.both(found, [[absent], ...this.both([[present]], further, place)], path);
    }, ALWAYS);
  }

  /**
   * Alternatives of a value for which a schema does not hold, as far as they can be written. What is within a denial says
   * nothing about which members and items were looked at.
   */
  private deny({ schema, path }: Placed): readonly Alternative[] {
    if (typeof schema === 'boolean') return schema ? [] : ALWAYS;
    return this.inside(path, () => {
      if (!isObject(schema)) return invalid(path, `a schema must be an object or a boolean, got ${show(schema)}`);
      this.check(schema, path);
      return Object.keys(schema).flatMap((keyword) =>
        kindOf(keyword) === 'applicator'
          ? this.denyApplied(schema, keyword, path)
          : kindOf(keyword) === 'local'
            ? denials(schema, keyword, path).map((denial) => [{ ...denial, within: [], fromDenial: true }])
            : [],
      );
    });
  }

  private denyApplied(schema: Schema, keyword: string, path: string): readonly Alternative[] {
    const members = (): Placed[] =>
      membersOf(schema, keyword, path).map((each, i) => ({ schema: each, path: `${path}/${keyword}/${i}` }));
    const none = (placed: readonly Placed[]): readonly Alternative[] =>
      placed.reduce<readonly Alternative[]>((found, each) => this.both(found, this.deny(each), path), ALWAYS);
    switch (keyword) {
      case '$ref':
        return this.deny(this.target(schema.$ref, path));
      case 'allOf':
        return members().flatMap((each) => this.deny(each));
      case 'anyOf':
        return none(members());
      case 'oneOf': {
        const all = members();
        const two = all.flatMap((a, i) =>
          all.slice(i + 1).flatMap((b) => this.both(this.expand(a, []), this.expand(b, []), path)),
        );
        return [...none(all), ...two];
      }
      case 'not':
        return this.expand({ schema: schema.not, path: `${path}/not` }, []);
      case 'if': {
        const condition = { schema: schema.if, path: `${path}/if` };
        return [
          ...this.both(
            this.expand(condition, []),
            this.deny({ schema: schema.then ?? true, path: `${path}/then` }),
            path,
          ),
          ...this.both(this.deny(condition), this.deny({ schema: schema.else ?? true, path: `${path}/else` }), path),
        ];
      }
      default:
        return [];
    }
  }

  /** Alternatives of both lists at once, without those that contradict themselves. */
  private both(a: readonly Alternative[], b: readonly Alternative[], path: string): readonly Alternative[] {
    if (a === ALWAYS) return b;
    if (b === ALWAYS) return a;
    const found: Alternative[] = [];
    for (const left of a) {
      for (const right of b) {
        const together = [...left, ...right];
        if (this.contradicts(together, 0)) continue;
        if (found.push(together) > MAX_ALTERNATIVES) {
          raise(SQLSTATE.programLimitExceeded, `schema at ${at(path)} has more than ${MAX_ALTERNATIVES} alternatives`);
        }
      }
    }
    return found;
  }

  /** Whether no value can satisfy the leaves, as far as types, listed values and members that must be there tell. */
  private contradicts(leaves: Alternative, depth: number): boolean {
    this.document.step(leaves.length);
    const types = typesOfLeaves(leaves);
    if (types !== null && types.size === 0) return true;
    const listed = leaves.find(({ schema, denied }) => denied === undefined && listedValues(schema) !== null);
    if (listed !== undefined) {
      return !listedValues(listed.schema)!.some((value) => leaves.every((each) => this.allows(each, value)));
    }
    if (depth > 2 || types === null || types.size > 1 || !types.has('object')) return false;
    const objects = leaves.filter(({ denied }) => denied === undefined).map(({ schema }) => schema);
    return objects
      .flatMap(({ required }) => (Array.isArray(required) ? (required as string[]) : []))
      .some((name) => {
        const members = objects.flatMap((schema) => memberSchemas(this.document, schema, name));
        if (members.includes(false)) return true;
        const plain = members.filter((member) => isObject(member) && !this.isComposed(member)) as Schema[];
        return this.contradicts(
          plain.flatMap((schema) => [{ schema, path: '#', within: [] }]),
          depth + 1,
        );
      });
  }

  /** Whether a leaf allows a value. */
  allows({ schema, path, denied }: Leaf, value: unknown): boolean {
    const isKept = (keyword: string): boolean => holds(this.document, schema, keyword, value);
    // What is wrong with a pattern is found here first where a schema lists values.
    const isKeptHere = (keyword: string): boolean =>
      keyword === 'pattern' ? inPlace(path, () => isKept(keyword)) : isKept(keyword);
    if (denied !== undefined) return !isKeptHere(denied);
    return Object.keys(schema).every((keyword) => kindOf(keyword) !== 'local' || isKeptHere(keyword));
  }

  private check(schema: Schema, path: string): void {
    for (const keyword of Object.keys(schema)) {
      const kind = kindOf(keyword);
      if (kind === 'refused') unsupported(keyword, path);
      // Draft 3 has `required` in the member itself, where no later one looks for it.
      const isDraft3 = keyword === 'required' && typeof schema.required === 'boolean';
      if (kind === 'unknown' || isDraft3) this.ignored.add(`${show(keyword)} at ${at(path)}`);
    }
  }

  private target(reference: unknown, path: string): Placed {
    if (typeof reference !== 'string') invalid(path, `$ref must be a text, got ${show(reference)}`);
    if (!reference.startsWith('#')) {
      raise(SQLSTATE.featureNotSupported, `schema $ref ${show(reference)} at ${at(path)} is not supported`, {
        hint: 'only references within the schema are, as #/$defs/NAME',
      });
    }
    return { schema: this.document.target(reference), path: reference };
  }

  private inside<T>(path: string, work: () => T): T {
    this.document.step();
    if (++this.depth > MAX_DEPTH) {
      raise(SQLSTATE.programLimitExceeded, `schema at ${at(path)} nests deeper than ${MAX_DEPTH} levels`);
    }
    try {
      return work();
    } finally {
      this.depth--;
    }
  }
}

/** Whether a schema says nothing about a value. */
export function allowsAll(schema: unknown): boolean {
  return schema === true || (isObject(schema) && Object.keys(schema).every((key) => kindOf(key) === 'annotation'));
}

function leaf(schema: Schema, path: string, within: readonly Schema[]): Leaf {
  return { schema, path, within };
}

/** The values that a schema lists; null where it lists none. */
export function listedValues(schema: Schema): readonly unknown[] | null {
  if (Object.hasOwn(schema, 'const')) return [schema.const];
  return Array.isArray(schema.enum) ? (schema.enum as unknown[]) : null;
}

/** JSON texts of the values that a schema lists, whose numbers are written as there. */
export function listedTexts(schema: Schema): readonly string[] {
  const text = (holder: object, name: string | number, value: unknown): string =>
    writtenNumber(holder, name) ?? writeJson(value);
  if (Object.hasOwn(schema, 'const')) return [text(schema, 'const', schema.const)];
  return (schema.enum as unknown[]).map((value, i) => text(schema.enum as unknown[], i, value));
}

/** Values that an alternative lists for its members, by their names. */
function listedMembers(leaves: Alternative): ReadonlyMap<string, readonly unknown[]> {
  const found = new Map<string, readonly unknown[]>();
  for (const { schema, denied } of leaves) {
    if (denied !== undefined || !isObject(schema.properties)) continue;
    for (const [name, member] of Object.entries(schema.properties)) {
      const values = isObject(member) ? listedValues(member) : null;
      if (values !== null) found.set(name, values);
    }
  }
  return found;
}

/** A member of objects whose listed values are none of those that `others` list for it; null where there is none. */
function tellingMember(one: Alternative, others: readonly Alternative[]): string | null {
  const types = typesOfLeaves(one);
  if (others.length === 0 || (types !== null && !(types.size === 1 && types.has('object')))) return null;
  const listed = others.map(listedMembers);
  for (const [name, values] of listedMembers(one)) {
    const isOther = (theirs: ReadonlyMap<string, readonly unknown[]>): boolean =>
      theirs.get(name)?.every((value) => !values.some((own) => sameJson(own, value))) === true;
    if (listed.every(isOther)) return name;
  }
  return null;
}

/** The member that OpenAPI's `discriminator` names, where an alternative lists its values: pydantic reads no object without. */
function discriminatorOf({ discriminator }: Schema, one: Alternative): string | null {
  const name = isObject(discriminator) ? discriminator.propertyName : undefined;
  return typeof name === 'string' && listedMembers(one).has(name) ? name : null;
}

/** Types that all leaves allow; null where none names any. `number` without `integer` stands for both. */
export function typesOfLeaves(leaves: Alternative): ReadonlySet<Type> | null {
  let types: ReadonlySet<Type> | null = null;
  for (const { schema, path, denied } of leaves) {
    const own = denied === undefined ? typesOf(schema, path) : typeOfDenied(denied);
    if (own === null) continue;
    types = types === null ? own : intersection(types, own);
  }
  return types;
}

/** A keyword about one type fails for values of that type only. */
function typeOfDenied(keyword: string): ReadonlySet<Type> | null {
  return Object.hasOwn(KEYWORDS, keyword) ? new Set([KEYWORDS[keyword]!]) : null;
}

function intersection(a: ReadonlySet<Type>, b: ReadonlySet<Type>): ReadonlySet<Type> {
  return new Set(
    TYPES.filter((type) => {
      const within = (set: ReadonlySet<Type>): boolean => set.has(type) || (type === 'integer' && set.has('number'));
      if (!within(a) || !within(b)) return false;
      // Integers are numbers: where both allow all numbers, the one name is enough.
      return !(type === 'integer' && a.has('number') && b.has('number'));
    }),
  );
}

type Denial = Omit<Leaf, 'within' | 'fromDenial'>;

/** Leaves each of which makes one keyword about the value itself not hold. */
function denials(schema: Schema, keyword: string, path: string): Denial[] {
  const argument = schema[keyword];
  const said = (type: Type, members: Schema): Denial[] => [{ schema: { type, ...members }, path }];
  const count = typeof argument === 'number' ? argument : 0;
  const denied: Denial[] = [{ schema: { [keyword]: argument }, path, denied: keyword }];
  switch (keyword) {
    case 'type': {
      const types = typesOf(schema, path)!;
      const rest = TYPES.filter((type) => type !== 'integer' && !isOfType(SAMPLES[type], types));
      if (!types.has('integer') || types.has('number'))
        return rest.length === 0 ? [] : [{ schema: { type: rest }, path }];
      return [
        { schema: { type: rest.filter((type) => type !== 'number') }, path },
        { schema: { multipleOf: 1 }, path, denied: 'multipleOf' },
      ];
    }
    case 'enum':
    case 'const':
    case 'pattern':
    case 'multipleOf':
      return denied;
    case 'minimum':
      return said('number', schema.exclusiveMinimum === true ? { maximum: argument } : { exclusiveMaximum: argument });
    case 'maximum':
      return said('number', schema.exclusiveMaximum === true ? { minimum: argument } : { exclusiveMinimum: argument });
    case 'exclusiveMinimum':
      return typeof argument === 'number' ? said('number', { maximum: argument }) : [];
    case 'exclusiveMaximum':
      return typeof argument === 'number' ? said('number', { minimum: argument }) : [];
    case 'minLength':
      return count > 0 ? said('string', { maxLength: count - 1 }) : [];
    case 'maxLength':
      return said('string', { minLength: count + 1 });
    case 'minItems':
      return count > 0 ? said('array', { maxItems: count - 1 }) : [];
    case 'maxItems':
      return said('array', { minItems: count + 1 });
    case 'minProperties':
      return count > 0 ? said('object', { maxProperties: count - 1 }) : [];
    case 'maxProperties':
      return said('object', { minProperties: count + 1 });
    case 'required':
      return (Array.isArray(argument) ? (argument as string[]) : []).flatMap((name) =>
        said('object', { properties: { [name]: false } }),
      );
    case 'properties':
      return Object.entries(isObject(argument) ? argument : {}).flatMap(([name, member]) =>
        said('object', { required: [name], properties: { [name]: denialOf(member) } }),
      );
    case 'items':
      return Array.isArray(argument) || schema.prefixItems !== undefined
        ? []
        : said('array', { contains: denialOf(argument) });
    case 'contains':
      return schema.minContains === undefined && schema.maxContains === undefined
        ? said('array', { items: denialOf(argument) })
        : [];
    default:
      return [];
  }
}

/** A value of each type; of numbers one that is no integer. */
const SAMPLES: Readonly<Record<Type, unknown>> = {
  null: null,
  boolean: true,
  integer: 1,
  number: 0.5,
  string: '',
  array: [],
  object: {},
};

const madeDenials = new WeakMap<Schema, Schema>();

/** `{not: schema}`, the same one for the same schema, so that what was compiled for it is found again. */
export function denialOf(schema: unknown): unknown {
  if (!isObject(schema)) return schema === false;
  let denial = madeDenials.get(schema);
  if (denial === undefined) madeDenials.set(schema, (denial = { not: schema }));
  return denial;
}
