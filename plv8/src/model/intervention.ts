/** How the forward pass lets somebody see and change what parts of the network write. */

/**
 * Where a part writes: the heads' outputs before the output matrix (nHeads * headSize), the activations of a feed-forward
 * network before its last matrix (hiddenDim), or what such a network adds to the residual stream (dim).
 */
export type WrittenTo = 'heads' | 'neurons' | 'ffn';

/**
 * Sees what is written at positions of one sequence from `position` on, rows of `width` floats, and may change them in
 * place. The view is good during the call only.
 */
export type Intervention = (to: WrittenTo, layer: number, position: number, rows: Float32Array, width: number) => void;
