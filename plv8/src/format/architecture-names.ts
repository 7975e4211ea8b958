/**
 * Values of general.architecture whose forward pass is implemented, each in a file of plv8/src/model/architectures.
 * Shared by the client, which refuses the others before it sends anything, and the code inside PostgreSQL.
 */
export const ARCHITECTURE_NAMES = ['llama', 'qwen2', 'qwen3', 'phi3', 'gemma2', 'gemma3', 'gpt2', 'bert'] as const;

export type ArchitectureName = (typeof ARCHITECTURE_NAMES)[number];

export function isArchitectureName(name: string): name is ArchitectureName {
  return (ARCHITECTURE_NAMES as readonly string[]).includes(name);
}
