/** The body of an answer as it comes, and an end to waiting for one that no longer comes. */
import { quoted } from '../../../plv8/src/format/visible-text.ts';
import { CommandError, EXIT } from '../../errors.ts';

/** Seconds in which something has to come. */
const STALL_SECONDS = 30;
/** Fewer bytes than these in that time are nothing. */
export const LEAST_BYTES = 1024;

/** Milliseconds after which an answer that brings nothing is given up; HARTONOMOUS_STALL_SECONDS sets it. */
function stallTime(): number {
  const given = process.env.HARTONOMOUS_STALL_SECONDS;
  const seconds = given === undefined || given.trim() === '' ? STALL_SECONDS : Number(given);
  if (!(seconds > 0 && seconds <= 86_400))
    throw new CommandError(`HARTONOMOUS_STALL_SECONDS must be a number above 0 and up to 86400, got ${quoted(given)}`, {
      exitCode: EXIT.usage,
    });
  return seconds * 1000;
}

/** Pieces of a body; throws when fewer than LEAST_BYTES of it came within the time above. */
export async function* chunksOf(response: Response): AsyncGenerator<Uint8Array> {
  if (response.body === null) return;
  const wait = stallTime();
  const reader = response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  let came = 0;
  let stalled = false;
  const timer = setInterval(() => {
    stalled ||= came < LEAST_BYTES;
    if (stalled) void reader.cancel().catch(() => undefined); // ends the read that waits
    came = 0;
  }, wait);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (stalled) throw new Error(`fewer than ${LEAST_BYTES} bytes came in ${wait / 1000} s`);
      if (done) return;
      came += value.length;
      yield value;
    }
  } finally {
    clearInterval(timer);
    void reader.cancel().catch(() => undefined);
  }
}
