/**
 * Which segments hold a model's weights and vocabulary, who publishes them, and when they go. Segments only save time and
 * memory: the tables stay the source of truth, and everything works without.
 */
import type { OpenSegment, SegmentStore } from '../db.ts';
import { logEvent, poll, query, segmentStore } from '../db.ts';
import { kernelBuild } from '../kernels/load.ts';
import type { WasmMemory } from '../kernels/web-assembly.ts';
import type { Precision } from '../model/model.ts';
import type { MappableWeights, PublishedWeights, WeightSegments } from '../model/load-options.ts';
import type { Places } from '../model/weights.ts';
import type { Vocabulary } from '../tokenizer/vocabulary.ts';
import { vocabularyOf, vocabularyText } from '../tokenizer/vocabulary-text.ts';
import type { Catalog } from './catalog.ts';

/** Waiting for another backend's segment ends after this; loading a copy of one's own is what is left then. */
const MAX_WAIT_MS = 120_000;
const PRECISIONS: Precision[] = ['auto', 'f32', 'q8'];

/** More memories than a model of any use has. */
const MOST_MEMORIES = 64;

/**
 * Number of the segment of one memory. Another build may lay weights out in another way, as does one that runs without the host's
 * kernels, so its segments are not looked at.
 */
function layoutOf(precision: Precision, memory: number): number | null {
  const id = (globalThis as { hartonomous?: { id?: string } }).hartonomous?.id;
  if (id === undefined || memory >= MOST_MEMORIES) return null;
  const build = parseInt(id.slice(0, 6), 16) ^ (kernelBuild() === 'native' ? 0 : 1);
  return (build * MOST_MEMORIES + memory) * 4 + PRECISIONS.indexOf(precision);
}

/** Bytes that all segments may take. The host drops old ones to make room for a new one, be they of the same model. */
function segmentBudget(): number {
  const [row] = query(`select pg_size_bytes(current_setting('hartonomous_v8.segment_budget'))::float8 as bytes`);
  return Number(row?.bytes ?? 0);
}

/** First line of a segment's text; that of the first memory has the vocabulary in the second. */
interface Head {
  /** Memories that the model was spread over. */
  memories: number;
  places: Places;
}

export class ModelSegments implements WeightSegments {
  /** By memory. */
  private readonly opened = new Map<number, OpenSegment>();
  private publisher = false;

  private constructor(
    private readonly store: SegmentStore,
    private readonly digest: string,
    private readonly precision: Precision,
    private readonly toPublish: (() => Vocabulary) | null,
  ) {}

  /**
   * The segments of a model and precision, which need not be there yet; null where there can be none. `toPublish` gives
   * the model's vocabulary, which goes into the first with the weights.
   */
  static of(digest: string, precision: Precision, toPublish: (() => Vocabulary) | null = null): ModelSegments | null {
    const store = segmentStore();
    return store === null || layoutOf(precision, 0) === null
      ? null
      : new ModelSegments(store, digest, precision, toPublish);
  }

  private open(memory: number): OpenSegment | null {
    const layout = layoutOf(this.precision, memory);
    const segment = this.opened.get(memory) ?? (layout === null ? null : this.store.open(this.digest, layout));
    if (segment !== null) this.opened.set(memory, segment);
    return segment;
  }

  /** The vocabulary, if the segment is there. */
  vocabulary(): Vocabulary | null {
    const text = this.open(0)?.line(1);
    return text === undefined ? null : vocabularyOf(text);
  }

  place(memory: WasmMemory, at: number): number {
    return this.store.place?.(memory, at) ?? at;
  }

  /** Null, and nothing open, unless the segments of all memories are there and belong together. */
  private openAll(memories: number): MappableWeights[] | null {
    const all: MappableWeights[] = [];
    for (let memory = 0; memory < memories; memory++) {
      const segment = this.open(memory);
      const head = segment === null ? null : (JSON.parse(segment.line(0)) as Head);
      if (segment === null || head?.memories !== memories) {
        this.close();
        return null;
      }
      const map = (target: WasmMemory, at: number): void => segment.map(target, at);
      all.push({ bytes: segment.bytes, places: head.places, map });
    }
    return all;
  }

  /** The weights, if they are there, or another backend is about to publish them; else this backend becomes the publisher. */
  find(memories: number): MappableWeights[] | null {
    const started = Date.now();
    let found = this.openAll(memories);
    while (found === null && !this.publisher && Date.now() - started < MAX_WAIT_MS) {
      this.publisher = this.elect();
      if (!this.publisher) query('select pg_sleep(0.01)');
      poll();
      found = this.openAll(memories);
    }
    return found;
  }

  /** To the end of the transaction, or of what it is nested in, if nothing is published before. */
  private elect(): boolean {
    const layout = layoutOf(this.precision, 0);
    return layout !== null && this.store.elect(this.digest, layout);
  }

  /** Publish what was loaded, where this backend is to; whoever waits for that need not wait any longer, whatever comes of it. */
  publish(weights: readonly PublishedWeights[]): boolean {
    try {
      return this.publishAll(weights);
    } finally {
      if (this.publisher) this.store.resign();
      this.publisher = false;
    }
  }

  /** The last memory's comes first: where the first memory's is, all of them are. */
  private publishAll(weights: readonly PublishedWeights[]): boolean {
    if (!this.publisher || this.toPublish === null || weights.length > MOST_MEMORIES) return false;
    if (weights.reduce((sum, { bytes }) => sum + bytes, 0) > segmentBudget()) return false;
    try {
      for (let i = weights.length - 1; i >= 0; i--) {
        const { places, memory, at, bytes } = weights[i]!;
        const head: Head = { memories: weights.length, places };
        const text = `${JSON.stringify(head)}\n${i === 0 ? vocabularyText(this.toPublish()) : ''}`;
        if (!this.store.publish(this.digest, layoutOf(this.precision, i)!, text, memory, at, bytes)) return false;
      }
      return true;
    } catch (error) {
      // A full disk, say: the model is loaded, and works from this backend's own memory.
      logEvent('segment_not_published', {
        digest: this.digest,
        error: error instanceof Error ? error.message : String(error),
      });
      poll();
      return false;
    }
  }

  close(): void {
    for (const segment of this.opened.values()) segment.close();
    this.opened.clear();
  }
}

/** Drop the segments of a digest that no model of this database has any more. Backends that have one mapped keep it. */
export function dropSegmentsOf(digest: string, catalog: Catalog): void {
  if (catalog.models.some((model) => model.digest === digest)) return;
  segmentStore()?.drop(digest);
}

export interface SegmentRow {
  digest: string;
  layout: number;
  bytes: number;
  database: number;
  published_at: Date;
  mapped_at: Date;
}

export function segmentRows(): SegmentRow[] {
  return (segmentStore()?.list() ?? []).map((segment) => ({
    digest: segment.key,
    layout: segment.layout,
    bytes: segment.bytes,
    database: segment.database,
    published_at: new Date(segment.published),
    mapped_at: new Date(segment.mapped),
  }));
}

/** Segments with a block that is not as it was published; they are dropped, since the next load makes them again. */
export function checkSegments(): { digest: string; layout: number; whole: boolean }[] {
  const store = segmentStore();
  return (store?.list() ?? []).map(({ key, layout }) => {
    const whole = store!.check(key, layout) !== false;
    if (!whole) store!.drop(key);
    return { digest: key, layout, whole };
  });
}

/** Remove what is of no use to anybody: broken files, and segments of models and databases that are gone. How many. */
export function sweepSegments(catalog: Catalog): number {
  const store = segmentStore();
  if (store === null) return 0;
  let removed = store.sweep();
  const databases = new Map(
    query('select oid, datname = current_database() as here from pg_database').map((row) => [
      Number(row.oid),
      row.here === true,
    ]),
  );
  for (const { key, database } of store.list()) {
    const here = databases.get(database);
    if (here === undefined || (here && !catalog.models.some((model) => model.digest === key)))
      removed += store.drop(key);
  }
  return removed;
}
