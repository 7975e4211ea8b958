/**
 * n-dimensional Hilbert curve: J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707 (2004).
 * Consecutive indices differ by one step in exactly one coordinate. Shared by the client and the code inside PostgreSQL.
 */

/** An index must fit a signed bigint. */
const MAX_INDEX_BITS = 63;
/** Coordinates are handled as 32-bit integers. */
const MAX_COORDINATE_BITS = 31;

function checkShape(dims: number, bits: number): void {
  if (!Number.isInteger(dims) || dims < 1) throw new RangeError(`hilbert dims must be at least 1, got ${dims}`);
  if (!Number.isInteger(bits) || bits < 1 || bits > MAX_COORDINATE_BITS) {
    throw new RangeError(`hilbert bits must be between 1 and ${MAX_COORDINATE_BITS}, got ${bits}`);
  }
  if (dims * bits > MAX_INDEX_BITS) {
    throw new RangeError(
      `hilbert index of ${dims} dims x ${bits} bits has ${dims * bits} bits, at most ${MAX_INDEX_BITS} fit`,
    );
  }
}

/** Index of a point; coordinates are integers in [0, 2^bits). Throws RangeError naming the value that does not fit. */
export function hilbertEncode(point: ArrayLike<number>, bits: number): bigint {
  const n = point.length;
  checkShape(n, bits);
  const x = new Array<number>(n);
  for (let i = 0; i < n; i++) {
    const value = point[i]!;
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** bits) {
      throw new RangeError(`hilbert coordinate ${i + 1} is ${value}, ${bits} bits hold 0 to ${2 ** bits - 1}`);
    }
    x[i] = value;
  }
  const top = 2 ** (bits - 1);
  for (let q = top; q > 1; q /= 2) {
    const p = q - 1;
    for (let i = 0; i < n; i++) {
      if (x[i]! & q) x[0]! ^= p;
      else {
        const t = (x[0]! ^ x[i]!) & p;
        x[0]! ^= t;
        x[i]! ^= t;
      }
    }
  }
  for (let i = 1; i < n; i++) x[i]! ^= x[i - 1]!;
  let t = 0;
  for (let q = top; q > 1; q /= 2) if (x[n - 1]! & q) t ^= q - 1;
  for (let i = 0; i < n; i++) x[i]! ^= t;
  // The index's bits, most significant first: bit b of every coordinate in turn.
  let high = 0;
  let low = 0;
  const total = n * bits;
  let place = total;
  for (let b = bits - 1; b >= 0; b--) {
    for (let i = 0; i < n; i++) {
      place--;
      if ((x[i]! >>> b) & 1) {
        if (place >= 32) high += 2 ** (place - 32);
        else low += 2 ** place;
      }
    }
  }
  return (BigInt(high) << 32n) | BigInt(low);
}

/** The point of an index: the inverse of hilbertEncode. */
export function hilbertDecode(index: bigint, dims: number, bits: number): number[] {
  checkShape(dims, bits);
  if (index < 0n || index >= 1n << BigInt(dims * bits)) {
    throw new RangeError(`hilbert index ${index} is outside 0 to ${(1n << BigInt(dims * bits)) - 1n}`);
  }
  const x = new Array<number>(dims).fill(0);
  let place = dims * bits;
  for (let b = bits - 1; b >= 0; b--) {
    for (let i = 0; i < dims; i++) {
      place--;
      if ((index >> BigInt(place)) & 1n) x[i]! |= 1 << b;
    }
  }
  const end = 2 ** bits;
  let t = x[dims - 1]! >>> 1;
  for (let i = dims - 1; i > 0; i--) x[i]! ^= x[i - 1]!;
  x[0]! ^= t;
  for (let q = 2; q !== end; q *= 2) {
    const p = q - 1;
    for (let i = dims - 1; i >= 0; i--) {
      if (x[i]! & q) x[0]! ^= p;
      else {
        t = (x[0]! ^ x[i]!) & p;
        x[0]! ^= t;
        x[i]! ^= t;
      }
    }
  }
  return x;
}
