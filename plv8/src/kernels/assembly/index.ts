// Kernels of the forward pass, compiled by AssemblyScript to WebAssembly with 128-bit SIMD. All arguments are byte
// addresses in the imported memory, laid out by model/arena.ts, and counts. Loading goes through unpack and layout, a
// product through activations and one of the matmuls. Of constrained decoding: token-trees. Of explanations: attention-weights
// and value-norms.
export * from './unpack';
export * from './unpack-k';
export * from './layout';
export * from './activations';
export * from './matmul-integers';
export {
  oneTokenOther, oneTokenQ4_0, oneTokenQ4_1, oneTokenQ4_K, oneTokenWideQ5_K, oneTokenWideQ6_K, oneTokenQ8_0,
} from './one-token';
export * from './matmul-f32';
export * from './elementwise';
export * from './layer-norm';
export * from './gelu';
export * from './softcap';
export * from './attention';
export * from './token-trees';
export * from './attention-weights';
export * from './value-norms';
