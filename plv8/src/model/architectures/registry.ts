import { raise, SQLSTATE } from '../../errors.ts';
import { ARCHITECTURE_NAMES, isArchitectureName } from '../../format/architecture-names.ts';
import type { ArchitectureName } from '../../format/architecture-names.ts';
import type { Architecture } from './architecture.ts';
import { bert } from './bert.ts';
import { gemmaEmbedding } from './gemma-embedding.ts';
import { gemma2 } from './gemma2.ts';
import { gemma3 } from './gemma3.ts';
import { gpt2 } from './gpt2.ts';
import { llama } from './llama.ts';
import { nomicBert } from './nomic-bert.ts';
import { nomicBertMoe } from './nomic-bert-moe.ts';
import { phi3 } from './phi3.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3 } from './qwen3.ts';
import { brief } from '../../format/visible-text.ts';

const ALL: Readonly<Record<ArchitectureName, Architecture>> = {
  llama,
  qwen2,
  qwen3,
  phi3,
  gemma2,
  gemma3,
  gpt2,
  bert,
  'nomic-bert': nomicBert,
  'nomic-bert-moe': nomicBertMoe,
  'gemma-embedding': gemmaEmbedding,
};

/** The architecture of this name; throws featureNotSupported listing those there are. */
export function findArchitecture(name: string): Architecture {
  if (isArchitectureName(name)) return ALL[name];
  raise(SQLSTATE.featureNotSupported, `architecture ${brief(name)} is not supported`, {
    hint: `supported: ${ARCHITECTURE_NAMES.join(', ')}`,
  });
}
