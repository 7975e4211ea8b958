/**
 * What the engine makes of relaxed SIMD's dot product. i32x4.relaxed_dot_i8x16_i7x16_add is defined alike everywhere while
 * the second operand's bytes are 0 to 127; beyond, an engine does what its instructions do, and that tells which they are
 * (WebAssembly relaxed SIMD proposal, "Relaxed integer dot product").
 */
import { webAssembly } from './web-assembly.ts';

// (module (func (export "dot") (param i32 i32) (result i32)
//   (i32x4.extract_lane 0 (i32x4.relaxed_dot_i8x16_i7x16_add_s
//     (i8x16.splat (local.get 0)) (i8x16.splat (local.get 1)) (i8x16.splat (i32.const 0))))))
// prettier-ignore
const PROBE = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x07, 0x01, 0x60, 0x02, 0x7f, 0x7f, 0x01, 0x7f,
  0x03, 0x02, 0x01, 0x00,
  0x07, 0x07, 0x01, 0x03, 0x64, 0x6f, 0x74, 0x00, 0x00,
  0x0a, 0x16, 0x01, 0x14, 0x00,
  0x20, 0x00, 0xfd, 0x0f, 0x20, 0x01, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, 0xfd, 0x93, 0x02, 0xfd, 0x1b, 0x00, 0x0b,
]);

/** What four products of 127 with the byte 255 come to by one instruction: x86's VNNI, ARM's sdot. AVX2's saturate. */
const ONE_INSTRUCTION = [4 * 127 * 255, 4 * 127 * -1];

/**
 * Whether the engine validates the dot product, has it as one instruction, and has it right: V8 11.3's baseline compiler
 * doubles the sum.
 */
export function hasRelaxedDot(): boolean {
  const { validate, Module, Instance } = webAssembly();
  if (!validate(PROBE)) return false;
  const { dot } = new Instance(new Module(PROBE), {}).exports as { dot(a: number, b: number): number };
  return dot(-128, 127) === 4 * -128 * 127 && ONE_INSTRUCTION.includes(dot(127, 255));
}
