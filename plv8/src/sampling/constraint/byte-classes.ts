/** Bytes that make no difference to an expression, put together: its derivative is worked out once for all of them. */
export interface ByteClasses {
  readonly number: number;
  /** (256) class of each byte */
  readonly of: Uint8Array;
  /** one byte of each class */
  readonly bytes: readonly number[];
}

/** Partitions of the bytes, each kept once. */
export class BytePartitions {
  private readonly known = new Map<string, ByteClasses>();
  private readonly refined = new Map<number, ByteClasses>();
  private readonly singles: ByteClasses[] = [];
  /** All bytes alike. */
  readonly one = this.partition(() => 0);

  /** Bytes with the same key are alike. */
  partition(keyOf: (byte: number) => number | string): ByteClasses {
    const numbers = new Map<number | string, number>();
    const bytes: number[] = [];
    const of = new Uint8Array(256);
    for (let byte = 0; byte < 256; byte++) {
      const key = keyOf(byte);
      let number = numbers.get(key);
      if (number === undefined) {
        number = numbers.size;
        numbers.set(key, number);
        bytes.push(byte);
      }
      of[byte] = number;
    }
    const text = String.fromCharCode.apply(null, of as unknown as number[]);
    let classes = this.known.get(text);
    if (classes === undefined) {
      classes = { number: this.known.size, of, bytes };
      this.known.set(text, classes);
    }
    return classes;
  }

  /** One byte and all others. */
  single(byte: number): ByteClasses {
    return (this.singles[byte] ??= this.partition((each) => (each === byte ? 1 : 0)));
  }

  /** Bytes are alike that are so in both. */
  refine(a: ByteClasses, b: ByteClasses): ByteClasses {
    if (a === b || b === this.one) return a;
    if (a === this.one) return b;
    const key = a.number * 2 ** 26 + b.number;
    let classes = this.refined.get(key);
    if (classes === undefined) {
      classes = this.partition((byte) => a.of[byte]! * 256 + b.of[byte]!);
      this.refined.set(key, classes);
    }
    return classes;
  }
}
