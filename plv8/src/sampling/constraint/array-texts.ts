/** Arrays: items by place, counts, items that must be contained, and items that must differ. */
import type { Expression } from './expression.ts';
import { EMPTY, NEVER } from './expression.ts';
import { byteText } from './characters.ts';
import type { Alternative, Leaf, Placed } from './schema-expansion.ts';
import { denialOf, listedTexts, listedValues, typesOfLeaves } from './schema-expansion.ts';
import { tupleOf } from './schema-validity.ts';
import { writeJson } from '../../format/ordered-json.ts';
import { countOf, countsOf, invalid, sameJson, show, unsupported } from './schema-keywords.ts';
import type { ValueCompiler } from './value-compiler.ts';

/** Values of a kind whose subsets are all told apart; of more, the later ones follow the earlier ones. */
const MAX_SUBSETS = 8;

/** Integers between bounds that are taken one by one. */
const MAX_LISTED = 64;

/** Items and contained ones that are counted together. */
const MAX_COUNTED = 500;

interface Contained {
  placed: Placed;
  least: number;
  most: number;
}

export function arrayTexts(compiler: ValueCompiler, leaves: Alternative, path: string): Expression {
  return new ArrayTexts(compiler, leaves, path).texts();
}

class ArrayTexts {
  private readonly leaves: readonly Leaf[];
  private readonly prefix: number;
  private readonly contained: readonly Contained[];
  private least = 0;
  private most = Infinity;

  constructor(
    private readonly compiler: ValueCompiler,
    leaves: Alternative,
    private readonly path: string,
  ) {
    this.leaves = leaves.filter(({ denied }) => denied === undefined);
    for (const { schema, path: at } of this.leaves) {
      const [least, most] = countsOf(schema, 'Items', at);
      this.least = Math.max(this.least, least);
      this.most = Math.min(this.most, most);
      if (schema.uniqueItems !== undefined && typeof schema.uniqueItems !== 'boolean') {
        invalid(at, `uniqueItems must be true or false, got ${show(schema.uniqueItems)}`);
      }
      if (schema.prefixItems !== undefined && !Array.isArray(schema.prefixItems)) {
        invalid(at, `prefixItems must be an array, got ${show(schema.prefixItems)}`);
      }
    }
    this.prefix = Math.max(0, ...this.leaves.map(({ schema }) => tupleOf(schema).prefixItems.length));
    this.contained = this.leaves.flatMap(({ schema, path: at }) =>
      schema.contains === undefined
        ? []
        : [
            {
              placed: { schema: schema.contains, path: `${at}/contains` },
              least: countOf(schema, 'minContains', 1, at),
              most: countOf(schema, 'maxContains', Infinity, at),
            },
          ],
    );
    // Where the schema says nothing about items after a prefix, there are none.
    const silent = this.leaves.every(({ schema }) => tupleOf(schema).items === undefined);
    if (silent && this.prefix > 0) this.most = Math.min(this.most, Math.max(this.prefix, this.least));
    // An item that must be contained and may not stand behind the prefix has its place there or nowhere.
    if (this.leaves.some(({ schema }) => tupleOf(schema).items === false)) {
      const closed = this.leaves.map(({ schema }) => tupleOf(schema)).filter(({ items }) => items === false);
      this.most = Math.min(this.most, ...closed.map(({ prefixItems }) => prefixItems.length));
    }
  }

  texts(): Expression {
    const { compiler } = this;
    if (this.least > this.most) return NEVER;
    const unique = this.leaves.find(({ schema }) => schema.uniqueItems === true);
    if (unique !== undefined && this.most > 1) return compiler.within('[', this.differing(unique), ']');
    return compiler.within('[', this.contained.length === 0 ? this.plain() : this.containing(), ']');
  }

  /** Everything that holds for the item at `place`. */
  private schemasAt(place: number): Placed[] {
    return this.leaves.flatMap((leaf) => {
      const { schema, path } = leaf;
      const { prefixItems, items } = tupleOf(schema);
      const own: Placed[] =
        place < prefixItems.length
          ? [{ schema: prefixItems[place], path: `${path}/prefixItems/${place}` }]
          : items === undefined
            ? []
            : [{ schema: items, path: `${path}/items` }];
      if (schema.unevaluatedItems === undefined || this.isEvaluated(leaf, place)) return own;
      return [...own, { schema: schema.unevaluatedItems, path: `${path}/unevaluatedItems` }];
    });
  }

  private isEvaluated(of: Leaf, place: number): boolean {
    return this.leaves.some(({ schema, within }) => {
      if (!within.includes(of.schema)) return false;
      const { prefixItems, items } = tupleOf(schema);
      return (
        place < prefixItems.length ||
        items !== undefined ||
        (schema !== of.schema && schema.unevaluatedItems !== undefined)
      );
    });
  }

  private item(place: number): Expression {
    return this.compiler.value(this.schemasAt(place));
  }

  /** `e` at its place: with a comma before it unless it is the first. */
  private placed(place: number, e: Expression): Expression {
    return place === 0 ? e : this.compiler.next(e);
  }

  private plain(): Expression {
    const { compiler, least, most, prefix } = this;
    const { expressions } = compiler;
    const further = this.item(prefix);
    // After the first item and the prefix, all are alike.
    const from = Math.max(1, prefix);
    let rest = expressions.repeat(compiler.next(further), Math.max(0, least - from), Math.max(0, most - from));
    for (let place = from - 1; place >= 0; place--) {
      const here = place >= most ? NEVER : this.placed(place, place < prefix ? this.item(place) : further);
      rest = expressions.sequence(here, rest);
      if (place >= least) rest = expressions.optional(rest);
    }
    return rest;
  }

  /** Items of which at least, and at most, so many are of a kind. */
  private containing(): Expression {
    const { compiler, contained, path } = this;
    const { expressions } = compiler;
    const counted = contained.map(({ least, most }) => (most === Infinity ? least : most + 1));
    const bound = Math.max(1, this.least, this.prefix) + counted.reduce((sum, count) => sum + count, 0);
    const most = Math.min(this.most, bound);
    if (most > MAX_COUNTED) unsupported('contains', path, ` for more than ${MAX_COUNTED} items`);
    const denied = contained
      .filter(({ most: limit }) => limit !== Infinity)
      .map(({ placed }) => ({ schema: denialOf(placed.schema), path: placed.path }));
    const known = new Map<string, Expression>();
    const after = (place: number, counts: readonly number[]): Expression => {
      const key = `${place},${counts.join()}`;
      let found = known.get(key);
      if (found !== undefined) return found;
      const complete = place >= this.least && contained.every(({ least }, i) => counts[i]! >= least);
      const ways: Expression[] = complete ? [EMPTY] : [];
      if (place < most) {
        const here = this.schemasAt(place);
        // One that counts for nothing where a bound forbids it, else one of which that is not known.
        const other = this.placed(place, compiler.value([...here, ...denied]));
        ways.push(expressions.sequence(other, after(place + 1, counts)));
        contained.forEach(({ placed, most: limit }, i) => {
          if (counts[i]! >= Math.min(limit, counted[i]!)) return;
          const others = denied.filter(({ path: at }) => at !== placed.path);
          const one = this.placed(place, compiler.value([...here, placed, ...others]));
          ways.push(
            expressions.sequence(
              one,
              after(
                place + 1,
                counts.map((count, j) => (j === i ? count + 1 : count)),
              ),
            ),
          );
        });
      } else if (complete && this.most > most) {
        const more = compiler.next(compiler.value([...this.schemasAt(place), ...denied]));
        ways.push(expressions.repeat(more, 0, this.most - most));
      }
      found = expressions.any(ways);
      known.set(key, found);
      return found;
    };
    return after(
      0,
      contained.map(() => 0),
    );
  }

  /** Items no two of which are the same: listed values by their sets, texts and numbers by the byte they begin with. */
  private differing({ path }: Leaf): Expression {
    const { compiler, least, most } = this;
    const { expressions } = compiler;
    if (this.prefix > 0 || this.contained.length > 0)
      unsupported('uniqueItems', path, ' beside prefixItems or contains');
    const alternatives = compiler.expansion.all(this.schemasAt(0));
    const values = this.listed(alternatives);
    if (values !== null) return this.subset(values);
    const types = alternatives.map((leaves) => [...(typesOfLeaves(leaves) ?? [])]);
    const between = compiler.next(EMPTY);
    if (types.length > 0 && types.every((each) => each.length === 1 && each[0] === 'string')) {
      const quote = expressions.literal('"');
      const head = expressions.derive(expressions.any(alternatives.map((leaves) => compiler.text(leaves))), 0x22);
      const texts = expressions.distinct(
        { head, tail: EMPTY, between: expressions.sequence(between, quote) },
        Math.max(1, least),
        most,
      );
      const list = expressions.sequence(quote, texts);
      return least === 0 ? expressions.optional(list) : list;
    }
    if (
      types.length > 0 &&
      types.every((each) => each.length === 1 && (each[0] === 'integer' || each[0] === 'number'))
    ) {
      const head = expressions.any(alternatives.map((leaves) => compiler.number(leaves)));
      return expressions.distinct({ head, tail: EMPTY, between }, least, most);
    }
    return unsupported('uniqueItems', path, ' for these items', 'texts, numbers and listed values can be told apart');
  }

  /** The values of a kind of which there are few; null where there are many. */
  private listed(alternatives: readonly Alternative[]): string[] | null {
    const values: unknown[] = [];
    const texts: string[] = [];
    for (const leaves of alternatives) {
      const given = leaves.find(({ schema, denied }) => denied === undefined && listedValues(schema) !== null);
      const found = given === undefined ? fewValues(leaves) : listedValues(given.schema);
      if (found === null) return null;
      const written = given === undefined ? found.map(writeJson) : listedTexts(given.schema);
      for (const [i, value] of found.entries()) {
        if (values.some((other) => sameJson(other, value))) continue;
        if (!leaves.every((leaf) => this.compiler.expansion.allows(leaf, value))) continue;
        values.push(value);
        texts.push(written[i]!);
      }
    }
    return texts;
  }

  private subset(texts: readonly string[]): Expression {
    const { compiler, least, most } = this;
    const { expressions } = compiler;
    const inOrder = texts.length > MAX_SUBSETS;
    const literals = texts.map((text) => expressions.literal(byteText(text)));
    const known = new Map<string, Expression>();
    /** What may follow when the values of `taken` cannot come any more, and `count` stand before. */
    const counted = most === Infinity ? least : most;
    const after = (taken: bigint, count: number): Expression => {
      const key = `${taken},${count}`;
      let found = known.get(key);
      if (found !== undefined) return found;
      const ways: Expression[] = count >= least ? [EMPTY] : [];
      if (count < most) {
        literals.forEach((literal, i) => {
          if (((taken >> BigInt(i)) & 1n) !== 0n) return;
          const now = inOrder ? (1n << BigInt(i + 1)) - 1n : taken | (1n << BigInt(i));
          const further = after(now, Math.min(count + 1, Math.max(1, counted)));
          ways.push(expressions.sequence(this.placed(count, literal), further));
        });
      }
      found = expressions.any(ways);
      known.set(key, found);
      return found;
    };
    return after(0n, 0);
  }
}

/** Values of types that have few. */
function fewValues(leaves: Alternative): readonly unknown[] | null {
  const types = typesOfLeaves(leaves);
  if (types === null || types.size !== 1) return null;
  if (types.has('null')) return [null];
  if (types.has('boolean')) return [false, true];
  if (!types.has('integer')) return null;
  const numbers = (key: string): number[] =>
    leaves.flatMap(({ schema, denied }) =>
      denied === undefined && typeof schema[key] === 'number' ? [schema[key]] : [],
    );
  const least = Math.ceil(Math.max(...numbers('minimum'), ...numbers('exclusiveMinimum')));
  const most = Math.floor(Math.min(...numbers('maximum'), ...numbers('exclusiveMaximum')));
  if (!(most - least < MAX_LISTED)) return null;
  return Array.from({ length: Math.max(0, most - least + 1) }, (_, i) => least + i);
}
