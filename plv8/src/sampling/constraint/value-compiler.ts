/** What the texts of one type need of the compiler of schemas. */
import type { Encoding } from './characters.ts';
import type { Expression, Expressions } from './expression.ts';
import type { Alternative, Placed, SchemaExpansion } from './schema-expansion.ts';

export interface ValueCompiler {
  readonly expressions: Expressions;
  readonly expansion: SchemaExpansion;
  /** how characters stand in a JSON string */
  readonly encode: Encoding;
  /** after a member's name */
  readonly colon: Expression;
  /** A value for which all of these schemas hold; without any, every value. */
  value(schemas: readonly Placed[]): Expression;
  /** A text as it stands between the quotes, its characters bytes. */
  written(text: string): string;
  /** A JSON string for which all leaves hold. */
  text(leaves: Alternative): Expression;
  /** A number for which all leaves hold. */
  number(leaves: Alternative): Expression;
  /** A string, in quotes and without references, for which all of these schemas hold. */
  names(schemas: readonly Placed[]): Expression;
  /** `e` with a comma before it. */
  next(e: Expression): Expression;
  /** Brackets around what may stand in them. */
  within(open: string, inner: Expression, close: string): Expression;
}
