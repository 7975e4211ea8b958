/**
 * Values of general.architecture whose forward pass is implemented, each in a file of plv8/src/model/architectures.
 * Shared by the client, which refuses the others before it sends anything, and the code inside PostgreSQL.
 */
export const ARCHITECTURE_NAMES: readonly string[] = [
  'llama',
  'qwen2',
  'qwen3',
  'phi3',
  'gemma2',
  'gemma3',
  'gpt2',
  'bert',
];
