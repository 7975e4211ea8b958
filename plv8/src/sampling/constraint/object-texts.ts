/** Objects: members in the schema's order, those that others decide about, and how many there are. */
import { LAST_CODE_POINT, normalise } from './character-sets.ts';
import { byteText } from './characters.ts';
import type { Reading } from './escapes.ts';
import type { Expression } from './expression.ts';
import { EMPTY, NEVER } from './expression.ts';
import { combine } from './machine.ts';
import { compilePattern, patternRegExp } from './pattern.ts';
import type { Alternative, Leaf, Placed } from './schema-expansion.ts';
import { isValid } from './schema-validity.ts';
import { isObject } from '../../format/json-object.ts';
import { countsOf, inPlace, invalid, show, unsupported } from './schema-keywords.ts';
import type { ValueCompiler } from './value-compiler.ts';

/** Patterns of names, of which each set makes a kind of member. */
const MAX_PATTERNS = 4;

/** Members that no schema lists by name: their names in quotes, and their values. */
interface Others {
  name: Expression;
  value: Expression;
}

export function objectTexts(compiler: ValueCompiler, leaves: Alternative, path: string): Expression {
  return new ObjectTexts(compiler, leaves, path).texts();
}

class ObjectTexts {
  private readonly leaves: readonly Leaf[];
  private readonly required = new Set<string>();
  /** Names that are listed, in order. */
  private readonly names: readonly string[];
  private readonly patterns: readonly string[];
  private least = 0;
  private most = Infinity;

  constructor(
    private readonly compiler: ValueCompiler,
    leaves: Alternative,
    private readonly path: string,
  ) {
    this.leaves = leaves.filter(({ denied }) => denied === undefined);
    const names = new Set<string>();
    const patterns = new Set<string>();
    for (const { schema, path: at } of this.leaves) {
      for (const key of ['properties', 'patternProperties'] as const) {
        const members = schema[key] ?? {};
        if (!isObject(members)) invalid(at, `${key} must be an object, got ${show(members)}`);
        for (const name of Object.keys(members)) (key === 'properties' ? names : patterns).add(name);
        if (key === 'patternProperties') inPlace(`${at}/${key}`, () => Object.keys(members).forEach(patternRegExp));
      }
      const required = Array.isArray(schema.required) ? schema.required : [];
      const isDraft3 = typeof schema.required === 'boolean';
      if (
        (schema.required !== undefined && !Array.isArray(schema.required) && !isDraft3) ||
        required.some((name) => typeof name !== 'string')
      ) {
        invalid(at, `required must be an array of texts, got ${show(schema.required)}`);
      }
      for (const name of required as string[]) this.required.add(name);
      const [least, most] = countsOf(schema, 'Properties', at);
      this.least = Math.max(this.least, least);
      this.most = Math.min(this.most, most);
    }
    for (const name of this.required) names.add(name);
    this.names = [...names];
    this.patterns = [...patterns];
    if (this.patterns.length > MAX_PATTERNS) {
      unsupported('patternProperties', path, ` with more than ${MAX_PATTERNS} patterns`);
    }
  }

  texts(): Expression {
    const { compiler, required, least, most } = this;
    const { expressions } = compiler;
    const others = this.others();
    const members = this.names.map((name) => ({
      name: expressions.literal(byteText(JSON.stringify(name))),
      value: this.allowsName(name) ? compiler.value(this.schemasOf(name)) : NEVER,
      required: required.has(name),
    }));
    this.refuseForbidden();
    // Counts beyond this one make no difference.
    const cap = Math.max(1, least, most === Infinity ? 0 : most);
    const known = new Map<string, Expression>();
    /** What may follow where `count` members stand before, from the listed one `i` on. */
    const after = (i: number, count: number): Expression => {
      const key = `${i},${count}`;
      let found = known.get(key);
      if (found !== undefined) return found;
      if (i === members.length) found = this.furtherOthers(others, count);
      else {
        const { name, value, required: needed } = members[i]!;
        const written = expressions.sequence(name, compiler.colon, value);
        const here =
          count >= most || value === NEVER
            ? NEVER
            : expressions.sequence(
                count === 0 ? written : compiler.next(written),
                after(i + 1, Math.min(cap, count + 1)),
              );
        found = needed ? here : expressions.any([here, after(i + 1, count)]);
      }
      known.set(key, found);
      return found;
    };
    return compiler.within('{', after(0, 0), '}');
  }

  /** Say what a single schema requires and forbids. */
  private refuseForbidden(): void {
    if (this.leaves.length !== 1) return;
    for (const name of this.required) {
      if (this.schemasOf(name).some(({ schema, path }) => schema === false && path.endsWith('/additionalProperties'))) {
        invalid(this.path, `required names ${show(name)}, which additionalProperties forbids`);
      }
    }
  }

  private allowsName(name: string): boolean {
    return this.leaves.every(
      ({ schema }) =>
        schema.propertyNames === undefined || isValid(this.compiler.expansion.document, schema.propertyNames, name),
    );
  }

  /** Everything that holds for the member `name`. */
  private schemasOf(name: string): Placed[] {
    const { document } = this.compiler.expansion;
    const matching = new Set(this.patterns.filter((pattern) => document.matches(pattern, name)));
    return this.leaves.flatMap((leaf) => this.schemasFor(leaf, matching, name));
  }

  /** What one schema says about a member that has this name, or none of those listed, and matches these patterns. */
  private schemasFor(leaf: Leaf, matching: ReadonlySet<string>, name: string | null): Placed[] {
    const { schema, path } = leaf;
    const own = name !== null && isObject(schema.properties) && Object.hasOwn(schema.properties, name);
    const said: Placed[] = own
      ? [{ schema: (schema.properties as object)[name as never], path: `${path}/properties/${name}` }]
      : [];
    for (const [pattern, member] of Object.entries((schema.patternProperties ?? {}) as object)) {
      if (matching.has(pattern)) said.push({ schema: member as unknown, path: `${path}/patternProperties/${pattern}` });
    }
    if (said.length === 0 && schema.additionalProperties !== undefined) {
      said.push({ schema: schema.additionalProperties, path: `${path}/additionalProperties` });
    }
    if (schema.unevaluatedProperties !== undefined && !this.isEvaluated(leaf, matching, name)) {
      said.push({ schema: schema.unevaluatedProperties, path: `${path}/unevaluatedProperties` });
    }
    return said;
  }

  private isEvaluated(of: Leaf, matching: ReadonlySet<string>, name: string | null): boolean {
    return this.leaves.some(({ schema, within, fromDenial }) => {
      if (fromDenial === true || !within.includes(of.schema)) return false;
      if (schema.additionalProperties !== undefined) return true;
      if (schema !== of.schema && schema.unevaluatedProperties !== undefined) return true;
      if (name !== null && isObject(schema.properties) && Object.hasOwn(schema.properties, name)) return true;
      return (
        isObject(schema.patternProperties) && Object.keys(schema.patternProperties).some((each) => matching.has(each))
      );
    });
  }

  /** Kinds of members that are not listed. */
  private others(): Others[] {
    const { compiler, patterns } = this;
    const offering = this.leaves.filter(({ fromDenial }) => fromDenial !== true);
    const spoken = this.leaves.some(
      ({ schema }) => schema.additionalProperties !== undefined || schema.unevaluatedProperties !== undefined,
    );
    // Where the schema lists members and is silent about others, there are no others.
    const lists = offering.some(
      ({ schema }) =>
        Object.keys((schema.properties ?? {}) as object).length > 0 || schema.patternProperties !== undefined,
    );
    const kinds: Others[] = [];
    for (let set = 0; set < 2 ** patterns.length; set++) {
      if (set === 0 && lists && !spoken) continue;
      const matching = new Set(patterns.filter((_, i) => ((set >> i) & 1) === 1));
      const schemas = this.leaves.flatMap((leaf) => this.schemasFor(leaf, matching, null));
      if (schemas.some(({ schema }) => schema === false)) continue;
      const value = compiler.value(schemas);
      if (value === NEVER) continue;
      const name = this.otherName(matching);
      if (name !== NEVER) kinds.push({ name, value });
    }
    return kinds;
  }

  /** Names, in quotes, of members that are not listed and match these patterns and no others. */
  private otherName(matching: ReadonlySet<string>): Expression {
    const { compiler } = this;
    const { expressions } = compiler;
    const unlisted = this.unlistedName();
    const quoted = (pattern: string, reading: Reading): Expression => {
      const quote = expressions.literal('"');
      const texts = inPlace(`${this.path}/patternProperties`, () =>
        compilePattern(expressions, pattern, compiler.encode, 'part', reading),
      );
      return expressions.sequence(quote, texts, quote);
    };
    const names = this.leaves.flatMap(({ schema, path }) =>
      schema.propertyNames === undefined ? [] : [{ schema: schema.propertyNames, path: `${path}/propertyNames` }],
    );
    const wanted = [...matching].map((pattern) => quoted(pattern, 'all'));
    const unwanted = this.patterns.flatMap((pattern) => (matching.has(pattern) ? [] : [quoted(pattern, 'any')]));
    if (names.length > 0) wanted.push(compiler.names(names));
    if (wanted.length === 0 && unwanted.length === 0) return unlisted;
    return combine(expressions, [unlisted, ...wanted], unwanted);
  }

  /** Members that are not listed, after `count` others. */
  private furtherOthers(kinds: readonly Others[], count: number): Expression {
    const { compiler, least, most } = this;
    const { expressions } = compiler;
    const needed = Math.max(0, least - count);
    const room = most - count;
    if (kinds.length === 0 || room <= 0) return needed === 0 ? EMPTY : NEVER;
    const one = expressions.any(kinds.map(({ name, value }) => expressions.sequence(name, compiler.colon, value)));
    const more = (bound: number): Expression => expressions.repeat(compiler.next(one), 0, bound);
    if (needed === 0) {
      return count > 0 ? more(room) : expressions.optional(expressions.sequence(one, more(room - 1)));
    }
    // Of members that count, no two may have the same name.
    const { name, value } = kinds[0]!;
    const quote = expressions.literal('"');
    const distinct = expressions.distinct(
      {
        head: expressions.derive(name, 0x22),
        tail: expressions.sequence(compiler.colon, value),
        between: compiler.next(quote),
      },
      needed,
      needed,
    );
    const first = expressions.sequence(quote, distinct);
    return expressions.sequence(count === 0 ? first : compiler.next(first), more(room - needed));
  }

  /** A member's name that is none of those listed, without escapes, which could spell one of them. */
  private unlistedName(): Expression {
    const { expressions, encode } = this.compiler;
    const beyondAscii = encode(normalise([[0x80, LAST_CODE_POINT]]));
    const plain = (taken: ReadonlySet<string>): Expression => {
      const foreign = [...taken].some((character) => character.codePointAt(0)! > 0x7f);
      const ascii = expressions.bytes(
        (byte) =>
          byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c && !taken.has(String.fromCharCode(byte)),
      );
      return expressions.any([ascii, foreign ? NEVER : beyondAscii]);
    };
    const rest = expressions.sequence(expressions.repeat(plain(new Set()), 0, Infinity), expressions.literal('"'));
    const differing = (suffixes: readonly string[]): Expression => {
      if (suffixes.length === 0) return rest;
      const byFirst = new Map<string, string[]>();
      for (const suffix of suffixes) {
        const character = String.fromCodePoint(suffix.codePointAt(0) ?? 0);
        if (suffix === '') continue;
        byFirst.set(character, [...(byFirst.get(character) ?? []), suffix.slice(character.length)]);
      }
      const parts = [expressions.sequence(plain(new Set(byFirst.keys())), rest)];
      if (!suffixes.includes('')) parts.push(expressions.literal('"'));
      for (const [character, tails] of byFirst) {
        const written = encode(normalise([[character.codePointAt(0)!, character.codePointAt(0)!]]));
        parts.push(expressions.sequence(written, differing(tails)));
      }
      return expressions.any(parts);
    };
    return expressions.sequence(expressions.literal('"'), differing(this.names));
  }
}
