import { expect, test } from 'vitest';
import { decodeBase64, encodeBase64 } from '../../../plv8/src/format/base64.ts';

test.each([0, 1, 2, 3, 4, 5, 254, 255, 256])('%i bytes are written as Node writes them, and read back', (length) => {
  const bytes = Uint8Array.from({ length }, (_, i) => (i * 151 + 7) & 255);
  const text = encodeBase64(bytes);
  expect(text).toBe(Buffer.from(bytes).toString('base64'));
  expect([...decodeBase64(text)]).toEqual([...bytes]);
});
