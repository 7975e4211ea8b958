/** What a model thinks before it answers, taken apart from the answer as it is written. */
import type { ThinkingFamily } from '../format/thinking-families.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { partialEnd } from './partial-end.ts';

export interface SplitText {
  thinking: string;
  text: string;
}

/** Tokens of a prompt's end in which a marker that begins thinking is looked for. */
const MARKER_TOKENS = 16;

/** Whether a prompt ends with the marker that begins thinking. */
export function thinkingBegun(tokenizer: Tokenizer, promptIds: readonly number[], { open }: ThinkingFamily): boolean {
  return tokenizer.decode(promptIds.slice(-MARKER_TOKENS), { special: true }).trimEnd().endsWith(open);
}

const NOTHING: SplitText = { thinking: '', text: '' };

/** Takes an answer that arrives in pieces apart; text goes out as soon as it is certain on which side it stands. */
export class ThinkingSplitter {
  private held = '';
  private state: 'before' | 'thinking' | 'after' | 'answer';
  /** Whether nothing of the thinking went out yet: white space before it is no part of it. */
  private silent = true;

  /** `begun`: the prompt ends with the marker that begins thinking. */
  constructor(
    private readonly family: ThinkingFamily,
    begun: boolean,
  ) {
    this.state = begun ? 'thinking' : 'before';
  }

  /** Whether a token of this name is a marker, or part of one, that is still waited for. */
  waitsFor(name: string): boolean {
    const { open, close, around = [] } = this.family;
    return this.state !== 'answer' && [open, close, ...around].some((marker) => marker.includes(name));
  }

  push(piece: string): SplitText {
    if (this.state === 'answer') return { thinking: '', text: piece };
    this.held += piece;
    switch (this.state) {
      case 'before':
        return this.begin();
      case 'thinking':
        return this.think();
      case 'after':
        return this.answer();
    }
  }

  /** What was held back, at the end. */
  flush(): SplitText {
    const rest = this.held;
    this.held = '';
    return this.state === 'thinking'
      ? { thinking: rest.trimEnd(), text: '' }
      : { thinking: '', text: this.state === 'after' ? '' : rest };
  }

  private begin(): SplitText {
    const { open, around = [] } = this.family;
    const start = this.held.trimStart();
    if (start.startsWith(open)) {
      this.state = 'thinking';
      this.held = start.slice(open.length);
      return this.think();
    }
    if (open.startsWith(start)) return NOTHING;
    if (around.some((marker) => marker.startsWith(start) || start.startsWith(marker))) {
      this.state = 'after';
      return this.answer();
    }
    return this.out(this.held);
  }

  private think(): SplitText {
    const { close } = this.family;
    if (this.silent) this.held = this.held.trimStart();
    const at = this.held.indexOf(close);
    if (at >= 0) {
      const thinking = this.held.slice(0, at).trimEnd();
      this.held = this.held.slice(at + close.length);
      this.state = 'after';
      return { thinking, text: this.answer().text };
    }
    // White space before the marker that ends it is no part of it, so it waits as well.
    const certain = this.held.slice(0, this.held.length - partialEnd(this.held, close)).trimEnd().length;
    const thinking = this.held.slice(0, certain);
    this.held = this.held.slice(certain);
    if (thinking !== '') this.silent = false;
    return { thinking, text: '' };
  }

  /** Past white space and markers to the answer's first character. */
  private answer(): SplitText {
    const { around = [] } = this.family;
    for (;;) {
      this.held = this.held.trimStart();
      const marker = around.find((known) => this.held.startsWith(known));
      if (marker === undefined) break;
      this.held = this.held.slice(marker.length);
    }
    if (this.held === '' || around.some((marker) => marker.startsWith(this.held))) return NOTHING;
    return this.out(this.held);
  }

  private out(text: string): SplitText {
    this.state = 'answer';
    this.held = '';
    return { thinking: '', text };
  }
}
