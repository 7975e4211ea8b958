/**
 * JSON texts that a schema (https://json-schema.org, draft 2020-12 and its elders, and OpenAPI's) accepts, as an expression
 * over bytes. Every text is valid; not every valid text is among them: members come in the schema's order, numbers have at
 * most 15 digits, there is at most one space, after a colon or comma, and where a schema lists members or items and is silent
 * about others, there are no others. A keyword that decides about values and is not followed is refused by name.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import { arrayTexts } from './array-texts.ts';
import type { Encoding } from './characters.ts';
import { byteText, jsonEncoding, utf8Encoding } from './characters.ts';
import type { Expression, Expressions } from './expression.ts';
import { NEVER } from './expression.ts';
import { numberTexts } from './number-texts.ts';
import { objectTexts } from './object-texts.ts';
import type { Alternative, Placed } from './schema-expansion.ts';
import { allowsAll, listedTexts, listedValues, SchemaExpansion, typesOfLeaves } from './schema-expansion.ts';
import { isOfType } from './schema-validity.ts';
import { refuseOwnAddresses, SchemaDocument } from './schema-document.ts';
import type { Schema, Type } from './schema-keywords.ts';
import { isObject } from '../../format/json-object.ts';
import { at, invalid, KEYWORDS, kindOf, MAX_DEPTH, show, TYPES, unsupported } from './schema-keywords.ts';
import { stringTexts } from './string-texts.ts';
import type { ValueCompiler } from './value-compiler.ts';

/** What is known of a compiled schema. */
export interface CompiledSchema {
  expression: Expression;
  /** keywords that nobody defines, each with its place; they were ignored */
  ignored: readonly string[];
}

/** JSON texts valid under `schema`. Throws featureNotSupported naming keyword and place, or invalidParameterValue. */
export function compileSchema(expressions: Expressions, schema: unknown): CompiledSchema {
  refuseOwnAddresses(schema);
  const compiler = new SchemaCompiler(expressions, schema);
  const expression = compiler.value([{ schema, path: '#' }]);
  compiler.defineReferences();
  return { expression, ignored: [...compiler.expansion.ignored] };
}

/** A member of an object that lists all of its members. */
export interface CompiledMember {
  name: string;
  required: boolean;
  value: Expression;
  /** a text as it is and not as JSON */
  raw: boolean;
}

/** Whether every value is a text, which may then be written as it is. */
export function isText(root: unknown, schema: unknown): boolean {
  if (!isObject(schema)) return false;
  if (typeof schema.$ref === 'string' && schema.$ref.startsWith('#')) {
    return isText(root, new SchemaDocument(root).target(schema.$ref));
  }
  return (
    schema.type === 'string' &&
    schema.nullable !== true &&
    Object.keys(schema).every((keyword) => kindOf(keyword) !== 'applicator')
  );
}

/**
 * Values of the members of an object one by one, texts without quotes where `rawTexts` is set. Throws featureNotSupported
 * where the schema says more of the object than which members it has.
 */
export function compileMembers(
  expressions: Expressions,
  schema: Record<string, unknown>,
  rawTexts: boolean,
): { members: readonly CompiledMember[]; ignored: readonly string[] } {
  const other = Object.keys(schema).find(
    (keyword) => !MEMBER_KEYWORDS.includes(keyword) && ['local', 'applicator'].includes(kindOf(keyword)),
  );
  if (other !== undefined) unsupported(other, '#', ' where a model writes arguments one by one');
  // What is wrong with any keyword is said here.
  const whole = compileSchema(expressions, schema);
  const required: unknown[] = Array.isArray(schema.required) ? schema.required : [];
  const listed = (schema.properties ?? {}) as Record<string, unknown>;
  // Of a member that is required and not listed, additionalProperties tells what it is.
  const others = required.filter((name): name is string => typeof name === 'string' && !Object.hasOwn(listed, name));
  const further = others.map((name) => ({
    name,
    member: schema.additionalProperties ?? true,
    path: '#/additionalProperties',
  }));
  const own = Object.entries(listed).map(([name, member]) => ({ name, member, path: `#/properties/${name}` }));
  const members = [...own, ...further].map(({ name, member, path }) => {
    const raw = rawTexts && Object.hasOwn(listed, name) && isText(schema, member);
    const compiler = new SchemaCompiler(expressions, schema, raw);
    const value = compiler.value([{ schema: member, path }]);
    compiler.defineReferences();
    return { name, required: required.includes(name), value, raw };
  });
  return { members, ignored: whole.ignored };
}

/** Any JSON object. */
export function anyObject(expressions: Expressions): Expression {
  return compileSchema(expressions, { type: 'object' }).expression;
}

const STRING = { type: 'string' };

/** Keywords of a schema whose members can be written one by one. */
const MEMBER_KEYWORDS = ['type', 'properties', 'required', 'additionalProperties'];

interface Reference {
  expression: Expression;
  define(e: Expression): void;
}

class SchemaCompiler implements ValueCompiler {
  private readonly document: SchemaDocument;
  readonly expansion: SchemaExpansion;
  readonly encode: Encoding;
  readonly separator: Expression;
  readonly colon: Expression;
  private readonly references = new Map<string, Reference>();
  private readonly toDefine: { schemas: readonly Placed[]; reference: Reference }[] = [];
  private readonly compiled = new Map<string, Expression>();
  private readonly numbers = new Map<unknown, number>();
  private depth = 0;

  constructor(
    readonly expressions: Expressions,
    root: unknown,
    private readonly rawTexts = false,
  ) {
    this.document = new SchemaDocument(root, expressions.poll, expressions.room);
    this.expansion = new SchemaExpansion(this.document);
    this.encode = rawTexts ? utf8Encoding(expressions) : jsonEncoding(expressions);
    this.separator = expressions.sequence(expressions.literal(','), expressions.optional(expressions.literal(' ')));
    this.colon = expressions.sequence(expressions.literal(':'), expressions.optional(expressions.literal(' ')));
  }

  /** A value for which all of these schemas hold; without any, every value. */
  value(schemas: readonly Placed[]): Expression {
    const asked = schemas.filter(({ schema }) => !allowsAll(schema));
    const placed = asked.map((each) => this.followed(each));
    if (placed.some(({ schema }) => schema === false)) return NEVER;
    const [only] = placed;
    if (only !== undefined && placed.length === 1 && only.schema === asked[0]!.schema) {
      if (!this.expansion.isComposed(only.schema)) return this.inline(placed);
    }
    // What may lead back to itself is compiled later.
    const key = [...new Set(placed.map(({ schema }) => this.numberOf(schema)))].sort((a, b) => a - b).join();
    let reference = this.references.get(key);
    if (reference === undefined) {
      reference = this.expressions.reference();
      this.references.set(key, reference);
      this.toDefine.push({ schemas: placed, reference });
    }
    return reference.expression;
  }

  /** Compile what references stand for, which may need more of them. */
  defineReferences(): void {
    for (let i = 0; i < this.toDefine.length; i++) {
      const { schemas, reference } = this.toDefine[i]!;
      reference.define(this.inline(schemas));
    }
  }

  /** Where a schema is nothing but a reference: what it leads to. */
  private followed({ schema, path }: Placed): Placed {
    if (!isObject(schema) || typeof schema.$ref !== 'string' || !schema.$ref.startsWith('#')) return { schema, path };
    if (Object.keys(schema).some((key) => key !== '$ref' && kindOf(key) !== 'annotation')) return { schema, path };
    return this.followed({ schema: this.document.target(schema.$ref), path: schema.$ref });
  }

  private inline(schemas: readonly Placed[]): Expression {
    const path = schemas[0]?.path ?? '#';
    if (++this.depth > MAX_DEPTH) {
      raise(SQLSTATE.programLimitExceeded, `schema at ${at(path)} nests deeper than ${MAX_DEPTH} levels`);
    }
    const alternatives = this.expansion.all(schemas);
    const offered = alternatives.filter((each) => !namesUnlisted(each));
    const compiled = this.expressions.any(
      (offered.length > 0 ? offered : alternatives).map((each) => this.alternative(each, path)),
    );
    this.depth--;
    return compiled;
  }

  private alternative(leaves: Alternative, path: string): Expression {
    const key = leaves.map(({ schema, denied }) => `${this.numberOf(schema)}${denied ?? ''}`).join();
    let compiled = this.compiled.get(key);
    if (compiled === undefined) this.compiled.set(key, (compiled = this.compile(leaves, path)));
    return compiled;
  }

  private numberOf(schema: unknown): number {
    let number = this.numbers.get(schema);
    if (number === undefined) this.numbers.set(schema, (number = this.numbers.size));
    return number;
  }

  private compile(leaves: Alternative, path: string): Expression {
    const { expressions } = this;
    const listed = leaves.find(({ schema, denied }) => denied === undefined && listedValues(schema) !== null);
    if (listed !== undefined) return this.values(leaves, listed.schema);
    for (const leaf of leaves) {
      if (leaf.denied === undefined && leaf.schema.enum !== undefined) {
        invalid(leaf.path, `enum must be an array that is not empty, got ${show(leaf.schema.enum)}`);
      }
    }
    return expressions.any([...this.typesWritten(leaves)].map((type) => this.ofType(type, leaves, path)));
  }

  /** Without `type`, the types that the keywords speak of; without any, all. */
  private typesWritten(leaves: Alternative): ReadonlySet<Type> {
    const given = typesOfLeaves(leaves);
    if (given !== null) return given;
    const spoken = leaves
      .filter(({ fromDenial }) => fromDenial !== true)
      .flatMap(({ schema }) =>
        Object.keys(schema).flatMap((key) => (Object.hasOwn(KEYWORDS, key) ? [KEYWORDS[key]!] : [])),
      );
    return new Set(spoken.length > 0 ? spoken : TYPES.filter((type) => type !== 'integer'));
  }

  /** Values given one by one, as far as all leaves allow them. */
  private values(leaves: Alternative, schema: Schema): Expression {
    const values = listedValues(schema)!;
    if (values.length === 0) invalid(leaves[0]!.path, 'enum must be an array that is not empty, got []');
    const texts = listedTexts(schema);
    const { expressions } = this;
    return expressions.any(
      values.flatMap((value, i) => {
        if (!leaves.every((leaf) => this.expansion.allows(leaf, value))) return [];
        return typeof value === 'string'
          ? this.quoted(expressions.literal(this.written(value)))
          : expressions.literal(byteText(texts[i]!));
      }),
    );
  }

  private ofType(type: Type, leaves: Alternative, path: string): Expression {
    const { expressions } = this;
    const denied = leaves.flatMap((leaf) =>
      leaf.denied === 'enum' || leaf.denied === 'const' ? listedValues(leaf.schema)! : [],
    );
    const open = (literal: string, value: unknown): Expression =>
      denied.includes(value) ? NEVER : expressions.literal(literal);
    switch (type) {
      case 'null':
        return open('null', null);
      case 'boolean':
        return expressions.any([open('true', true), open('false', false)]);
      case 'integer':
      case 'number':
        return numberTexts(expressions, leaves, type === 'integer', path);
      case 'string':
        return this.text(leaves);
      case 'array':
      case 'object':
        for (const leaf of leaves) {
          const values = leaf.denied === undefined ? null : listedValues(leaf.schema);
          if (values?.some((value) => isOfType(value, new Set([type])))) {
            unsupported('not', leaf.path, ` for an ${type}`);
          }
        }
        return type === 'array' ? arrayTexts(this, leaves, path) : objectTexts(this, leaves, path);
    }
  }

  text(leaves: Alternative): Expression {
    return this.quoted(stringTexts(this, leaves));
  }

  written(text: string): string {
    return byteText(this.rawTexts ? text : JSON.stringify(text).slice(1, -1));
  }

  private quoted(text: Expression): Expression {
    const quote = this.expressions.literal(this.rawTexts ? '' : '"');
    return this.expressions.sequence(quote, text, quote);
  }

  number(leaves: Alternative): Expression {
    const isInteger = typesOfLeaves(leaves)?.has('integer') === true;
    return numberTexts(this.expressions, leaves, isInteger, leaves[0]?.path ?? '#');
  }

  names(schemas: readonly Placed[]): Expression {
    const texts = this.expansion.all([...schemas, { schema: STRING, path: '#' }]);
    return this.expressions.any(texts.map((leaves) => this.alternative(leaves, schemas[0]!.path)));
  }

  next(e: Expression): Expression {
    return this.expressions.sequence(this.separator, e);
  }

  within(open: string, inner: Expression, close: string): Expression {
    return this.expressions.sequence(this.expressions.literal(open), inner, this.expressions.literal(close));
  }
}

/** Whether members must be there that only a denial names: nobody offered them. */
function namesUnlisted(leaves: Alternative): boolean {
  if (leaves.some(({ schema, denied }) => denied === undefined && listedValues(schema) !== null)) return false;
  const offered = new Set(
    leaves
      .filter(({ fromDenial }) => fromDenial !== true)
      .flatMap(({ schema }) => [
        ...(isObject(schema.properties) ? Object.keys(schema.properties) : []),
        ...(Array.isArray(schema.required) ? (schema.required as string[]) : []),
      ]),
  );
  return leaves
    .filter(({ fromDenial }) => fromDenial === true)
    .some(
      ({ schema }) => Array.isArray(schema.required) && !schema.required.every((name) => offered.has(name as string)),
    );
}
