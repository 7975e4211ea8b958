/**
 * Pairs of neighbouring symbols waiting to be merged: a binary heap over typed arrays, lowest key first and, among
 * equal keys, leftmost first. Entries are never changed; the reader drops those that are out of date.
 */
export class MergeQueue {
  private keys = new Float64Array(64);
  private lefts = new Int32Array(64);
  private checks = new Int32Array(64);
  private count = 0;

  /** Fields of the entry that pop() took out. */
  left = 0;
  check = 0;

  clear(): void {
    this.count = 0;
  }

  /** `check` is what the reader compares to tell whether the entry is still true. */
  push(key: number, left: number, check: number): void {
    if (this.count === this.keys.length) this.grow();
    let at = this.count++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(key, left, parent)) break;
      this.move(parent, at);
      at = parent;
    }
    this.keys[at] = key;
    this.lefts[at] = left;
    this.checks[at] = check;
  }

  /** Take the first entry into `left` and `check`; false when there is none. */
  pop(): boolean {
    if (this.count === 0) return false;
    this.left = this.lefts[0]!;
    this.check = this.checks[0]!;
    const last = --this.count;
    if (last > 0) {
      const key = this.keys[last]!;
      const left = this.lefts[last]!;
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= last) break;
        if (child + 1 < last && this.before(this.keys[child + 1]!, this.lefts[child + 1]!, child)) child++;
        if (!this.before(this.keys[child]!, this.lefts[child]!, last)) break;
        this.move(child, at);
        at = child;
      }
      this.keys[at] = key;
      this.lefts[at] = left;
      this.checks[at] = this.checks[last]!;
    }
    return true;
  }

  private before(key: number, left: number, other: number): boolean {
    const otherKey = this.keys[other]!;
    return key < otherKey || (key === otherKey && left < this.lefts[other]!);
  }

  private move(from: number, to: number): void {
    this.keys[to] = this.keys[from]!;
    this.lefts[to] = this.lefts[from]!;
    this.checks[to] = this.checks[from]!;
  }

  private grow(): void {
    const size = this.keys.length * 2;
    const keys = new Float64Array(size);
    const lefts = new Int32Array(size);
    const checks = new Int32Array(size);
    keys.set(this.keys);
    lefts.set(this.lefts);
    checks.set(this.checks);
    this.keys = keys;
    this.lefts = lefts;
    this.checks = checks;
  }
}
