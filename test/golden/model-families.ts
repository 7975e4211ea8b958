/** Families of models with what shows that they work: the rows of docs/models.md, which model-families.test.ts compares. */
import { readFileSync } from 'node:fs';
import { REAL_MODELS } from './real-embedding-models.ts';

export interface Family {
  family: string;
  /** Name in Ollama's library. */
  ollama: string;
  /** general.architecture of its files. */
  architecture: string;
  /** Random models of test/golden/models, and a test that computes with them; null for what is refused. */
  proof: { test: string; models: readonly string[] } | null;
  /** Real weights that a test computes with. */
  real?: readonly { test: string; models: readonly string[] }[];
}

const GOLDEN = 'test/golden/models.test.ts';
const FAMILIES_TEST = 'test/golden/families.test.ts';
const KEYS = 'test/golden/metadata-keys.test.ts';

export const FAMILIES: readonly Family[] = [
  {
    family: 'Llama 2, TinyLlama, SmolLM2, Mistral',
    ollama: 'llama2, tinyllama, smollm2, mistral',
    architecture: 'llama',
    proof: { test: GOLDEN, models: ['llama-untied-gqa-f32'] },
    real: [{ test: 'test/golden/smollm2.test.ts', models: ['SmolLM2-135M'] }],
  },
  {
    family: 'Llama 3, 3.1, 3.2',
    ollama: 'llama3, llama3.1, llama3.2',
    architecture: 'llama',
    proof: { test: GOLDEN, models: ['llama32-ropefreqs-f32'] },
  },
  {
    family: 'Qwen 2, 2.5',
    ollama: 'qwen2, qwen2.5, qwen2.5-coder',
    architecture: 'qwen2',
    proof: { test: GOLDEN, models: ['qwen2-tiny-f32'] },
  },
  {
    family: 'Qwen 2.5 with YaRN',
    ollama: '',
    architecture: 'qwen2',
    proof: { test: KEYS, models: ['qwen2-tiny'] },
  },
  {
    family: 'Qwen 3, dense',
    ollama: 'qwen3',
    architecture: 'qwen3',
    proof: { test: GOLDEN, models: ['qwen3-tiny-f32'] },
  },
  {
    family: 'Phi 3',
    ollama: 'phi3',
    architecture: 'phi3',
    proof: { test: GOLDEN, models: ['phi3-tiny-f32'] },
  },
  {
    family: 'Phi 3.5, Phi 4 mini, 128k (LongRoPE)',
    ollama: 'phi3.5, phi4-mini',
    architecture: 'phi3',
    proof: { test: FAMILIES_TEST, models: ['phi3-longrope-f32'] },
  },
  {
    family: 'Gemma 2',
    ollama: 'gemma2',
    architecture: 'gemma2',
    proof: { test: GOLDEN, models: ['gemma2-tiny-f32'] },
  },
  {
    family: 'Gemma 3, text; vision is skipped',
    ollama: 'gemma3',
    architecture: 'gemma3',
    proof: { test: FAMILIES_TEST, models: ['ollama-gemma3-f32'] },
    real: [{ test: 'test/golden/gemma3.test.ts', models: ['Gemma 3 270M'] }],
  },
  {
    family: 'GPT-2',
    ollama: '',
    architecture: 'gpt2',
    proof: { test: GOLDEN, models: ['gpt2-tiny-f32'] },
  },
  {
    family: 'all-MiniLM, bge (en, zh), e5 (en), mxbai, arctic-embed 1',
    ollama: 'all-minilm, bge-large, mxbai-embed-large, snowflake-arctic-embed',
    architecture: 'bert',
    proof: { test: 'test/unit/model/encoder.test.ts', models: ['bert-tiny-f32'] },
    real: [
      { test: 'test/golden/minilm.test.ts', models: ['all-MiniLM-L6-v2'] },
      { test: 'test/golden/real-embeddings.test.ts', models: REAL_MODELS.map(({ name }) => name) },
    ],
  },
  {
    family: 'granite-embedding (RoBERTa)',
    ollama: 'granite-embedding',
    architecture: 'bert',
    proof: { test: FAMILIES_TEST, models: ['roberta-bpe-f32'] },
  },
  {
    family: 'bge-m3, multilingual-e5, arctic-embed 2 (XLM-R)',
    ollama: 'bge-m3, snowflake-arctic-embed2',
    architecture: 'bert',
    proof: { test: FAMILIES_TEST, models: ['xlm-roberta-f32', 'ollama-xlm-roberta-f32'] },
  },
  {
    family: 'nomic-embed-text 1, 1.5',
    ollama: 'nomic-embed-text',
    architecture: 'nomic-bert',
    proof: { test: FAMILIES_TEST, models: ['nomic-bert-f32'] },
  },
  {
    family: 'nomic-embed-text 2 (experts)',
    ollama: 'nomic-embed-text-v2-moe',
    architecture: 'nomic-bert-moe',
    proof: { test: FAMILIES_TEST, models: ['nomic-bert-moe-f32'] },
  },
  {
    family: 'EmbeddingGemma',
    ollama: 'embeddinggemma',
    architecture: 'gemma-embedding',
    proof: { test: FAMILIES_TEST, models: ['gemma-embedding-f32', 'ollama-embeddinggemma-f32'] },
  },
  {
    family: 'Qwen 3 Embedding',
    ollama: 'qwen3-embedding',
    architecture: 'qwen3',
    proof: { test: FAMILIES_TEST, models: ['qwen3-embedding-f32'] },
  },
  {
    family: 'Rerankers: ms-marco-MiniLM',
    ollama: '',
    architecture: 'bert',
    proof: { test: FAMILIES_TEST, models: ['bert-reranker-f32'] },
  },
  {
    family: 'Rerankers: bge-reranker (XLM-R)',
    ollama: '',
    architecture: 'bert',
    proof: { test: FAMILIES_TEST, models: ['xlm-roberta-reranker-f32'] },
  },
  {
    family: 'Rerankers: Qwen 3',
    ollama: '',
    architecture: 'qwen3',
    proof: { test: FAMILIES_TEST, models: ['qwen3-reranker-f32'] },
  },
  { family: 'Llama 4', ollama: 'llama4', architecture: 'llama4', proof: null },
  { family: 'Qwen 3, experts', ollama: 'qwen3:30b', architecture: 'qwen3moe', proof: null },
  { family: 'Gemma 3n, Gemma 4', ollama: 'gemma3n, gemma4', architecture: 'gemma3n', proof: null },
  { family: 'gpt-oss', ollama: 'gpt-oss', architecture: 'gpt-oss', proof: null },
  { family: 'DeepSeek 2, 3', ollama: 'deepseek-v2, deepseek-v3', architecture: 'deepseek2', proof: null },
  { family: 'Granite 3', ollama: 'granite3.3', architecture: 'granite', proof: null },
  { family: 'Mistral 3', ollama: 'mistral-small3.2', architecture: 'mistral3', proof: null },
];

function readGolden(name: string): unknown {
  return JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8'));
}

const long = readGolden('models/goldens/long-texts.json') as Record<
  string,
  { file: string; items: { tokens?: number }[] }
>;

/** Files in Ollama's form with the model whose weights they hold. */
const WEIGHTS: Readonly<Record<string, string>> = {
  'ollama-embeddinggemma-f32': 'gemma-embedding-f32',
  'ollama-xlm-roberta-f32': 'xlm-roberta-f32',
};

/** Tokens of the longest text that long-texts.test.ts has of a model. */
function longestOf(model: string): number {
  const file = WEIGHTS[model] ?? model.replace(/(-f32)?$/, '-f32');
  const items = Object.values(long).flatMap((each) => (each.file === file ? each.items : []));
  if (items.length === 0) throw new Error(`long-texts.json has no text of ${model}`);
  return Math.max(...items.map(({ tokens = 0 }) => tokens));
}

/** The table of docs/models.md. */
export function familyTable(): string {
  const rows = FAMILIES.map(({ family, ollama, architecture, proof, real }) => {
    const models = proof === null ? '' : `\`${proof.test}\`: ${proof.models.join(', ')}`;
    const weights = (real ?? []).map(({ test, models: names }) => `${names.join(', ')} (\`${test}\`)`).join('; ');
    const longest = proof === null ? '' : Math.max(...proof.models.map(longestOf));
    const state = proof === null ? 'refused' : 'works';
    return `| ${[family, ollama, `\`${architecture}\``, state, models, weights, longest].join(' | ')} |`;
  });
  return [
    '| family | in Ollama | architecture | | proof by random weights | by real weights | longest text, tokens |',
    '|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}
