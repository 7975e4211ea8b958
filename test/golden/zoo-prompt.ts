/** Ids of a prompt of so many tokens, as make-decoder-zoo.py and make-long-goldens.py have them; every vocabulary of the zoo holds these. */
export function zooPrompt(length: number): number[] {
  return [1, ...Array.from({ length: length - 1 }, (_, i) => 3 + ((7 * i * i + 11 * i) % 500))];
}
