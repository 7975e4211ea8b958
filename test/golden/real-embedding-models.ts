/** Real embedding models out of Maven packages that carry them as ONNX, made into folders of Sentence Transformers. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../python-package.mjs';
import { onnxTensors } from './onnx-weights.ts';

export interface RealModel {
  /** Of its folder, which tells its prefixes. */
  name: string;
  artifact: string;
  /** Members of the package. */
  onnx: string;
  tokenizer: string;
  /** As its maker's folder has it. */
  pooling: 'pooling_mode_cls_token' | 'pooling_mode_mean_tokens';
  /** What its config.json has otherwise than the others'. */
  config?: Readonly<Record<string, number>>;
}

const VERSION = '0.36.2';
const GROUP = 'dev.langchain4j:langchain4j-embeddings';

export const REAL_MODELS: readonly RealModel[] = [
  {
    name: 'bge-small-en-v1.5',
    artifact: `${GROUP}-bge-small-en-v15:${VERSION}`,
    onnx: 'bge-small-en-v1.5.onnx',
    tokenizer: 'bge-small-en-v1.5-tokenizer.json',
    pooling: 'pooling_mode_cls_token',
  },
  {
    name: 'e5-small-v2',
    artifact: `${GROUP}-e5-small-v2:${VERSION}`,
    onnx: 'e5-small-v2.onnx',
    tokenizer: 'e5-small-v2-tokenizer.json',
    pooling: 'pooling_mode_mean_tokens',
  },
  {
    name: 'bge-small-zh-v1.5',
    artifact: `${GROUP}-bge-small-zh-v15:${VERSION}`,
    onnx: 'bge-small-zh-v1.5.onnx',
    tokenizer: 'bge-small-zh-v1.5-tokenizer.json',
    pooling: 'pooling_mode_cls_token',
    config: {
      hidden_size: 512,
      intermediate_size: 2048,
      num_attention_heads: 8,
      num_hidden_layers: 4,
      vocab_size: 21_128,
    },
  },
];

/** config.json of the first two. */
const CONFIG = {
  architectures: ['BertModel'],
  hidden_act: 'gelu',
  hidden_size: 384,
  intermediate_size: 1536,
  layer_norm_eps: 1e-12,
  max_position_embeddings: 512,
  num_attention_heads: 12,
  num_hidden_layers: 12,
  vocab_size: 30_522,
};
const SPECIALS = { cls_token: '[CLS]', sep_token: '[SEP]', unk_token: '[UNK]', pad_token: '[PAD]' };

function run(program: string, args: string[]): void {
  const { status, error } = spawnSync(program, args, { stdio: 'ignore' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${program} ${args[0]} ended with exit code ${status}`);
}

/** The folder of a model in the cache, fetched with Maven on first use. Throws where that fails. */
export function realModelFolder({ name, artifact, onnx, tokenizer, pooling, config }: RealModel): string {
  const kept = join(cacheFolder(), name);
  if (existsSync(kept)) return kept;
  const made = `${kept}.part`;
  rmSync(made, { recursive: true, force: true });
  mkdirSync(join(made, '1_Pooling'), { recursive: true });
  run('mvn', ['dependency:copy', '-q', '-B', `-Dartifact=${artifact}`, `-DoutputDirectory=${made}`]);
  const jar = `${artifact.split(':').slice(1).join('-')}.jar`;
  run('python3', ['-m', 'zipfile', '-e', join(made, jar), join(made, 'jar')]);
  const write = (file: string, value: unknown): void => writeFileSync(join(made, file), JSON.stringify(value));
  writeFileSync(join(made, 'model.safetensors'), safetensors(join(made, 'jar', onnx)));
  renameSync(join(made, 'jar', tokenizer), join(made, 'tokenizer.json'));
  write('config.json', { ...CONFIG, ...config });
  write('tokenizer_config.json', SPECIALS);
  write(
    'modules.json',
    ['Transformer', 'Pooling', 'Normalize'].map((kind) => ({ type: `sentence_transformers.models.${kind}` })),
  );
  write('1_Pooling/config.json', { [pooling]: true });
  // The graph itself is what make-real-embedding-golden.py runs.
  renameSync(join(made, 'jar', onnx), join(made, 'model.onnx'));
  rmSync(join(made, 'jar'), { recursive: true });
  rmSync(join(made, jar));
  renameSync(made, kept);
  return kept;
}

function safetensors(onnx: string): Buffer {
  const tensors = onnxTensors(onnx);
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const { name, shape, data } of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([size, padded, ...tensors.map(({ data }) => Buffer.from(data.buffer))]);
}

/** What a model's folder holds, to tell that a golden is of the same weights. */
export function weightsOf(folder: string): Buffer {
  return readFileSync(join(folder, 'model.safetensors'));
}
