/** More than a process can address, so that no allocator has it: V8 collects all garbage before it gives up on an ArrayBuffer. */
const TOO_MANY_BYTES = 2 ** 47;

/**
 * Give WebAssembly memories that nothing refers to back to the system. V8 knows little of their size and may else leave tens of
 * megabytes of models that were freed; nothing else that PL/V8 offers makes it collect.
 */
export function giveBackMemory(): void {
  try {
    new ArrayBuffer(TOO_MANY_BYTES);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
}
