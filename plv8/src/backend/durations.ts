/** Durations as Ollama tells them: in nanoseconds. The clock here has whole milliseconds. */
const NS_PER_MS = 1_000_000;

export function nanoseconds(milliseconds: number): number {
  return milliseconds * NS_PER_MS;
}
