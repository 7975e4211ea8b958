/** The models and llama.cpp goldens of test/golden/models. */
import { readFileSync } from 'node:fs';
import { modelPath } from '../golden/model-files.ts';

/** Absolute path of a file below test/golden/models. */
export function goldenPath(...parts: string[]): string {
  return modelPath(parts.join('/'));
}

export interface GoldenPrompt {
  /** Prompt token ids. */
  ids: number[];
  greedyIds: number[];
  /** Logit of the first minus that of the second candidate, per greedy step. */
  greedyMargins: number[];
  /** Logits after the last prompt token (vocabSize), where recorded. */
  lastLogits: Float32Array | null;
}

interface PromptRecord {
  ids?: number[];
  greedy_ids: number[];
  greedy_margins: number[];
  last_logits_f32_base64?: string;
}

function floats(base64: string): Float32Array {
  const bytes = Buffer.from(base64, 'base64');
  const out = new Float32Array(bytes.length / 4);
  for (let i = 0; i < out.length; i++) out[i] = bytes.readFloatLE(4 * i);
  return out;
}

/** What float32 arithmetic on a file's (dequantised) weights gives, by llama.cpp. */
export function readGolden(name: string): GoldenPrompt[] {
  const golden = JSON.parse(readFileSync(goldenPath('goldens', `${name}.json`), 'utf8')) as {
    prompts: PromptRecord[];
    dequantised_f32?: { prompts: PromptRecord[] };
  };
  const exact = golden.dequantised_f32?.prompts ?? golden.prompts;
  return golden.prompts.map((prompt, i) => {
    const record = exact[i]!;
    return {
      ids: prompt.ids ?? [],
      greedyIds: record.greedy_ids,
      greedyMargins: record.greedy_margins,
      lastLogits: record.last_logits_f32_base64 === undefined ? null : floats(record.last_logits_f32_base64),
    };
  });
}
