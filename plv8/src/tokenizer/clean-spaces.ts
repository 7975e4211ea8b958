/**
 * Undo the spaces that older tokenizers put around punctuation: before ? ! . and ,; around a lone apostrophe; before
 * 's, 'm, 're and 've.
 */
export function cleanSpaces(text: string): string {
  return text
    .replace(/ (?=[?!.,])/g, (space, at: number) => (at + 1 < text.length ? '' : space))
    .replace(/ ' /g, "'")
    .replace(/ (?='(?:s|m|re|ve))/g, '');
}
