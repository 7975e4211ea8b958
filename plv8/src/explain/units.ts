/** What is deleted from a prompt at a time: tokens, words, sentences, or spans of words. */

export const INPUT_MODES = ['none', 'spans', 'words', 'sentences', 'tokens'] as const;
export type InputMode = (typeof INPUT_MODES)[number];

/** Positions [from, to) of the prompt. */
export interface Unit {
  from: number;
  to: number;
}

export interface PromptToken {
  text: string;
  /** Control tokens, and what the template wrote. */
  isLeftOut: boolean;
}

/** Words that are deleted one by one where spans are wanted. */
export const MAX_SPANS = 8;

/** Units of a prompt in reading order. What is left out and blanks are in no word or sentence; only `tokens` has them. */
export function unitsOf(prompt: readonly PromptToken[], mode: Exclude<InputMode, 'spans'>): Unit[] {
  switch (mode) {
    case 'none':
      return [];
    case 'tokens':
      return prompt.map((_, from) => ({ from, to: from + 1 }));
    case 'words':
      return wordsOf(prompt);
    case 'sentences':
      return split(prompt, startsSentence);
  }
}

export function wordsOf(prompt: readonly PromptToken[]): Unit[] {
  return split(prompt, startsWord);
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
    if (token.isLeftOut) {
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

/** Neighbouring words in two parts of about equally many. */
export function halves(words: readonly Unit[]): Unit[][] {
  const middle = words.length >> 1;
  return [words.slice(0, middle), words.slice(middle)];
}

export function quarters(words: readonly Unit[]): Unit[][] {
  return halves(words).flatMap(halves);
}
