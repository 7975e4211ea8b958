declare module 'wasm:kernels' {
  /** The WebAssembly module of plv8/src/kernels/assembly, base64. */
  const base64: string;
  export default base64;
}
