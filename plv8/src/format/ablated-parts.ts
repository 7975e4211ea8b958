/** Parts of a network that a call leaves out, as option `ablate` names them. */
export interface AblatedParts {
  heads: { layer: number; head: number }[];
  /** Whole feed-forward networks. */
  ffns: { layer: number }[];
  /** Single activations within them. */
  neurons: { layer: number; index: number }[];
  /** What stands in the place of what a part wrote: nothing, or the mean of what it writes over the prompt. */
  by: 'zero' | 'mean';
  /** First position of the sequence at which they are left out. */
  from: number;
}
