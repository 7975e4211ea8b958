/** config.json and what stands beside it as metadata under GGUF's keys. */
import { quoted } from '../../../plv8/src/format/visible-text.ts';
import { CommandError } from '../../errors.ts';
import type { GgufValue } from '../gguf.ts';
import type { Family } from './architectures.ts';
import type { Json } from './json-files.ts';
import { list, object } from './json-files.ts';

/** config.json's number under one of these keys; throws for another kind of value. */
function number(config: Json, ...keys: string[]): number | null {
  for (const key of keys) {
    const value = config[key];
    if (value === undefined || value === null) continue;
    if (typeof value !== 'number' || !Number.isFinite(value))
      throw new CommandError(`config.json: ${key} is ${shown(value)}, expected a number`);
    return value;
  }
  return null;
}

function shown(value: unknown): string {
  return quoted(value, 40);
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

type Metadata = Map<string, GgufValue>;

/** What config.json says that would be computed otherwise here. */
function refuseOther(family: Family, config: Json): void {
  const activation =
    config.hidden_activation ?? config.activation_function ?? config.hidden_act ?? family.activations[0];
  if (typeof activation !== 'string' || !family.activations.includes(activation))
    throw new CommandError(
      `config.json: activation ${shown(activation)} is not supported, only ${family.activations.join(', ')}`,
    );
  const positions = config.position_embedding_type;
  if (positions !== undefined && positions !== 'absolute')
    throw new CommandError(`config.json: position_embedding_type ${shown(positions)} is not supported`);
  if (config.use_sliding_window === true)
    throw new CommandError('config.json: use_sliding_window of part of the layers is not supported');
  if (config.scale_attn_by_inverse_layer_idx === true || config.scale_attn_weights === false)
    throw new CommandError('config.json: attention scores of another scale than the head size gives are not supported');
}

/** Metadata of config.json under GGUF's keys. */
export function configMetadata(family: Family, config: Json): Metadata {
  const out: Metadata = new Map([['general.architecture', family.name]]);
  const set = (suffix: string, value: number | null): void => {
    if (value !== null) out.set(`${family.name}.${suffix}`, value);
  };
  refuseOther(family, config);
  const dim = number(config, 'hidden_size', 'n_embd');
  const heads = number(config, 'num_attention_heads', 'n_head');
  const layers = number(config, 'num_hidden_layers', 'n_layer');
  const headSize = number(config, 'head_dim') ?? (dim !== null && heads !== null && heads > 0 ? dim / heads : null);
  set('block_count', layers);
  set('embedding_length', dim);
  set(
    'feed_forward_length',
    number(config, 'intermediate_size', 'n_inner') ?? (config.n_embd === undefined || dim === null ? null : 4 * dim),
  );
  set('context_length', number(config, 'max_position_embeddings', 'n_positions', 'n_ctx'));
  set('attention.head_count', heads);
  set('attention.head_count_kv', number(config, 'num_key_value_heads') ?? heads);
  if (number(config, 'head_dim') !== null) {
    set('attention.key_length', headSize);
    set('attention.value_length', headSize);
  }
  set('attention.layer_norm_rms_epsilon', number(config, 'rms_norm_eps'));
  set('attention.layer_norm_epsilon', number(config, 'layer_norm_eps', 'layer_norm_epsilon'));
  set('vocab_size', number(config, 'vocab_size'));
  const queryScalar = number(config, 'query_pre_attn_scalar');
  // GGUF has no key that every reader takes for it.
  if (queryScalar !== null && queryScalar > 0) out.set('hartonomous.attention.scale', 1 / Math.sqrt(queryScalar));
  if (family.normOffset !== undefined) {
    out.set('hartonomous.norm_offset', family.normOffset);
    // Soft caps that config.json leaves out or has as null are none.
    set('attn_logit_softcapping', number(config, 'attn_logit_softcapping') ?? 0);
    set('final_logit_softcapping', number(config, 'final_logit_softcapping') ?? 0);
  }
  if (family.transposed !== undefined) out.set('hartonomous.transposed_roles', [...family.transposed]);
  setWindows(config, layers ?? 0, set, (pattern) =>
    out.set(`${family.name}.attention.sliding_window_pattern`, pattern),
  );
  if (family.rotates) setRope(family, config, headSize, out, set);
  return out;
}

function setWindows(
  config: Json,
  layers: number,
  set: (suffix: string, value: number | null) => void,
  setPattern: (pattern: boolean[] | number) => void,
): void {
  if (config.use_sliding_window === false) return;
  set('attention.sliding_window', number(config, 'sliding_window'));
  const types = list(config.layer_types);
  if (types !== null && types.length === layers) setPattern(types.map((type) => type === 'sliding_attention'));
  else {
    const period = number(config, 'sliding_window_pattern', '_sliding_window_pattern');
    if (period !== null) setPattern(period);
  }
}

function setRope(
  family: Family,
  config: Json,
  headSize: number | null,
  out: Metadata,
  set: (suffix: string, value: number | null) => void,
): void {
  const all = object(config.rope_parameters) ?? {};
  // Newer files keep parameters by kind of layer.
  const parameters = object(all.full_attention) ?? all;
  const windowed = object(all.sliding_attention) ?? {};
  const base = number(config, 'rope_theta') ?? number(parameters, 'rope_theta') ?? 10_000;
  set('rope.freq_base', base);
  set('rope.freq_base_swa', number(config, 'rope_local_base_freq') ?? number(windowed, 'rope_theta'));
  const partial = number(config, 'partial_rotary_factor') ?? number(parameters, 'partial_rotary_factor') ?? 1;
  const ropeDims = headSize === null ? null : headSize * partial;
  set('rope.dimension_count', ropeDims);
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
  } else if (kind !== 'default') throw new CommandError(`config.json: rope scaling ${shown(kind)} is not supported`);
}

/** GGUF's numbers of poolings, by the names in 1_Pooling/config.json less pooling_mode_ and _tokens. */
const POOLINGS: Readonly<Record<string, number>> = { mean: 1, cls: 2, lasttoken: 3 };

/** What a Sentence Transformers folder has beside the model. */
export interface EmbeddingFiles {
  modules: unknown;
  pooling: Json;
  limits: Json;
  prompts: Json;
}

/** Metadata of a Sentence Transformers model: its pooling and prefixes, whether it normalises, how many tokens it reads. */
export function embeddingMetadata(family: Family, files: EmbeddingFiles): Metadata {
  const out: Metadata = new Map();
  const modules = list(files.modules);
  if (modules === null) return out;
  const kinds = modules.map((module) => String(object(module)?.type ?? '').replace(/^.*\./, ''));
  for (const kind of kinds)
    if (!['Transformer', 'Pooling', 'Normalize'].includes(kind))
      throw new CommandError(`modules.json has a module ${shown(kind)}, which is not supported`);
  const pooling = poolingOf(files.pooling);
  if (pooling !== null) out.set(`${family.name}.pooling_type`, pooling);
  out.set('hartonomous.embedding.normalize', kinds.includes('Normalize'));
  const most = number(files.limits, 'max_seq_length');
  if (most !== null) out.set('hartonomous.embedding.max_tokens', most);
  setPrefixes(files.prompts, out);
  return out;
}

/** GGUF's number of the pooling in 1_Pooling/config.json; null where it names none. */
function poolingOf(config: Json): number | null {
  if (config.include_prompt === false) refuse('1_Pooling/config.json: include_prompt false is not supported');
  const flags = Object.keys(config).filter((key) => /^pooling_mode_/.test(key) && config[key] === true);
  const modes = typeof config.pooling_mode === 'string' ? [config.pooling_mode] : flags;
  if (modes.length === 0) return null;
  const mode = modes.length === 1 ? POOLINGS[modes[0]!.replace(/^pooling_mode_|_tokens?$/g, '')] : undefined;
  return mode ?? refuse(`1_Pooling/config.json: ${modes.join(' and ')} is not supported`);
}

function refuse(message: string): never {
  throw new CommandError(message);
}

/** What config_sentence_transformers.json puts before queries and documents, and before texts that are neither. */
function setPrefixes(config: Json, out: Metadata): void {
  const prompts = object(config.prompts) ?? {};
  const text = (...names: string[]): string | null =>
    names.map((name) => prompts[name]).find((value): value is string => typeof value === 'string') ?? null;
  const query = text('query');
  const document = text('document', 'passage', 'corpus');
  // Two empty ones are what a folder has whose maker said nothing.
  if ((query ?? '') !== '' || (document ?? '') !== '')
    out.set('hartonomous.embedding.prefixes', [query ?? '', document ?? '']);
  const { default_prompt_name: name } = config;
  if (name === undefined || name === null) return;
  const otherwise = text(String(name));
  if (otherwise === null)
    throw new CommandError(
      `config_sentence_transformers.json: default_prompt_name ${shown(name)} is none of its prompts`,
    );
  out.set('hartonomous.embedding.default_prefix', otherwise);
}
