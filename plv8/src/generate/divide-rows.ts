/** Which sequences go through the layers together in one pass. */

/** A sequence that wants to be computed. */
export interface Standing {
  /** Ids that are not in its cache yet, at least one. */
  pending: number;
  /** Whether its prompt was read, so that somebody waits for its next token. */
  writing: boolean;
}

/**
 * Rows that each sequence gets of a pass of `rows`, in the order of the sequences, which is that in which they came. Whoever
 * writes gets one: nobody's next token waits for more than one pass. Of what is left the prompt that came first gets at least
 * half, and the rest those that need fewest: a long prompt neither holds up short ones nor waits for ever.
 */
export function divideRows(sequences: readonly Standing[], rows: number): number[] {
  const taken = sequences.map(({ writing }) => (writing ? 1 : 0));
  let left = rows - taken.reduce<number>((sum, each) => sum + each, 0);
  const give = (index: number, most: number): void => {
    const more = Math.max(0, Math.min(most, left, sequences[index]!.pending - taken[index]!));
    taken[index]! += more;
    left -= more;
  };
  const reading = [...sequences.keys()].filter((index) => !sequences[index]!.writing);
  if (reading.length > 0) give(reading[0]!, Math.ceil(left / 2));
  reading.sort((a, b) => sequences[a]!.pending - sequences[b]!.pending || a - b);
  for (const index of reading) give(index, left);
  return taken;
}
