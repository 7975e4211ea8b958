/** Length of the longest end of `text` that begins `marker` and is not all of it. */
export function partialEnd(text: string, marker: string): number {
  for (let n = Math.min(marker.length - 1, text.length); n > 0; n--) if (text.endsWith(marker.slice(0, n))) return n;
  return 0;
}
