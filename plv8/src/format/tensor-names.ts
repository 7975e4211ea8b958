/**
 * What a GGUF tensor name says: layer, role, and its place in the order in which a forward pass needs it.
 * Names follow the GGUF specification: `token_embd.weight`, `blk.3.attn_q.weight`, `blk.3.attn_q.bias`, `output.weight`.
 */
export interface TensorPlace {
  /** Transformer layer from 0, null outside of layers. */
  layer: number | null;
  /** Name without `blk.N.` and `.weight`: attn_q, attn_q.bias, ffn_down, token_embd. */
  role: string;
}

/** Roles in the order in which a layer uses them; unknown ones come after, by name. */
const ROLE_ORDER: readonly string[] = [
  'token_embd',
  'token_types',
  'position_embd',
  'token_embd_norm',
  'rope_freqs',
  'rope_factors_long',
  'rope_factors_short',
  'attn_norm',
  'attn_qkv',
  'attn_q',
  'attn_q_norm',
  'attn_k',
  'attn_k_norm',
  'attn_v',
  'attn_output',
  'attn_output_norm',
  'post_attention_norm',
  'ffn_norm',
  'ffn_gate_inp',
  'ffn_gate',
  'ffn_up',
  'ffn_up_exps',
  'ffn_down',
  'ffn_down_exps',
  'layer_output_norm',
  'post_ffw_norm',
  'output_norm',
  'output',
  'dense_2',
  'dense_3',
  'cls',
];

/** Tensors of vision and of its way to the text model, which some files hold besides; a POSIX regular expression, too. */
export const OTHER_PARTS = '^(v|mm)[.]';

const ROLE_RANK = new Map(ROLE_ORDER.map((role, rank) => [role, rank]));
const LAYER_NAME = /^blk\.(\d{1,5})\.(.+)$/;
/** Roles that come after the last layer. */
const FINAL_ROLES: ReadonlySet<string> = new Set(['output_norm', 'output', 'dense_2', 'dense_3', 'cls']);

/** Layer and role of a tensor name. */
export function tensorPlace(name: string): TensorPlace {
  const match = LAYER_NAME.exec(name);
  const rest = match?.[2] ?? name;
  return { layer: match ? Number(match[1]) : null, role: rest.endsWith('.weight') ? rest.slice(0, -7) : rest };
}

function baseRole(role: string): string {
  const dot = role.indexOf('.');
  return dot < 0 ? role : role.slice(0, dot);
}

/** Rank of a role; a bias follows its matrix. Unknown roles share the last rank. */
export function roleRank(role: string): number {
  const base = baseRole(role);
  const rank = ROLE_RANK.get(base) ?? ROLE_ORDER.length;
  return 2 * rank + (base === role ? 0 : 1);
}

/** Depth of a tensor in the forward pass: 0 before the layers, 1 + layer, and after the last layer the final ones. */
export function tensorDepth(place: TensorPlace, nLayers: number): number {
  if (place.layer !== null) return 1 + place.layer;
  return FINAL_ROLES.has(baseRole(place.role)) ? 1 + nLayers : 0;
}
