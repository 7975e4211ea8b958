import { utf8Length } from '../format/utf8.ts';
import { TOKEN_TYPE } from './vocabulary.ts';

/** A stretch of ordinary text, or the id of a special token. */
export type Fragment = string | number;

/** UTF-16 units [start, end) of a text; several are in order and do not overlap. */
export interface Stretch {
  readonly start: number;
  readonly end: number;
}

interface Placed {
  /** where it begins in the whole text */
  at: number;
  fragment: Fragment;
}

/**
 * Cuts the special tokens out of a text before anything else is tokenized: longest name first, each wherever it
 * occurs. User-defined tokens always, control and unknown tokens only when they are to be parsed.
 */
export class SpecialTokens {
  /** longest (in UTF-8 bytes) first */
  private readonly specials: { id: number; text: string; always: boolean; stripsRight: boolean }[] = [];

  /** `stripsRight` tells which tokens take the white space after them with them. */
  constructor(tokens: readonly string[], types: ArrayLike<number>, stripsRight: (id: number, text: string) => boolean) {
    for (let id = 0; id < tokens.length; id++) {
      const type = types[id];
      if (type !== TOKEN_TYPE.control && type !== TOKEN_TYPE.userDefined && type !== TOKEN_TYPE.unknown) continue;
      const text = tokens[id]!;
      if (text === '') continue;
      this.specials.push({ id, text, always: type === TOKEN_TYPE.userDefined, stripsRight: stripsRight(id, text) });
    }
    const size = new Map(this.specials.map((special) => [special.id, utf8Length(special.text)]));
    this.specials.sort((a, b) => size.get(b.id)! - size.get(a.id)! || a.id - b.id);
  }

  /** `content` says which stretches are a caller's: a control token that touches one of them is text. */
  split(text: string, parseSpecial: boolean, content: readonly Stretch[] = []): Fragment[] {
    if (text === '') return [];
    let fragments: Placed[] = [{ at: 0, fragment: text }];
    let starts: Set<number> | null = null;
    for (const special of this.specials) {
      if (!special.always && !parseSpecial) continue;
      starts ??= pairsOf(text);
      if (special.text.length > 1 && !starts.has(pairAt(special.text, 0))) continue;
      if (!text.includes(special.text)) continue;
      const next: Placed[] = [];
      for (const placed of fragments) {
        if (typeof placed.fragment === 'number') next.push(placed);
        else cut(placed.fragment, placed.at, special, special.always ? [] : content, next);
      }
      fragments = next;
    }
    return fragments.map(({ fragment }) => fragment);
  }
}

/** The white space of C. */
const WHITE = ' \t\n\v\f\r';

function cut(
  text: string,
  start: number,
  special: { id: number; text: string; stripsRight: boolean },
  content: readonly Stretch[],
  out: Placed[],
): void {
  const size = special.text.length;
  let from = 0;
  for (let at = text.indexOf(special.text); at >= 0;) {
    if (touches(content, start + at, start + at + size)) {
      at = text.indexOf(special.text, at + 1);
      continue;
    }
    if (at > from) out.push({ at: start + from, fragment: text.slice(from, at) });
    out.push({ at: start + at, fragment: special.id });
    from = at + size;
    while (special.stripsRight && from < text.length && WHITE.includes(text[from]!)) from++;
    at = text.indexOf(special.text, from);
  }
  if (from < text.length) out.push({ at: start + from, fragment: text.slice(from) });
}

/** Whether a stretch has a character in [start, end). */
function touches(content: readonly Stretch[], start: number, end: number): boolean {
  let [low, high] = [0, content.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (content[middle]!.end <= start) low = middle + 1;
    else high = middle;
  }
  return low < content.length && content[low]!.start < end;
}

function pairAt(text: string, at: number): number {
  return text.charCodeAt(at) * 65536 + text.charCodeAt(at + 1);
}

/** Every pair of neighbouring code units: most special tokens are ruled out by their first two. */
function pairsOf(text: string): Set<number> {
  const pairs = new Set<number>();
  for (let i = 0; i + 1 < text.length; i++) pairs.add(pairAt(text, i));
  return pairs;
}
