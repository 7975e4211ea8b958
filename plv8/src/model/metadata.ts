/** A model's hyper-parameters as its file states them: read under the architecture's prefix, each checked as it is read. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Architecture } from './architectures/architecture.ts';
import { quoted } from '../format/visible-text.ts';

export class Metadata {
  constructor(
    readonly architecture: Architecture,
    private readonly all: Readonly<Record<string, unknown>>,
    /** What the keys begin with: the architecture's name as the file states it. */
    private readonly prefix: string,
  ) {}

  /** Full name of a key, as `llama.rope.freq_base`. */
  key(suffix: string): string {
    return `${this.prefix}.${suffix}`;
  }

  /** What the file says under a key or another name of it, else what the architecture means without it. */
  value(suffix: string): unknown {
    const { keyAliases = {}, keyDefaults = {} } = this.architecture;
    const alias = keyAliases[suffix];
    return (
      this.all[this.key(suffix)] ?? (alias === undefined ? undefined : this.all[this.key(alias)]) ?? keyDefaults[suffix]
    );
  }

  /** Keys under the architecture's prefix, without it. */
  suffixes(): string[] {
    const prefix = this.key('');
    return Object.keys(this.all)
      .filter((key) => key.startsWith(prefix) && this.all[key] !== undefined)
      .map((key) => key.slice(prefix.length));
  }

  integer(suffix: string, limit: number, otherwise?: number): number {
    const value = this.value(suffix) ?? otherwise;
    if (value === undefined) raise(SQLSTATE.dataCorrupted, `model metadata has no ${this.key(suffix)}`);
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > limit)
      this.refuse(suffix, `must be a whole number between 1 and ${limit}`, value);
    return value;
  }

  positive(suffix: string, otherwise?: number): number {
    const value = this.value(suffix) ?? otherwise;
    if (value === undefined) raise(SQLSTATE.dataCorrupted, `model metadata has no ${this.key(suffix)}`);
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
      this.refuse(suffix, 'must be a positive number', value);
    return value;
  }

  /** A number up to `limit` that may be 0, which means none. */
  optional(suffix: string, otherwise: number, limit = Infinity): number {
    const value = (this.value(suffix) ?? otherwise) === 0 ? 0 : this.positive(suffix, otherwise);
    if (value > limit) this.refuse(suffix, `must be at most ${limit}`, value);
    return value;
  }

  flag(suffix: string): boolean | null {
    const value = this.value(suffix) ?? null;
    if (value !== null && typeof value !== 'boolean') this.refuse(suffix, 'must be true or false', value);
    return value;
  }

  /** Throws dataCorrupted for a value that cannot be. */
  refuse(suffix: string, rule: string, value: unknown): never {
    raise(SQLSTATE.dataCorrupted, `model metadata ${this.key(suffix)} ${rule}, got ${quoted(value)}`);
  }

  /** Throws featureNotSupported for a value that asks for what is not computed here. */
  unsupported(suffix: string, computed: string): never {
    raise(
      SQLSTATE.featureNotSupported,
      `model metadata ${this.key(suffix)} is ${quoted(this.all[this.key(suffix)])}, ${computed}`,
    );
  }
}
