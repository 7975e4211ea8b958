/**
 * Finds stop strings in a text that arrives in pieces. Text is given out as soon as it cannot be the beginning of a
 * stop string any more; the stop string itself and what follows it never are.
 */
export class StopMatcher {
  private readonly stops: readonly string[];
  private held = '';
  private found = false;

  constructor(stops: readonly string[]) {
    this.stops = stops.filter((stop) => stop !== '');
  }

  /** Whether a stop string has been seen. */
  get stopped(): boolean {
    return this.found;
  }

  /** The text that may go out after this piece arrived; nothing once a stop string was seen. */
  push(piece: string): string {
    if (this.found) return '';
    const text = this.held + piece;
    const at = this.earliest(text);
    if (at >= 0) {
      this.found = true;
      this.held = '';
      return text.slice(0, at);
    }
    const keep = this.possibleBeginning(text);
    this.held = text.slice(text.length - keep);
    return text.slice(0, text.length - keep);
  }

  /** The held-back text, at the end of generation. */
  flush(): string {
    const rest = this.held;
    this.held = '';
    return rest;
  }

  private earliest(text: string): number {
    let first = -1;
    for (const stop of this.stops) {
      const at = text.indexOf(stop);
      if (at >= 0 && (first < 0 || at < first)) first = at;
    }
    return first;
  }

  /** Length of the longest end of `text` that begins a stop string. */
  private possibleBeginning(text: string): number {
    let longest = 0;
    for (const stop of this.stops) {
      for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
        if (text.endsWith(stop.slice(0, n))) longest = n;
      }
    }
    return longest;
  }
}
