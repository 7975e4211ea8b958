import { describe, expect, it } from 'vitest';
import { readConfig } from '../../../plv8/src/model/config.ts';
import { Model } from '../../../plv8/src/model/model.ts';
import type { FileTensor, GgufModel } from '../gguf-model.ts';
import { sourceOf } from '../gguf-model.ts';
import { readGguf } from '../gguf-source.ts';
import { goldenPath } from '../golden-model.ts';

type Damage = (file: { meta: Record<string, unknown>; tensors: FileTensor[]; bytes: Uint8Array }) => void;

function loadDamaged(file: GgufModel, damage: Damage): Model {
  const parts = {
    meta: { ...file.hyperparameters },
    tensors: file.tensors.map((tensor) => ({ ...tensor, shape: [...tensor.shape] })),
    bytes: file.bytes.slice(),
  };
  damage(parts);
  const source = sourceOf(parts.tensors, parts.bytes);
  const config = readConfig(file.architecture, parts.meta, source.tensors());
  return Model.load(config, source, { precision: 'auto', poll: () => undefined });
}

function tensor(tensors: FileTensor[], name: string): FileTensor {
  const found = tensors.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`test model has no tensor ${name}`);
  return found;
}

const setKey =
  (key: string, value: unknown): Damage =>
  ({ meta }) => {
    meta[key] = value;
  };

const METADATA: [key: string, value: unknown, message: RegExp][] = [
  ['llama.block_count', 0, /llama\.block_count must be a whole number .* got 0/],
  ['llama.block_count', 1e9, /llama\.block_count .* got 1000000000/],
  ['llama.block_count', '5', /llama\.block_count .* got "5"/],
  ['llama.block_count', 6, /no tensor blk\.5\.attn_norm\.weight/],
  ['llama.block_count', 4, /tensor blk\.4\.\S+ is not known to architecture llama/],
  ['llama.embedding_length', 63, /63 and 8 heads/],
  ['llama.embedding_length', 128, /tensor token_embd\.weight has shape 64 x 512, expected 128 x 512/],
  ['llama.embedding_length', undefined, /no llama\.embedding_length/],
  ['llama.attention.head_count', 0, /head_count must be/],
  ['llama.attention.head_count_kv', 3, /8 heads and 3 key\/value heads/],
  ['llama.feed_forward_length', 2 ** 40, /feed_forward_length must be/],
  ['llama.feed_forward_length', 173, /tensor blk\.0\.ffn_gate\.weight has shape 64 x 172, expected 64 x 173/],
  ['llama.context_length', -1, /context_length must be .* got -1/],
  ['llama.rope.dimension_count', 16, /rope\.dimension_count is 16, the head size \(attention\.key_length\) is 8/],
  ['llama.rope.freq_base', 0, /rope\.freq_base must be a positive number, got 0/],
  ['llama.attention.layer_norm_rms_epsilon', Infinity, /layer_norm_rms_epsilon must be a positive number/],
  [
    'llama.rope.scaling.type',
    'su',
    /llama\.rope\.scaling\.type is "su", only none, linear, yarn and longrope are computed/,
  ],
  ['llama.attention.value_length', 16, /llama\.attention\.value_length is 16, only that of the keys, 8, is computed/],
  ['llama.residual_scale', 0.5, /llama\.residual_scale is 0\.5, only 1 is computed/],
  ['llama.expert_count', 8, /llama\.expert_count is 8, only 0 is computed/],
  ['llama.ssm.state_size', 8, /metadata key llama\.ssm\.state_size is not known to architecture llama/],
];

describe('a damaged model', () => {
  const f32 = readGguf(goldenPath('llama-260k', 'llama-260k-f32.gguf'));
  const q8 = readGguf(goldenPath('llama-260k', 'llama-260k-q8_0.gguf'));

  it.each(METADATA)('with %s = %s is refused by name', (key, value, message) => {
    expect(() => loadDamaged(f32, setKey(key, value))).toThrow(message);
  });

  it('of an unknown architecture is refused by name', () => {
    expect(() => readConfig('mamba', {}, [])).toThrow(/architecture mamba is not supported/);
  });

  it('without a tensor, with a foreign one, or with one in a wrong shape is refused by the tensor’s name', () => {
    expect(() =>
      loadDamaged(f32, ({ tensors }) =>
        tensors.splice(0, tensors.length, ...tensors.filter((t) => t.name !== 'blk.2.ffn_up.weight')),
      ),
    ).toThrow('model has no tensor blk.2.ffn_up.weight');
    expect(() => loadDamaged(f32, ({ tensors }) => tensors.push({ ...tensors[0]!, name: 'blk.0.ssm_a' }))).toThrow(
      /tensor blk\.0\.ssm_a is not known/,
    );
    expect(() => loadDamaged(f32, ({ tensors }) => tensor(tensors, 'blk.1.attn_k.weight').shape.reverse())).toThrow(
      'tensor blk.1.attn_k.weight has shape 32 x 64, expected 64 x 32',
    );
  });

  it('with a tensor of a type that cannot be computed with is refused by tensor and type', () => {
    expect(() => loadDamaged(q8, ({ tensors }) => (tensor(tensors, 'blk.0.attn_q.weight').type = 'IQ2_XXS'))).toThrow(
      /tensor blk\.0\.attn_q\.weight has type IQ2_XXS|IQ2_XXS is not supported/,
    );
  });

  it.each([
    ['qwen3-tiny-f32', 'blk.1.attn_q_norm.weight', 'model has no tensor blk.1.attn_q_norm.weight'],
    ['qwen3-tiny-f32', 'blk.2.attn_k_norm.weight', 'model has no tensor blk.2.attn_k_norm.weight'],
    ['phi3-tiny-f32', 'blk.0.attn_qkv.weight', 'model has no tensor blk.0.attn_qkv.weight'],
    ['phi3-tiny-f32', 'blk.1.ffn_up.weight', 'model has no tensor blk.1.ffn_up.weight'],
    ['gemma2-tiny-f32', 'blk.0.post_ffw_norm.weight', 'model has no tensor blk.0.post_ffw_norm.weight'],
    ['gpt2-tiny-f32', 'position_embd.weight', 'model has no tensor position_embd.weight'],
    ['gpt2-tiny-f32', 'blk.0.attn_qkv.bias', 'model has no tensor blk.0.attn_qkv.bias'],
    ['bert-tiny-f32', 'token_types.weight', 'model has no tensor token_types.weight'],
    ['bert-tiny-f32', 'token_embd_norm.bias', 'model has no tensor token_embd_norm.bias'],
    ['bert-tiny-f32', 'blk.1.layer_output_norm.weight', 'model has no tensor blk.1.layer_output_norm.weight'],
  ])('%s without %s is refused by name', (file, name, message) => {
    const whole = readGguf(goldenPath('zoo', `${file}.gguf`));
    expect(() =>
      loadDamaged(whole, ({ tensors }) => tensors.splice(tensors.indexOf(tensor(tensors, name)), 1)),
    ).toThrow(message);
  });

  it('with fused tensors of other heights is refused by shape', () => {
    const phi3 = readGguf(goldenPath('zoo', 'phi3-tiny-f32.gguf'));
    expect(() => loadDamaged(phi3, setKey('phi3.feed_forward_length', 120))).toThrow(
      'tensor blk.0.ffn_up.weight has shape 96 x 256, expected 96 x 240',
    );
    expect(() => loadDamaged(phi3, setKey('phi3.attention.head_count_kv', 1))).toThrow(
      /tensor blk\.0\.attn_qkv\.weight has shape 96 x \d+, expected 96 x 160/,
    );
  });

  it.each([
    ['phi3', 40, undefined, [40, 40]],
    ['phi3', 0, undefined, [Infinity, Infinity]],
    ['gemma2', 16, undefined, [16, Infinity, 16, Infinity]],
    ['gemma3', 16, undefined, [16, 16, 16, 16, 16, Infinity, 16]],
    ['gemma3', 16, 2, [16, Infinity, 16, Infinity, 16, Infinity, 16]],
    ['gemma2', 16, [false, false, true, true], [Infinity, Infinity, 16, 16]],
    ['qwen2', 512, undefined, [Infinity, Infinity, Infinity]],
  ])('%s with a sliding window of %j and the pattern %j has these windows', (name, window, pattern, expected) => {
    const { hyperparameters, source } = readGguf(goldenPath('zoo', `${name}-tiny-f32.gguf`));
    const changed = {
      ...hyperparameters,
      [`${name}.attention.sliding_window`]: window,
      [`${name}.attention.sliding_window_pattern`]: pattern,
    };
    expect(readConfig(name, changed, source.tensors()).windows).toEqual(expected);
  });

  it('with a window that its architecture does not have is refused', () => {
    const { hyperparameters, source } = readGguf(goldenPath('zoo', 'qwen2-tiny-f32.gguf'));
    expect(() =>
      readConfig('qwen2', { ...hyperparameters, 'qwen2.attention.sliding_window': 16 }, source.tensors()),
    ).toThrow('qwen2.attention.sliding_window is 16, only a window of the whole context, 512, is computed');
  });

  it.each([
    ['attention.sliding_window', 'wide', /gemma2\.attention\.sliding_window must be a whole number .* got "wide"/],
    ['attention.sliding_window_pattern', [true], /attention\.sliding_window_pattern has 1 values, expected 4/],
    ['attn_logit_softcapping', -1, /gemma2\.attn_logit_softcapping must be a positive number, got -1/],
  ])('gemma2 with %s = %j is refused by name', (suffix, value, message) => {
    const { hyperparameters, source } = readGguf(goldenPath('zoo', 'gemma2-tiny-f32.gguf'));
    expect(() => readConfig('gemma2', { ...hyperparameters, [`gemma2.${suffix}`]: value }, source.tensors())).toThrow(
      message,
    );
  });

  it('with rows missing is refused by the tensor’s name', () => {
    expect(() => loadDamaged(f32, ({ tensors }) => (tensor(tensors, 'blk.3.ffn_down.weight').rows -= 1))).toThrow(
      'tensor blk.3.ffn_down.weight lacks 1 rows',
    );
  });

  it('with an infinite or undefined number is refused by the tensor’s name', () => {
    expect(() =>
      loadDamaged(f32, ({ tensors, bytes }) => {
        const { offset } = tensor(tensors, 'blk.0.attn_q.weight');
        new DataView(bytes.buffer).setUint32(offset + 4 * 70, 0x7fc00000, true);
      }),
    ).toThrow('tensor blk.0.attn_q.weight has an infinite or undefined value at or after row 1');
    expect(() =>
      loadDamaged(q8, ({ tensors, bytes }) => {
        const { offset } = tensor(tensors, 'blk.0.attn_q.weight');
        new DataView(bytes.buffer).setUint16(offset + 34, 0x7c00, true);
      }),
    ).toThrow('tensor blk.0.attn_q.weight has an infinite or undefined value');
  });

  it('stops loading when poll throws', () => {
    const config = readConfig(f32.architecture, f32.hyperparameters, f32.source.tensors());
    let polls = 0;
    const cancel = (): void => {
      if (++polls === 3) throw new Error('cancelled');
    };
    expect(() => Model.load(config, f32.source, { precision: 'auto', poll: cancel })).toThrow('cancelled');
    expect(polls).toBe(3);
  });
});
