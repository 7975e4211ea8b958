/** Texts that a schema accepts, written byte by byte at random, without a model. */
import type { Expression } from '../../../../plv8/src/sampling/constraint/expression.ts';
import { Expressions, NEVER } from '../../../../plv8/src/sampling/constraint/expression.ts';
import { compileSchema } from '../../../../plv8/src/sampling/constraint/json-schema.ts';
import { Random } from '../../../../plv8/src/sampling/random.ts';

export interface SchemaTexts {
  texts: string[];
  ignored: readonly string[];
}

/** `count` random texts of a schema. */
export function schemaTexts(schema: unknown, count: number, seed = 1): SchemaTexts {
  const expressions = new Expressions();
  const { expression, ignored } = compileSchema(expressions, schema);
  expressions.close();
  if (expressions.shortestLength(expression) === Infinity) throw new Error('no finite text satisfies the schema');
  return { texts: randomTexts(expressions, expression, count, seed), ignored };
}

/** `count` random texts, each of which goes on at will for some bytes and then ends as soon as it can. */
export function randomTexts(expressions: Expressions, start: Expression, count: number, seed: number): string[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (_, i) => {
    const bytes: number[] = [];
    const free = i * 7;
    let state = start;
    while (bytes.length < free) {
      // A byte of a class at random: a quote as often as all letters together, so that strings end.
      const { bytes: samples, of } = expressions.classesOf(state);
      const open = samples.filter((byte) => expressions.derive(state, byte) !== NEVER);
      if (open.length === 0 || (expressions.acceptsEmpty(state) && random.next() < 0.2)) break;
      const sample = open[Math.floor(random.next() * open.length)]!;
      const alike = Array.from(of.keys()).filter((byte) => of[byte] === of[sample]);
      const byte = alike[Math.floor(random.next() * alike.length)]!;
      bytes.push(byte);
      state = expressions.derive(state, byte);
    }
    for (const character of expressions.shortest(state)) bytes.push(character.charCodeAt(0));
    return Buffer.from(bytes).toString('utf8');
  });
}
