/**
 * A text of a template, with the stretches of it that came from the caller and not from the template. Every operation on
 * texts is made of slices, joins and maps of these, so that where a character came from is never lost.
 */

/** A stretch of UTF-16 units [start, end) that the caller wrote; `answer` where it is the text of an assistant's message. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly answer: boolean;
}

const NONE: readonly Span[] = [];

export class Text {
  /** `spans` in order, not overlapping, not empty. */
  constructor(
    readonly chars: string,
    readonly spans: readonly Span[] = NONE,
  ) {}

  /** Text that the caller wrote. */
  static content(chars: string, answer = false): Text {
    return chars === '' ? EMPTY : new Text(chars, [{ start: 0, end: chars.length, answer }]);
  }

  get length(): number {
    return this.chars.length;
  }

  /** UTF-16 units [start, end). */
  slice(start: number, end = this.chars.length): Text {
    if (start <= 0 && end >= this.chars.length) return this;
    if (start >= end) return EMPTY;
    const chars = this.chars.slice(start, end);
    if (this.spans.length === 0) return new Text(chars);
    const spans: Span[] = [];
    for (const span of this.spans) {
      const from = Math.max(span.start, start);
      const to = Math.min(span.end, end);
      if (from < to) spans.push({ start: from - start, end: to - start, answer: span.answer });
    }
    return new Text(chars, spans);
  }

  /** Stretches of one origin, in order. */
  stretches(): Text[] {
    const out: Text[] = [];
    let at = 0;
    for (const span of this.spans) {
      if (at < span.start) out.push(this.slice(at, span.start));
      out.push(this.slice(span.start, span.end));
      at = span.end;
    }
    if (at < this.chars.length) out.push(this.slice(at));
    return out;
  }

  /** The text with `change` made to its characters; a text of one length keeps its spans, another is changed by stretches. */
  map(change: (chars: string) => string): Text {
    const chars = change(this.chars);
    if (this.spans.length === 0) return new Text(chars);
    return chars.length === this.chars.length ? new Text(chars, this.spans) : this.mapStretches(change);
  }

  /** Stretches of one origin, each changed by itself. */
  mapStretches(change: (chars: string) => string): Text {
    if (this.spans.length === 0) return new Text(change(this.chars));
    return joinTexts(
      this.stretches().map((each) => {
        const changed = change(each.chars);
        return each.spans.length === 0 ? new Text(changed) : Text.content(changed, each.spans[0]!.answer);
      }),
    );
  }
}

export const EMPTY = new Text('');

/** Texts one after the other; neighbouring stretches of the caller's become one, those of answers stay apart. */
export function joinTexts(parts: readonly Text[]): Text {
  if (parts.length === 1) return parts[0]!;
  const chars: string[] = [];
  const spans: Span[] = [];
  let size = 0;
  for (const part of parts) {
    for (const span of part.spans) {
      const last = spans.at(-1);
      const start = span.start + size;
      if (last !== undefined && last.end === start && !last.answer && !span.answer)
        spans[spans.length - 1] = { start: last.start, end: span.end + size, answer: false };
      else spans.push({ start, end: span.end + size, answer: span.answer });
    }
    chars.push(part.chars);
    size += part.chars.length;
  }
  return new Text(chars.join(''), spans);
}
