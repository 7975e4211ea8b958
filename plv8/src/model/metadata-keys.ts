/**
 * Which metadata keys an architecture knows, as weights.ts has a list of its tensors: a key that would change the
 * arithmetic and is not read is refused by name and value, and so is one that nobody knows.
 */
import { raise, SQLSTATE } from '../errors.ts';
import type { Architecture } from './architectures/architecture.ts';
import type { Metadata } from './metadata.ts';
import { brief, quoted } from '../format/visible-text.ts';

/** Read by readConfig for every architecture. */
const READ = [
  'attention.causal',
  'attention.head_dim', // Ollama's name of the key length, beside it
  'attention.head_count',
  'attention.head_count_kv',
  'attention.key_length',
  'attention.layer_norm_epsilon',
  'attention.layer_norm_rms_epsilon',
  'attention.sliding_window',
  'attention.value_length',
  'block_count',
  'context_length',
  'embedding_length',
  'feed_forward_length',
  'normalize_embeddings',
  'pooling_type',
  'vocab_size',
];

const ROPE = [
  'rope.dimension_count',
  'rope.freq_base',
  'rope.scale_linear',
  'rope.scaling.attn_factor',
  'rope.scaling.factor',
  'rope.scaling.finetuned',
  'rope.scaling.original_context_length',
  'rope.scaling.type',
  'rope.scaling.yarn_beta_fast',
  'rope.scaling.yarn_beta_slow',
];

/** Sizes of EmbeddingGemma's dense heads, which its tensors have too. */
const DENSE = ['dense_2_feat_in', 'dense_2_feat_out', 'dense_3_feat_in', 'dense_3_feat_out'];

/** Keys of what is not computed here, with the values that ask for none of it. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  'attention.clamp_kqv': [0],
  'attention.max_alibi_bias': [0],
  'attention.output_scale': [1],
  attn_logit_softcapping: [0],
  embedding_scale: [1],
  expert_count: [0],
  expert_feed_forward_length: [0],
  expert_group_count: [0],
  expert_group_used_count: [0],
  expert_shared_count: [0],
  expert_used_count: [0],
  expert_weights_scale: [0, 1],
  final_logit_softcapping: [0],
  leading_dense_block_count: [0],
  logit_scale: [1],
  nextn_predict_layers: [0],
  residual_scale: [1],
  'rope.scaling.yarn_attn_factor': [1],
  'rope.scaling.yarn_ext_factor': [1],
  'rope.scaling.yarn_log_multiplier': [0],
  tensor_data_layout: ['Meta AI original pth', 'reference'],
  use_parallel_residual: [false],
};

/** Of parts of a file beside the text model, which are not computed with. */
const OTHER_PARTS = /^(vision|mm|audio)\./;

function knownKeys(architecture: Architecture): Set<string> {
  const { rope, windows, softcaps, experts, denseHeads, classifier, keyAliases = {} } = architecture;
  const known = new Set([...READ, ...Object.values(keyAliases)]);
  if (experts === true) known.add('expert_count').add('expert_used_count').add('moe_every_n_layers');
  if (denseHeads === true) for (const key of DENSE) known.add(key);
  if (classifier !== undefined) known.add('classifier.output_labels');
  if (rope !== null) for (const key of ROPE) known.add(key);
  if (windows !== undefined) known.add('attention.sliding_window_pattern');
  if (windows?.ropeBase !== undefined) known.add('rope.freq_base_swa');
  if (softcaps !== undefined) known.add('final_logit_softcapping');
  if (softcaps !== undefined && softcaps.attention > 0) known.add('attn_logit_softcapping');
  return known;
}

/** Throws featureNotSupported for the first key that is not known, or whose value asks for something that is not computed. */
export function checkKeys(metadata: Metadata): void {
  const known = knownKeys(metadata.architecture);
  for (const suffix of metadata.suffixes()) {
    if (known.has(suffix) || OTHER_PARTS.test(suffix)) continue;
    const neutral = Object.hasOwn(NEUTRAL, suffix) ? NEUTRAL[suffix]! : null;
    if (neutral === null) {
      raise(
        SQLSTATE.featureNotSupported,
        `metadata key ${brief(metadata.key(suffix))} is not known to architecture ${metadata.architecture.name}`,
        { detail: `its value is ${quoted(metadata.value(suffix))}` },
      );
    }
    if (neutral.includes(metadata.value(suffix))) continue;
    metadata.unsupported(suffix, `only ${neutral.map((value) => JSON.stringify(value)).join(' and ')} is computed`);
  }
}
