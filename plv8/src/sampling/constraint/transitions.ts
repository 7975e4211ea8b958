/** Which state follows which by which byte, as one table of numbers that is filled as states are come to. */
import type { Expression, Expressions } from './expression.ts';
import { NEVER } from './expression.ts';

/** In the table: not asked for yet. */
export const UNKNOWN = 0;
/** Number of the state that nothing leaves. */
export const DEAD = 1;

export class Transitions {
  /** (states) the expression of a number */
  readonly states: Expression[] = [NEVER, NEVER];
  /** (states x 256) number of the next state */
  next = new Int32Array(64 * 256);
  /** (states) tokens that suffice after the state, -1 until somebody has worked them out */
  needed = new Float64Array(64).fill(-1);
  private readonly numbers = new Map<Expression, number>();

  /** Holds `most` states at a time, a KiB each. */
  constructor(
    private readonly expressions: Expressions,
    private readonly most: number,
  ) {}

  get bytes(): number {
    return this.next.byteLength + this.needed.byteLength;
  }

  /** Number of a state where a walk begins. Numbers hold until the next walk, but for what `find` says. */
  begin(state: Expression): number {
    if (this.states.length > this.most / 2) this.forget();
    return this.numberOf(state);
  }

  /**
   * Number of what follows the state at `stack[depth]`. `next` and `needed` may be others after that; where there was no
   * more room, the states on the stack got other numbers.
   */
  find(stack: Int32Array, depth: number, byte: number): number {
    this.expressions.poll();
    if (this.states.length >= this.most) {
      const path = Array.from(stack.subarray(0, depth + 1), (number) => this.states[number]!);
      this.forget();
      path.forEach((state, i) => (stack[i] = this.numberOf(state)));
    }
    const from = stack[depth]!;
    const { of } = this.expressions.classesOf(this.states[from]!);
    const to = this.numberOf(this.expressions.derive(this.states[from]!, byte));
    const { next } = this;
    for (let other = 0; other < 256; other++) if (of[other] === of[byte]) next[from * 256 + other] = to;
    return to;
  }

  private numberOf(state: Expression): number {
    if (state === NEVER) return DEAD;
    let number = this.numbers.get(state);
    if (number === undefined) {
      number = this.states.push(state) - 1;
      this.numbers.set(state, number);
      if (number === this.needed.length) this.grow();
    }
    return number;
  }

  private grow(): void {
    const { next, needed } = this;
    this.next = new Int32Array(2 * next.length);
    this.next.set(next);
    this.needed = new Float64Array(2 * needed.length).fill(-1);
    this.needed.set(needed);
  }

  private forget(): void {
    this.states.length = DEAD + 1;
    this.numbers.clear();
    this.next.fill(UNKNOWN);
    this.needed.fill(-1);
  }
}
