/** Test models' tensors and numbers under the names that transformers gives them. */

export interface Scheme {
  architecture: string;
  prefix: string;
  layers: string;
  globals: Readonly<Record<string, string>>;
  layer: Readonly<Record<string, string>>;
  /** config.json's keys, and GGUF's without the architecture. */
  config: Readonly<Record<string, string>>;
  /** Further entries of config.json. */
  fixed?: Readonly<Record<string, unknown>>;
  /** Roles that transformers holds by columns (Conv1D). */
  transposed?: readonly string[];
  /** Roles whose rows GGUF holds in pairs, and transformers in halves of a head; the number of heads by metadata key. */
  halves?: Readonly<Record<string, string>>;
  /** Norms are held less one. */
  normsLessOne?: boolean;
}

const DECODER_CONFIG = {
  hidden_size: 'embedding_length',
  num_hidden_layers: 'block_count',
  intermediate_size: 'feed_forward_length',
  num_attention_heads: 'attention.head_count',
  num_key_value_heads: 'attention.head_count_kv',
  head_dim: 'attention.key_length',
  max_position_embeddings: 'context_length',
  rms_norm_eps: 'attention.layer_norm_rms_epsilon',
  rope_theta: 'rope.freq_base',
};
const QWEN2: Scheme = {
  architecture: 'Qwen2ForCausalLM',
  prefix: 'model.',
  layers: 'layers',
  globals: { token_embd: 'embed_tokens', output_norm: 'norm' },
  layer: {
    attn_norm: 'input_layernorm',
    attn_q: 'self_attn.q_proj',
    attn_k: 'self_attn.k_proj',
    attn_v: 'self_attn.v_proj',
    attn_output: 'self_attn.o_proj',
    attn_q_norm: 'self_attn.q_norm',
    attn_k_norm: 'self_attn.k_norm',
    ffn_norm: 'post_attention_layernorm',
    ffn_gate: 'mlp.gate_proj',
    ffn_up: 'mlp.up_proj',
    ffn_down: 'mlp.down_proj',
  },
  config: DECODER_CONFIG,
};
const GEMMA: Scheme = {
  ...QWEN2,
  architecture: 'Gemma2ForCausalLM',
  layer: {
    ...QWEN2.layer,
    post_attention_norm: 'post_attention_layernorm',
    ffn_norm: 'pre_feedforward_layernorm',
    post_ffw_norm: 'post_feedforward_layernorm',
  },
  config: {
    ...DECODER_CONFIG,
    sliding_window: 'attention.sliding_window',
    attn_logit_softcapping: 'attn_logit_softcapping',
    final_logit_softcapping: 'final_logit_softcapping',
    query_pre_attn_scalar: 'attention.key_length',
  },
  fixed: { hidden_act: 'gelu_pytorch_tanh', hidden_activation: 'gelu_pytorch_tanh' },
  normsLessOne: true,
};

/** By general.architecture. */
export const SCHEMES: Readonly<Record<string, Scheme>> = {
  llama: {
    ...QWEN2,
    architecture: 'LlamaForCausalLM',
    globals: { ...QWEN2.globals, output: '/lm_head' },
    fixed: { hidden_act: 'silu' },
    halves: { attn_q: 'attention.head_count', attn_k: 'attention.head_count_kv' },
  },
  qwen2: QWEN2,
  qwen3: { ...QWEN2, architecture: 'Qwen3ForCausalLM' },
  phi3: {
    ...QWEN2,
    architecture: 'Phi3ForCausalLM',
    layer: {
      ...QWEN2.layer,
      attn_qkv: 'self_attn.qkv_proj',
      ffn_up: 'mlp.gate_up_proj',
    },
    globals: { ...QWEN2.globals, output: '/lm_head' },
  },
  gemma2: GEMMA,
  gemma3: {
    ...GEMMA,
    architecture: 'Gemma3ForCausalLM',
    fixed: { ...GEMMA.fixed, rope_local_base_freq: 10_000, sliding_window_pattern: 6 },
  },
  gpt2: {
    architecture: 'GPT2LMHeadModel',
    prefix: 'transformer.',
    layers: 'h',
    globals: { token_embd: 'wte', position_embd: 'wpe', output_norm: 'ln_f' },
    layer: {
      attn_norm: 'ln_1',
      attn_qkv: 'attn.c_attn',
      attn_output: 'attn.c_proj',
      ffn_norm: 'ln_2',
      ffn_up: 'mlp.c_fc',
      ffn_down: 'mlp.c_proj',
    },
    config: {
      n_embd: 'embedding_length',
      n_layer: 'block_count',
      n_head: 'attention.head_count',
      n_positions: 'context_length',
      layer_norm_epsilon: 'attention.layer_norm_epsilon',
    },
    fixed: { activation_function: 'gelu_new', n_inner: null },
    transposed: ['attn_qkv', 'attn_output', 'ffn_up', 'ffn_down'],
  },
  bert: {
    architecture: 'BertModel',
    prefix: '',
    layers: 'encoder.layer',
    globals: {
      token_embd: 'embeddings.word_embeddings',
      position_embd: 'embeddings.position_embeddings',
      token_types: 'embeddings.token_type_embeddings',
      token_embd_norm: 'embeddings.LayerNorm',
    },
    layer: {
      attn_q: 'attention.self.query',
      attn_k: 'attention.self.key',
      attn_v: 'attention.self.value',
      attn_output: 'attention.output.dense',
      attn_output_norm: 'attention.output.LayerNorm',
      ffn_up: 'intermediate.dense',
      ffn_down: 'output.dense',
      layer_output_norm: 'output.LayerNorm',
    },
    config: {
      hidden_size: 'embedding_length',
      num_hidden_layers: 'block_count',
      intermediate_size: 'feed_forward_length',
      num_attention_heads: 'attention.head_count',
      max_position_embeddings: 'context_length',
      layer_norm_eps: 'attention.layer_norm_epsilon',
    },
    fixed: { hidden_act: 'gelu', position_embedding_type: 'absolute', type_vocab_size: 2 },
  },
};

/** transformers' name of a GGUF tensor; a global that begins with a slash has no prefix. */
export function theirName(scheme: Scheme, name: string): string {
  const [, layer, role, kind] = /^(?:blk\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name)!;
  if (layer !== undefined) return `${scheme.prefix}${scheme.layers}.${layer}.${scheme.layer[role!]}.${kind}`;
  const global = scheme.globals[role!]!;
  return global.startsWith('/') ? `${global.slice(1)}.${kind}` : `${scheme.prefix}${global}.${kind}`;
}
