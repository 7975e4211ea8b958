/** What Hugging Face calls the tensors and numbers of each architecture, and what GGUF calls them. */
import { quoted } from '../../../plv8/src/format/visible-text.ts';
import type { ArchitectureName } from '../../../plv8/src/format/architecture-names.ts';
import { CommandError } from '../../errors.ts';
import type { Json } from './json-files.ts';

export interface Family {
  /** general.architecture in GGUF. */
  readonly name: ArchitectureName;
  /** Beginnings of tensor names that say nothing. */
  readonly prefix: RegExp;
  /** What stands before a layer's number, after the prefix. */
  readonly layers: string;
  /** Tensor names outside of layers, without .weight and .bias, and GGUF's. */
  readonly globals: Readonly<Record<string, string>>;
  /** Tensor names within a layer, without .weight and .bias, and GGUF's. */
  readonly layer: Readonly<Record<string, string>>;
  /** Heads that no forward pass here reads. */
  readonly unread?: RegExp;
  /** Values of hidden_act and its other names that are computed; the first is meant where the file has none. */
  readonly activations: readonly string[];
  /** Whether positions are told by RoPE. */
  readonly rotates: boolean;
  /** GGUF roles whose matrices the files hold by columns. */
  readonly transposed?: readonly string[];
  /** What is added to the weights of norms. */
  readonly normOffset?: number;
}

const DECODER_GLOBALS = { embed_tokens: 'token_embd', norm: 'output_norm', lm_head: 'output' } as const;
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
const HEAD_NORMS = { 'self_attn.q_norm': 'attn_q_norm', 'self_attn.k_norm': 'attn_k_norm' } as const;

const LLAMA: Family = {
  name: 'llama',
  prefix: /^model\./,
  layers: 'layers',
  globals: DECODER_GLOBALS,
  layer: LLAMA_LAYER,
  activations: ['silu'],
  rotates: true,
};
const GEMMA2: Family = {
  ...LLAMA,
  name: 'gemma2',
  layer: {
    ...LLAMA_LAYER,
    post_attention_layernorm: 'post_attention_norm',
    pre_feedforward_layernorm: 'ffn_norm',
    post_feedforward_layernorm: 'post_ffw_norm',
  },
  activations: ['gelu_pytorch_tanh'],
  normOffset: 1,
};

/** By config.json's architectures[0]. */
const FAMILIES: Readonly<Record<string, Family>> = {
  LlamaForCausalLM: LLAMA,
  MistralForCausalLM: LLAMA,
  Qwen2ForCausalLM: { ...LLAMA, name: 'qwen2' },
  Qwen3ForCausalLM: { ...LLAMA, name: 'qwen3', layer: { ...LLAMA_LAYER, ...HEAD_NORMS } },
  Phi3ForCausalLM: {
    ...LLAMA,
    name: 'phi3',
    layer: {
      input_layernorm: 'attn_norm',
      'self_attn.qkv_proj': 'attn_qkv',
      'self_attn.o_proj': 'attn_output',
      post_attention_layernorm: 'ffn_norm',
      'mlp.gate_up_proj': 'ffn_up',
      'mlp.down_proj': 'ffn_down',
    },
  },
  Gemma2ForCausalLM: GEMMA2,
  Gemma3ForCausalLM: { ...GEMMA2, name: 'gemma3', layer: { ...GEMMA2.layer, ...HEAD_NORMS } },
  GPT2LMHeadModel: {
    name: 'gpt2',
    prefix: /^transformer\./,
    layers: 'h',
    globals: { wte: 'token_embd', wpe: 'position_embd', ln_f: 'output_norm', lm_head: 'output' },
    layer: {
      ln_1: 'attn_norm',
      'attn.c_attn': 'attn_qkv',
      'attn.c_proj': 'attn_output',
      ln_2: 'ffn_norm',
      'mlp.c_fc': 'ffn_up',
      'mlp.c_proj': 'ffn_down',
    },
    activations: ['gelu_new', 'gelu_pytorch_tanh'],
    rotates: false,
    transposed: ['attn_qkv', 'attn_output', 'ffn_up', 'ffn_down'],
  },
  BertModel: {
    name: 'bert',
    prefix: /^bert\./,
    layers: 'encoder.layer',
    globals: {
      'embeddings.word_embeddings': 'token_embd',
      'embeddings.position_embeddings': 'position_embd',
      'embeddings.token_type_embeddings': 'token_types',
      'embeddings.LayerNorm': 'token_embd_norm',
    },
    layer: {
      'attention.self.query': 'attn_q',
      'attention.self.key': 'attn_k',
      'attention.self.value': 'attn_v',
      'attention.output.dense': 'attn_output',
      'attention.output.LayerNorm': 'attn_output_norm',
      'intermediate.dense': 'ffn_up',
      'output.dense': 'ffn_down',
      'output.LayerNorm': 'layer_output_norm',
    },
    unread: /^(pooler|cls)\./,
    activations: ['gelu', 'gelu_new', 'gelu_pytorch_tanh'],
    rotates: false,
  },
};

/** Buffers that some programs save and no forward pass reads. */
const BUFFERS = /(^|\.)(rotary_emb\.inv_freq|position_ids|masked_bias|attn\.bias)$/;
/** Norms of models that were trained with TensorFlow. */
const OLD_KINDS: Readonly<Record<string, string>> = { gamma: 'weight', beta: 'bias' };

export function familyOf(config: Json): Family {
  const stated = Array.isArray(config.architectures) ? (config.architectures as unknown[])[0] : undefined;
  if (typeof stated === 'string' && Object.hasOwn(FAMILIES, stated)) return FAMILIES[stated]!;
  throw new CommandError(`architecture ${quoted(stated ?? null)} of config.json is not read from SafeTensors`, {
    hint: `those are: ${Object.keys(FAMILIES).join(', ')}; for others use a GGUF file`,
  });
}

/** GGUF name of a tensor, null for one that is not needed. `tied` is set where the output is the only embedding. */
export function ggufTensorName(family: Family, name: string, tied: boolean): string | null {
  if (BUFFERS.test(name)) return null;
  const plain = name.replace(family.prefix, '');
  if (family.unread?.test(plain) === true) return null;
  const unknown = (): never => {
    throw new CommandError(`tensor ${quoted(name)} is not known to architecture ${family.name}`);
  };
  const [, stem, stated] = /^(.+)\.(weight|bias|gamma|beta)$/.exec(plain) ?? [];
  if (stem === undefined || stated === undefined) return unknown();
  const kind = OLD_KINDS[stated] ?? stated;
  if (Object.hasOwn(family.globals, stem)) {
    const global = family.globals[stem]!;
    return `${tied && global === 'output' ? 'token_embd' : global}.${kind}`;
  }
  if (!stem.startsWith(`${family.layers}.`)) return unknown();
  const [, layer, inner] = /^(\d{1,5})\.(.+)$/.exec(stem.slice(family.layers.length + 1)) ?? [];
  if (inner === undefined || !Object.hasOwn(family.layer, inner)) return unknown();
  return `blk.${Number(layer)}.${family.layer[inner]}.${kind}`;
}
