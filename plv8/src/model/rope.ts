import type { Arena } from './arena.ts';
import type { ModelConfig } from './config.ts';

/** Positions computed at a time. */
const CHUNK = 256;

/**
 * Rotary position embedding (Su et al., "RoFormer", 2021): rows of (cos, sin) pairs per position, (ropeDims / 2, 2),
 * computed as positions are first needed.
 */
export class RopeTable {
  private readonly table: number;
  private readonly pairs: number;
  private readonly frequencies: Float64Array; // (pairs) radians per position
  private filled = 0;

  constructor(
    private readonly arena: Arena,
    private readonly config: ModelConfig,
    /** What decides the frequencies: the model's or those of its windowed layers. */
    { base, scale, factors }: { base: number; scale: number; factors: readonly number[] | null },
  ) {
    this.pairs = config.ropeDims / 2;
    this.table = arena.allocate(config.contextLength * this.pairs * 8);
    this.frequencies = Float64Array.from({ length: this.pairs }, (_, i) => {
      return base ** ((-2 * i) / config.ropeDims) / (factors?.[i] ?? 1) / scale;
    });
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
        floats[at++] = Math.cos(angle);
        floats[at++] = Math.sin(angle);
      }
    }
    this.filled = end;
  }
}

/** One table for all layers, or two where the windowed layers have a base of their own; (nLayers) null where nothing is rotated. */
export function ropeTables(arena: Arena, config: ModelConfig, factors: readonly number[] | null): (RopeTable | null)[] {
  const { windows, windowRopeBase } = config;
  if (config.architecture.rope === null) return windows.map(() => null);
  const full = new RopeTable(arena, config, { base: config.ropeBase, scale: config.ropeScale, factors });
  if (windowRopeBase === null) return windows.map(() => full);
  const windowed = new RopeTable(arena, config, { base: windowRopeBase, scale: 1, factors: null });
  return windows.map((window) => (window === Infinity ? full : windowed));
}

/** Bytes that `ropeTables` takes, at most. */
export function ropeBytes({ architecture, contextLength, ropeDims, windowRopeBase }: ModelConfig): number {
  const tables = architecture.rope === null ? 0 : windowRopeBase === null ? 1 : 2;
  return tables * (contextLength * (ropeDims / 2) * 8 + 16);
}
