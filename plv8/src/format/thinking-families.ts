/** How families of models mark what they think before they answer; their chat templates name the marks as well. */

export interface ThinkingFamily {
  open: string;
  close: string;
  /** markers around the answer, which are no part of it */
  around?: readonly string[];
}

const FAMILIES: readonly ThinkingFamily[] = [
  // Command A Reasoning, Command R7B
  { open: '<|START_THINKING|>', close: '<|END_THINKING|>', around: ['<|START_RESPONSE|>', '<|END_RESPONSE|>'] },
  // gpt-oss
  {
    open: '<|channel|>analysis<|message|>',
    close: '<|end|>',
    around: ['<|start|>assistant', '<|channel|>final<|message|>'],
  },
  // Seed-OSS
  { open: '<seed:think>', close: '</seed:think>' },
  // Magistral
  { open: '[THINK]', close: '[/THINK]' },
  // Apertus
  { open: '<|inner_prefix|>', close: '<|inner_suffix|>' },
  // Kimi-VL
  { open: '◁think▷', close: '◁/think▷' },
  // EXAONE Deep
  { open: '<thought>', close: '</thought>' },
  // Granite 3.2
  { open: 'Here is my thought process:', close: 'Here is my response:' },
  // Qwen 3, QwQ, DeepSeek R1, SmolLM3, GLM 4.5, Nemotron, Hunyuan, MiniMax, Phi 4 Reasoning
  { open: '<think>', close: '</think>' },
];

/** The family whose markers a chat template names; null where the model does not think. */
export function thinkingFamily(template: string): ThinkingFamily | null {
  return FAMILIES.find(({ open, close }) => template.includes(open) || template.includes(close)) ?? null;
}
