/** How a model stretches its rotation beyond the context that it was first trained for. */
import type { Metadata } from './metadata.ts';

/**
 * YaRN (Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023): pairs that turn often
 * within the original context keep their frequency, those that turn seldom are divided, between them both are mixed.
 */
export interface Yarn {
  /** Tokens of the context that the model was first trained for. */
  readonly originalContext: number;
  /** Turns within that context from which on a pair keeps its frequency, and below which it is divided. */
  readonly betaFast: number;
  readonly betaSlow: number;
}

export interface RopeScaling {
  /** Frequencies are divided by this; 1 for none. */
  readonly factor: number;
  readonly yarn: Yarn | null;
  /** What rotated queries and keys are multiplied by. */
  readonly magnitude: number;
  /** The same where the layer has a window, and is not scaled. */
  readonly windowMagnitude: number;
}

export interface Context {
  nLayers: number;
  /** Of the layers that have one; 0 for none. */
  window: number;
  contextLength: number;
  /** Where a model has factors for longer sequences, null for others. */
  originalContext: number | null;
}

/** Read the keys rope.scaling.*; a factor without a type is linear, as in the files of old. Throws naming key and value. */
export function readScaling(metadata: Metadata, context: Context): RopeScaling {
  const { nLayers, window, contextLength, originalContext } = context;
  const declared = window < contextLength ? metadata.architecture.linearScaleByDepth?.[nLayers] : undefined;
  const factor = metadata.optional('rope.scaling.factor', metadata.optional('rope.scale_linear', declared ?? 1)) || 1;
  const type = metadata.value('rope.scaling.type') ?? (originalContext === null ? 'linear' : 'longrope');
  const attention = metadata.value('rope.scaling.attn_factor');
  const magnitude = metadata.positive('rope.scaling.attn_factor', 1);
  const plain = { factor: 1, yarn: null, magnitude, windowMagnitude: magnitude };
  if (type === 'longrope' && originalContext !== null) {
    // Without a factor that of its authors (Ding et al., "LongRoPE", 2024).
    const stretch = Math.max(1, contextLength / originalContext);
    const own = Math.sqrt(1 + Math.log(stretch) / Math.log(originalContext));
    return attention === undefined ? { ...plain, magnitude: own } : plain;
  }
  if (type === 'none') return plain;
  if (type === 'linear') return { ...plain, factor };
  if (type !== 'yarn') {
    const computed =
      type === 'longrope'
        ? 'and there is no tensor rope_factors_long.weight'
        : 'only none, linear, yarn and longrope are computed';
    metadata.unsupported('rope.scaling.type', computed);
  }
  const yarn = {
    originalContext: metadata.integer('rope.scaling.original_context_length', Number.MAX_SAFE_INTEGER, contextLength),
    betaFast: metadata.positive('rope.scaling.yarn_beta_fast', 32),
    betaSlow: metadata.positive('rope.scaling.yarn_beta_slow', 1),
  };
  const stretch = factor > 1 ? 1 + 0.1 * Math.log(factor) : 1;
  return { factor, yarn, magnitude: magnitude * stretch, windowMagnitude: magnitude };
}

/** (dims / 2) radians per position of a rotation with a base, scaled. `factors` (dims / 2) divide single frequencies. */
export function frequenciesOf(
  dims: number,
  base: number,
  { factor, yarn }: { factor: number; yarn: Yarn | null },
  factors: readonly number[] | null,
): Float64Array {
  const pairs = dims / 2;
  const share = yarn === null ? () => 0 : keptShare(dims, base, yarn);
  return Float64Array.from({ length: pairs }, (_, i) => {
    const whole = base ** ((-2 * i) / dims) / (factors?.[i] ?? 1);
    const kept = share(i);
    return whole * kept + (whole / factor) * (1 - kept);
  });
}

/** How much of its own frequency a pair keeps, 0 to 1. */
function keptShare(dims: number, base: number, yarn: Yarn): (pair: number) => number {
  const pairOfTurns = (turns: number): number =>
    (dims * Math.log(yarn.originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const first = Math.max(0, Math.floor(pairOfTurns(yarn.betaFast)));
  const last = Math.min(dims - 1, Math.ceil(pairOfTurns(yarn.betaSlow)));
  return (pair) => {
    const ramp = Math.min(1, Math.max(0, (pair - first) / Math.max(0.001, last - first)));
    return 1 - ramp;
  };
}
