/**
 * Values of general.architecture whose forward pass is implemented, each in a file of plv8/src/model/architectures.
 * Shared by the client, which refuses the others before it sends anything, and the code inside PostgreSQL.
 */
export const ARCHITECTURE_NAMES = [
  'llama',
  'qwen2',
  'qwen3',
  'phi3',
  'gemma2',
  'gemma3',
  'gpt2',
  'bert',
  'nomic-bert',
  'nomic-bert-moe',
  'gemma-embedding',
] as const;

export type ArchitectureName = (typeof ARCHITECTURE_NAMES)[number];

/** Of these the ones that read texts and write none. */
const ENCODERS: readonly ArchitectureName[] = ['bert', 'nomic-bert', 'nomic-bert-moe', 'gemma-embedding'];

export function isEncoder(name: string): boolean {
  return (ENCODERS as readonly string[]).includes(name);
}

export function isArchitectureName(name: string): name is ArchitectureName {
  return (ARCHITECTURE_NAMES as readonly string[]).includes(name);
}
