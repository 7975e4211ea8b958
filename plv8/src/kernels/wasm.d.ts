declare module 'wasm:kernels' {
  /** The WebAssembly modules of plv8/src/kernels/assembly, base64: without and with relaxed SIMD. */
  export const plain: string;
  export const relaxed: string;
}
