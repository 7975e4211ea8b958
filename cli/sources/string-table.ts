/** Many byte strings in one buffer: 150,000 tokens cost their bytes and one offset each. */
export class StringTable {
  private constructor(
    private readonly data: Buffer,
    /** (length + 1) offset of each string; the last one is the end. */
    private readonly offsets: Uint32Array,
  ) {}

  get length(): number {
    return this.offsets.length - 1;
  }

  /** Bytes of all strings. */
  get bytes(): number {
    return this.offsets[this.length]!;
  }

  /** Bytes of string `index`, a view. */
  at(index: number): Buffer {
    return this.data.subarray(this.offsets[index], this.offsets[index + 1]);
  }

  /** The UTF-8 forms of texts. */
  static of(texts: readonly string[]): StringTable {
    const builder = StringTable.builder(texts.length);
    for (const text of texts) {
      const room = builder.reserve(Buffer.byteLength(text));
      room.data.write(text, room.offset);
    }
    return builder.finish();
  }

  static builder(length: number): StringTableBuilder {
    const offsets = new Uint32Array(length + 1);
    let data = Buffer.allocUnsafe(Math.max(64, length * 8));
    let used = 0;
    let count = 0;
    return {
      reserve(bytes) {
        if (used + bytes > data.length) {
          const larger = Buffer.allocUnsafe(Math.max(used + bytes, data.length * 2));
          data.copy(larger, 0, 0, used);
          data = larger;
        }
        const offset = used;
        used += bytes;
        offsets[++count] = used;
        return { data, offset };
      },
      finish: () => new StringTable(data.subarray(0, used), offsets),
    };
  }
}

export interface StringTableBuilder {
  /** Room for the next string; the caller fills it. */
  reserve(bytes: number): { data: Buffer; offset: number };
  finish(): StringTable;
}
