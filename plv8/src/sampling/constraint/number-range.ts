/**
 * JSON numbers within bounds, digit by digit. Numbers have at most SIGNIFICANT_DIGITS digits in all: as many as a double
 * keeps apart, so a number that is below a bound as text is below it as a number.
 */
import { raise, SQLSTATE } from '../../errors.ts';
import type { Expression, Expressions } from './expression.ts';
import { EMPTY, NEVER } from './expression.ts';

const SIGNIFICANT_DIGITS = 15;

/** Decimals of a number whose bounds have fewer. */
const USUAL_DECIMALS = 6;

export interface NumberBounds {
  integer: boolean;
  /** -Infinity for none */
  least: number;
  leastExcluded: boolean;
  /** Infinity for none */
  most: number;
  mostExcluded: boolean;
  /** decimals that a number may need */
  decimals?: number;
}

/** A number that is not negative, in decimal digits. */
interface Decimal {
  whole: string; // no leading zero, '0' for zero
  decimals: string; // no trailing zero
}

interface Bound {
  at: Decimal;
  excluded: boolean;
}

/** Texts of the numbers within the bounds; NEVER when there is none. */
export function numbersWithin(expressions: Expressions, bounds: NumberBounds): Expression {
  const range = bounds.integer ? wholeBounds(bounds) : bounds;
  const { least, most, leastExcluded, mostExcluded } = range;
  if (least > most || (least === most && (leastExcluded || mostExcluded))) return NEVER;
  const nearest = Math.max(least, -most, 0);
  const needed = range.integer
    ? 0
    : Math.max(
        bounds.decimals ?? 0,
        ...[least, most].map((value) => (isFinite(value) ? decimal(value).decimals.length : 0)),
      );
  const room = SIGNIFICANT_DIGITS - decimal(nearest).whole.length;
  if (room < needed) refuse(least > 0 ? least : most);
  const decimals = range.integer ? 0 : Math.max(needed, Math.min(USUAL_DECIMALS, room));
  const wholeDigits = SIGNIFICANT_DIGITS - decimals;
  const largest = 10 ** wholeDigits;
  const end: Bound = { at: { whole: '9'.repeat(wholeDigits), decimals: '9'.repeat(decimals) }, excluded: false };
  const bound = (value: number, excluded: boolean): Bound =>
    Math.abs(value) >= largest ? end : { at: decimal(Math.abs(value)), excluded };
  const zero: Bound = { at: decimal(0), excluded: false };
  // Zero is written without a sign.
  const belowZero: Bound = { at: decimal(0), excluded: true };
  const parts: Expression[] = [];
  if (most > 0 || (most === 0 && !mostExcluded)) {
    const from = least >= 0 ? bound(least, leastExcluded) : zero;
    parts.push(unsigned(expressions, from, bound(most, mostExcluded), decimals));
  }
  if (least < 0) {
    const from = most < 0 ? bound(most, mostExcluded) : belowZero;
    parts.push(
      expressions.sequence(
        expressions.literal('-'),
        unsigned(expressions, from, bound(least, leastExcluded), decimals),
      ),
    );
  }
  return expressions.any(parts);
}

function refuse(value: number): never {
  raise(
    SQLSTATE.featureNotSupported,
    `minimum or maximum ${value} is not supported: numbers are written with at most ${SIGNIFICANT_DIGITS} digits`,
  );
}

function wholeBounds({ least, leastExcluded, most, mostExcluded }: NumberBounds): NumberBounds {
  return {
    integer: true,
    least: leastExcluded ? Math.floor(least) + 1 : Math.ceil(least),
    leastExcluded: false,
    most: mostExcluded ? Math.ceil(most) - 1 : Math.floor(most),
    mostExcluded: false,
  };
}

/** Decimals with which a number is written. */
export function decimalsOf(value: number): number {
  return decimal(Math.abs(value)).decimals.length;
}

function decimal(value: number): Decimal {
  const digits = /^-?(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value))!;
  const exponent = Number(digits[3] ?? 0);
  const all = digits[1]! + (digits[2] ?? '');
  const point = digits[1]!.length + exponent;
  if (point > 400 || point < -SIGNIFICANT_DIGITS) refuse(value);
  const padded = '0'.repeat(Math.max(0, 1 - point)) + all + '0'.repeat(Math.max(0, point - all.length));
  const cut = Math.max(1, point);
  const decimals = padded.slice(cut).replace(/0+$/, '');
  if (decimals.length > SIGNIFICANT_DIGITS - 1) refuse(value);
  return { whole: padded.slice(0, cut).replace(/^0+(?=\d)/, ''), decimals };
}

/** Numbers without a sign from `from` to `to`, with at most that many decimals. */
function unsigned(expressions: Expressions, from: Bound, to: Bound, decimals: number): Expression {
  const parts: Expression[] = [];
  for (let length = from.at.whole.length; length <= to.at.whole.length; length++) {
    const low =
      length === from.at.whole.length
        ? from
        : { at: { whole: `1${'0'.repeat(length - 1)}`, decimals: '' }, excluded: false };
    const high =
      length === to.at.whole.length
        ? to
        : { at: { whole: '9'.repeat(length), decimals: '9'.repeat(decimals) }, excluded: false };
    parts.push(new DigitRange(expressions, low, high, length, decimals).from(0, true, true));
  }
  return expressions.any(parts);
}

/** Numbers whose whole part has `length` digits, between two of that kind. */
class DigitRange {
  private readonly low: string; // all digits, as many decimals as there may be
  private readonly high: string;
  private readonly known = new Map<string, Expression>();

  constructor(
    private readonly expressions: Expressions,
    private readonly lowest: Bound,
    private readonly highest: Bound,
    private readonly length: number,
    decimals: number,
  ) {
    this.low = lowest.at.whole + lowest.at.decimals.padEnd(decimals, '0');
    this.high = highest.at.whole + highest.at.decimals.padEnd(decimals, '0');
  }

  /** What may stand from digit `at` on, when the digits before are those of a bound (`onLow`, `onHigh`). */
  from(at: number, onLow: boolean, onHigh: boolean): Expression {
    const key = `${at},${onLow},${onHigh}`;
    let found = this.known.get(key);
    if (found === undefined) {
      found = this.make(at, onLow, onHigh);
      this.known.set(key, found);
    }
    return found;
  }

  private make(at: number, onLow: boolean, onHigh: boolean): Expression {
    const { expressions } = this;
    if (at < this.length) return this.digit(at, onLow, onHigh);
    const end = this.mayEnd(at, onLow, onHigh) ? EMPTY : NEVER;
    if (at === this.low.length) return end;
    const more = this.digit(at, onLow, onHigh);
    return expressions.any([end, at === this.length ? expressions.sequence(expressions.literal('.'), more) : more]);
  }

  private digit(at: number, onLow: boolean, onHigh: boolean): Expression {
    const least = onLow ? Number(this.low[at]) : 0;
    const most = onHigh ? Number(this.high[at]) : 9;
    const { expressions } = this;
    const parts: Expression[] = [];
    for (let digit = least; digit <= most; digit++) {
      const rest = this.from(at + 1, onLow && digit === least, onHigh && digit === most);
      parts.push(expressions.sequence(expressions.literal(String(digit)), rest));
    }
    return expressions.any(parts);
  }

  /** Whether the digits so far, with zeros after them, are within the bounds. */
  private mayEnd(at: number, onLow: boolean, onHigh: boolean): boolean {
    const isZero = (digits: string): boolean => /^0*$/.test(digits.slice(at));
    if (onLow && (!isZero(this.low) || this.lowest.excluded)) return false;
    return !(onHigh && isZero(this.high) && this.highest.excluded);
  }
}
