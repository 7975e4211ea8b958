/** config.json and tensor names of Hugging Face models under GGUF's keys and names. */
import { CommandError } from '../../errors.ts';
import type { GgufValue } from '../gguf.ts';
import type { Json } from './json-files.ts';
import { object } from './json-files.ts';

interface Family {
  /** general.architecture in GGUF. */
  name: string;
  /** Tensor names below `layers.N.`, without .weight and .bias, and what GGUF calls them. */
  layer: Readonly<Record<string, string>>;
}

const LLAMA_LAYER = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
} as const;
const QWEN3_LAYER = { ...LLAMA_LAYER, 'self_attn.q_norm': 'attn_q_norm', 'self_attn.k_norm': 'attn_k_norm' } as const;
const PHI3_LAYER = {
  input_layernorm: 'attn_norm',
  'self_attn.qkv_proj': 'attn_qkv',
  'self_attn.o_proj': 'attn_output',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
} as const;

/** By config.json's architectures[0]. Those whose files hold other bytes than GGUF (gemma's norms, gpt2's) are not here. */
const FAMILIES: Readonly<Record<string, Family>> = {
  LlamaForCausalLM: { name: 'llama', layer: LLAMA_LAYER },
  MistralForCausalLM: { name: 'llama', layer: LLAMA_LAYER },
  Qwen2ForCausalLM: { name: 'qwen2', layer: LLAMA_LAYER },
  Qwen3ForCausalLM: { name: 'qwen3', layer: QWEN3_LAYER },
  Phi3ForCausalLM: { name: 'phi3', layer: PHI3_LAYER },
};

const GLOBAL_NAMES: Readonly<Record<string, string>> = {
  'embed_tokens.weight': 'token_embd.weight',
  'norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
};
/** Buffers that some programs save and no forward pass reads. */
const BUFFERS = /(^|\.)(rotary_emb\.inv_freq|position_ids|masked_bias|attn\.bias)$/;
const LAYER_NAME = /^layers\.(\d{1,5})\.(.+)\.(weight|bias)$/;

export function familyOf(config: Json): Family {
  const stated = Array.isArray(config.architectures) ? (config.architectures as unknown[])[0] : undefined;
  if (typeof stated === 'string' && Object.hasOwn(FAMILIES, stated)) return FAMILIES[stated]!;
  throw new CommandError(`architecture ${JSON.stringify(stated ?? null)} of config.json is not read from SafeTensors`, {
    hint: `those are: ${Object.keys(FAMILIES).join(', ')}; for others use a GGUF file`,
  });
}

/** GGUF name of a tensor, null for a buffer that is not needed. `tied` is set where the output is the only embedding. */
export function ggufTensorName(family: Family, name: string, tied: boolean): string | null {
  if (BUFFERS.test(name)) return null;
  const plain = name.replace(/^model\./, '');
  if (tied && plain === 'lm_head.weight') return 'token_embd.weight';
  if (Object.hasOwn(GLOBAL_NAMES, plain)) return GLOBAL_NAMES[plain]!;
  const [, layer, inner, kind] = LAYER_NAME.exec(plain) ?? [];
  if (inner !== undefined && Object.hasOwn(family.layer, inner))
    return `blk.${Number(layer)}.${family.layer[inner]}.${kind}`;
  throw new CommandError(`tensor ${JSON.stringify(name)} is not known to architecture ${family.name}`);
}

/** config.json's number under one of these keys; throws for another kind of value. */
function number(config: Json, ...keys: string[]): number | null {
  for (const key of keys) {
    const value = config[key];
    if (value === undefined || value === null) continue;
    if (typeof value !== 'number' || !Number.isFinite(value))
      throw new CommandError(`config.json: ${key} is ${JSON.stringify(value).slice(0, 40)}, expected a number`);
    return value;
  }
  return null;
}

/** Divisors of RoPE's frequencies that Llama 3.1 and later scale long contexts with; (headSize / 2). */
export function llama3RopeFactors(scaling: Json, base: number, ropeDims: number): number[] {
  const factor = number(scaling, 'factor') ?? 8;
  const low = number(scaling, 'low_freq_factor') ?? 1;
  const high = number(scaling, 'high_freq_factor') ?? 4;
  const context = number(scaling, 'original_max_position_embeddings') ?? 8192;
  return Array.from({ length: ropeDims / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * base ** ((2 * i) / ropeDims);
    if (wavelength < context / high) return 1;
    if (wavelength > context / low) return factor;
    const smooth = (context / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** Metadata of config.json under GGUF's keys. */
export function configMetadata(family: Family, config: Json): Map<string, GgufValue> {
  const out = new Map<string, GgufValue>([['general.architecture', family.name]]);
  const set = (suffix: string, value: number | null): void => {
    if (value !== null) out.set(`${family.name}.${suffix}`, value);
  };
  const dim = number(config, 'hidden_size');
  const heads = number(config, 'num_attention_heads');
  const headSize = number(config, 'head_dim') ?? (dim !== null && heads !== null && heads > 0 ? dim / heads : null);
  set('block_count', number(config, 'num_hidden_layers'));
  set('embedding_length', dim);
  set('feed_forward_length', number(config, 'intermediate_size'));
  set('context_length', number(config, 'max_position_embeddings'));
  set('attention.head_count', heads);
  set('attention.head_count_kv', number(config, 'num_key_value_heads') ?? heads);
  if (number(config, 'head_dim') !== null) {
    set('attention.key_length', headSize);
    set('attention.value_length', headSize);
  }
  set('attention.layer_norm_rms_epsilon', number(config, 'rms_norm_eps'));
  const parameters = object(config.rope_parameters) ?? {};
  const base = number(config, 'rope_theta') ?? number(parameters, 'rope_theta') ?? 10_000;
  set('rope.freq_base', base);
  const partial = number(config, 'partial_rotary_factor') ?? 1;
  const ropeDims = headSize === null ? null : headSize * partial;
  set('rope.dimension_count', ropeDims);
  if (family.name === 'phi3') set('attention.sliding_window', number(config, 'sliding_window'));
  set('vocab_size', number(config, 'vocab_size'));
  // Q and K stand in the file as they were trained, where GGUF's llama has their rows permuted.
  if (family.name === 'llama') out.set('hartonomous.rope.layout', 'halves');
  const scaling = object(config.rope_scaling) ?? parameters;
  const kind = scaling.rope_type ?? scaling.type ?? 'default';
  if (kind === 'llama3') {
    if (ropeDims === null || !Number.isInteger(ropeDims) || ropeDims < 2 || ropeDims > 1024)
      throw new CommandError(`config.json: head size ${ropeDims} cannot be rotated`);
    out.set('hartonomous.rope.factors', llama3RopeFactors(scaling, base, ropeDims));
  } else if (kind === 'linear') {
    out.set(`${family.name}.rope.scaling.type`, 'linear');
    set('rope.scaling.factor', number(scaling, 'factor'));
  } else if (kind !== 'default')
    throw new CommandError(`config.json: rope scaling ${JSON.stringify(kind).slice(0, 40)} is not supported`);
  return out;
}
