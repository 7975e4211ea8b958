/** Strings: lengths, patterns, formats and encodings, all at once, and without what is denied. */
import { LAST_CODE_POINT, normalise } from './character-sets.ts';
import type { Reading } from './escapes.ts';
import type { Expression } from './expression.ts';
import { encodingPattern, formatPattern } from './formats.ts';
import { combine } from './machine.ts';
import { compilePattern } from './pattern.ts';
import type { Alternative } from './schema-expansion.ts';
import { listedValues } from './schema-expansion.ts';
import { at, countsOf, inPlace, invalid, show } from './schema-keywords.ts';
import type { ValueCompiler } from './value-compiler.ts';

/** Characters of a text that has a format and a bound; pydantic's URLs may have 2,083, which nobody needs counted. */
const MAX_FORMAT_LENGTH = 256;

/** The same of one that has a pattern: each character that is counted takes a state for each of the pattern's. */
const MAX_PATTERN_TEXT = 1024;

/** What may stand between the quotes. */
export function stringTexts(compiler: ValueCompiler, leaves: Alternative): Expression {
  const { expressions, encode } = compiler;
  const wanted: Expression[] = [];
  const unwanted: Expression[] = [];
  const pattern = (text: string, path: string, reading: Reading = 'all'): Expression =>
    inPlace(path, () => compilePattern(expressions, text, encode, 'part', reading));
  let least = 0;
  let most = Infinity;
  let hasFormat = false;
  for (const { schema, path, denied } of leaves) {
    if (denied !== undefined) {
      if (denied === 'pattern') unwanted.push(pattern(String(schema.pattern), path, 'any'));
      const texts = (listedValues(schema) ?? []).filter((value): value is string => typeof value === 'string');
      // A text is written in one way only.
      unwanted.push(...texts.map((text) => expressions.literal(compiler.written(text))));
      continue;
    }
    const [shortest, longest] = countsOf(schema, 'Length', path);
    least = Math.max(least, shortest);
    most = Math.min(most, longest);
    if (schema.pattern !== undefined) {
      if (typeof schema.pattern !== 'string') invalid(path, `pattern must be a text, got ${show(schema.pattern)}`);
      wanted.push(pattern(schema.pattern, path));
    }
    if (schema.format !== undefined) {
      if (typeof schema.format !== 'string') invalid(path, `format must be a text, got ${show(schema.format)}`);
      const found = formatPattern(schema.format);
      if (found === undefined) compiler.expansion.ignored.add(`"format" ${show(schema.format)} at ${at(path)}`);
      else if (found !== null) {
        wanted.push(pattern(found, path));
        hasFormat = true;
      }
    }
    const encoding = typeof schema.contentEncoding === 'string' ? encodingPattern(schema.contentEncoding) : undefined;
    if (encoding !== undefined) wanted.push(pattern(encoding, path));
  }
  const counted = hasFormat ? MAX_FORMAT_LENGTH : wanted.length > 0 ? MAX_PATTERN_TEXT : Infinity;
  if (most < Infinity) most = Math.min(most, Math.max(least, counted));
  if (least > 0 || most < Infinity || wanted.length === 0) {
    wanted.push(expressions.repeat(encode(normalise([[0, LAST_CODE_POINT]])), least, most));
  }
  if (wanted.length === 1 && unwanted.length === 0) return wanted[0]!;
  return combine(expressions, wanted, unwanted);
}
