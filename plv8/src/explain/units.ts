/** What is deleted from a prompt at a time: tokens, words, sentences, or at most eight spans of either. */

export const INPUT_MODES = ['none', 'spans', 'words', 'sentences', 'tokens'] as const;
export type InputMode = (typeof INPUT_MODES)[number];

/** Positions [from, to) of the prompt. */
export interface Unit {
  from: number;
  to: number;
}

export interface PromptToken {
  text: string;
  isControl: boolean;
}

/** Spans of the default mode: few enough to read, and to delete one by one in a moment. */
const MAX_SPANS = 8;
/** Fewer sentences than this say too little; their words are put together instead. */
const MIN_SENTENCES = 4;

/** Units of a prompt in reading order. Control tokens and blanks are in no word or sentence; only `tokens` has them. */
export function unitsOf(prompt: readonly PromptToken[], mode: InputMode): Unit[] {
  switch (mode) {
    case 'none':
      return [];
    case 'tokens':
      return prompt.map((_, from) => ({ from, to: from + 1 }));
    case 'words':
      return split(prompt, startsWord);
    case 'sentences':
      return split(prompt, startsSentence);
    case 'spans': {
      const words = split(prompt, startsWord);
      if (words.length <= MAX_SPANS) return words;
      const sentences = split(prompt, startsSentence);
      if (sentences.length >= MIN_SENTENCES && sentences.length <= MAX_SPANS) return sentences;
      return gather(words, MAX_SPANS);
    }
  }
}

function isBlank(token: PromptToken): boolean {
  return token.text.trim() === '';
}

function startsWord(before: PromptToken, token: PromptToken): boolean {
  return /^\s/.test(token.text) || /\s$/.test(before.text);
}

function startsSentence(before: PromptToken, token: PromptToken): boolean {
  return /\n\s*$/.test(before.text) || (/[.!?]["')\]]*\s*$/.test(before.text) && startsWord(before, token));
}

function split(prompt: readonly PromptToken[], starts: (before: PromptToken, token: PromptToken) => boolean): Unit[] {
  const units: Unit[] = [];
  let open: Unit | null = null;
  prompt.forEach((token, i) => {
    if (token.isControl) {
      open = null;
      return;
    }
    const before = prompt[i - 1];
    if (isBlank(token)) {
      // Blanks belong to what they follow.
      if (open !== null) open.to = i + 1;
      return;
    }
    if (open === null || before === undefined || starts(before, token)) {
      open = { from: i, to: i + 1 };
      units.push(open);
    } else open.to = i + 1;
  });
  return units;
}

/** Put neighbouring units together into `parts` of about equally many tokens. */
function gather(units: readonly Unit[], parts: number): Unit[] {
  const total = units.reduce((sum, unit) => sum + unit.to - unit.from, 0);
  const gathered = new Map<number, Unit>();
  let tokens = 0;
  for (const { from, to } of units) {
    const middle = tokens + (to - from) / 2;
    const part = Math.floor((middle / total) * parts);
    gathered.set(part, { from: gathered.get(part)?.from ?? from, to });
    tokens += to - from;
  }
  return [...gathered.values()];
}
