import type { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';
import { frequenciesOf } from './rope-scaling.ts';

/** Positions computed at a time. */
const CHUNK = 256;

/**
 * Rotary position embedding (Su et al., "RoFormer", 2021): rows of (cos, sin) pairs per position, (ropeDims / 2, 2),
 * computed as positions are first needed.
 */
export class RopeTable {
  private readonly table: number;
  private readonly pairs: number;
  private filled = 0;

  constructor(
    private readonly arena: Arena,
    private readonly config: ModelConfig,
    /** (ropeDims / 2) radians per position */
    private readonly frequencies: Float64Array,
    /** What is rotated is multiplied by this. */
    private readonly magnitude: number,
  ) {
    this.pairs = config.ropeDims / 2;
    this.table = arena.allocate(config.contextLength * this.pairs * 8);
  }

  /** Rotate the heads of x (tokens, heads, headSize), whose tokens stand at `position` and after it. */
  apply(x: number, heads: number, position: number, tokens: number): void {
    if (position + tokens > this.filled) this.fill(position + tokens);
    const { headSize, architecture } = this.config;
    const halves = architecture.rope === 'halves';
    this.arena.kernels.rope(
      x,
      this.table + position * this.pairs * 8,
      heads,
      headSize,
      this.pairs,
      halves ? this.pairs : 1,
      halves ? 1 : 2,
      tokens,
    );
  }

  private fill(to: number): void {
    const end = Math.min(this.config.contextLength, Math.ceil(to / CHUNK) * CHUNK);
    const floats = this.arena.f32;
    let at = this.table / 4 + this.filled * this.pairs * 2;
    for (let position = this.filled; position < end; position++) {
      for (let i = 0; i < this.pairs; i++) {
        const angle = position * this.frequencies[i]!;
        floats[at++] = this.magnitude * Math.cos(angle);
        floats[at++] = this.magnitude * Math.sin(angle);
      }
    }
    this.filled = end;
  }
}

/** (nLayers) the table of each layer, null where nothing is rotated. */
type LayerTables = readonly (RopeTable | null)[];

export interface RopeTables {
  near: LayerTables;
  /** Of sequences beyond the original context; those of `near` where a model has no factors for them. */
  far: LayerTables;
}

/** Divisors of the frequencies (ropeDims / 2) that a model has for all sequences, or for shorter and longer ones. */
export interface RopeFactors {
  near: readonly number[] | null;
  far: readonly number[] | null;
}

/** One table for all layers, or two where the windowed layers have a base of their own, and one more for long sequences. */
export function ropeTables(arena: Arena, config: ModelConfig, factors: RopeFactors): RopeTables {
  const { windows, windowRopeBase, ropeDims, ropeScaling } = config;
  if (config.architecture.rope === null) {
    const none = windows.map(() => null);
    return { near: none, far: none };
  }
  const table = (base: number, scaling: typeof ropeScaling, own: readonly number[] | null): RopeTable =>
    new RopeTable(arena, config, frequenciesOf(ropeDims, base, scaling, own), scaling.magnitude);
  const full = table(config.ropeBase, ropeScaling, factors.near);
  if (config.originalContext !== null) {
    const far = table(config.ropeBase, ropeScaling, factors.far);
    return { near: windows.map(() => full), far: windows.map(() => far) };
  }
  const unscaled = { ...ropeScaling, factor: 1, yarn: null, magnitude: ropeScaling.windowMagnitude };
  const windowed = windowRopeBase === null ? full : table(windowRopeBase, unscaled, null);
  const near = windows.map((window) => (window === Infinity ? full : windowed));
  return { near, far: near };
}

/** Bytes that `ropeTables` takes, at most. */
export function ropeBytes({ architecture, contextLength, ropeDims, ...config }: ModelConfig): number {
  const second = config.windowRopeBase !== null || config.originalContext !== null;
  const tables = architecture.rope === null ? 0 : second ? 2 : 1;
  return tables * (contextLength * (ropeDims / 2) * 8 + 16);
}
