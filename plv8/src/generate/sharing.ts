/**
 * Which segment holds a model's weights and vocabulary, who publishes it, and when it goes. Segments only save time and
 * memory: the tables stay the source of truth, and everything works without.
 */
import type { OpenSegment, SegmentStore } from '../db.ts';
import { logDebug, poll, query, segmentStore } from '../db.ts';
import type { WasmMemory } from '../kernels/load.ts';
import type { Precision } from '../model/model.ts';
import type { MappableWeights, WeightSegment } from '../model/segment.ts';
import type { Places } from '../model/weights.ts';
import type { Vocabulary } from '../tokenizer/vocabulary.ts';
import { vocabularyOf, vocabularyText } from '../tokenizer/vocabulary-text.ts';
import type { Catalog } from './catalog.ts';

/** First key of the advisory locks of publishers, "HSEG" in ASCII. */
const LOCK_CLASS = 0x48534547;
/** Waiting for another backend's segment ends after this; loading a copy of one's own is what is left then. */
const MAX_WAIT_MS = 120_000;
const PRECISIONS: Precision[] = ['auto', 'f32', 'q8'];

/** Another build may lay weights out in another way, so its segments are not looked at. */
function layoutOf(precision: Precision): number | null {
  const id = (globalThis as { hartonomous?: { id?: string } }).hartonomous?.id;
  if (id === undefined) return null;
  return parseInt(id.slice(0, 7), 16) * 4 + PRECISIONS.indexOf(precision);
}

/** The manifest: places of the weights in the first line, the vocabulary in the second. */
function manifestOf(places: Places, vocabulary: Vocabulary): string {
  return `${JSON.stringify(places)}\n${vocabularyText(vocabulary)}`;
}

export class ModelSegment implements WeightSegment {
  private opened: OpenSegment | null = null;
  private publisher = false;

  private constructor(
    private readonly store: SegmentStore,
    private readonly digest: string,
    private readonly layout: number,
    private readonly toPublish: (() => Vocabulary) | null,
  ) {}

  /**
   * The segment of a model and precision, which need not be there yet; null where there can be none. `toPublish` gives
   * the model's vocabulary, which goes into it with the weights.
   */
  static of(digest: string, precision: Precision, toPublish: (() => Vocabulary) | null = null): ModelSegment | null {
    const store = segmentStore();
    const layout = layoutOf(precision);
    return store === null || layout === null ? null : new ModelSegment(store, digest, layout, toPublish);
  }

  private open(): OpenSegment | null {
    this.opened ??= this.store.open(this.digest, this.layout);
    return this.opened;
  }

  /** The vocabulary, if the segment is there. */
  vocabulary(): Vocabulary | null {
    const text = this.open()?.line(1);
    return text === undefined ? null : vocabularyOf(text);
  }

  /** The weights, if they are there, or another backend is about to publish them; else this backend becomes the publisher. */
  find(): MappableWeights | null {
    const started = Date.now();
    while (this.open() === null && !this.publisher && Date.now() - started < MAX_WAIT_MS) {
      this.publisher = this.lock();
      if (!this.publisher) query('select pg_sleep(0.01)');
      poll();
    }
    const segment = this.open();
    if (segment === null) return null;
    return {
      bytes: segment.bytes,
      places: JSON.parse(segment.line(0)) as Places,
      map: (memory: WasmMemory, at: number) => segment.map(memory, at),
    };
  }

  /** Held to the end of the transaction, whatever becomes of it; nobody waits for it once the segment is there. */
  private lock(): boolean {
    const [row] = query('select pg_try_advisory_xact_lock($1::integer, hashtext($2::text)) as held', [
      LOCK_CLASS,
      `${this.digest}/${this.layout}`,
    ]);
    return row?.held === true;
  }

  publish(places: Places, memory: WasmMemory, at: number, bytes: number): boolean {
    if (!this.publisher || this.toPublish === null) return false;
    try {
      return this.store.publish(this.digest, this.layout, manifestOf(places, this.toPublish()), memory, at, bytes);
    } catch (error) {
      // A full disk, say: the model is loaded, and works from this backend's own memory.
      logDebug(`segment was not published: ${error instanceof Error ? error.message : String(error)}`);
      poll();
      return false;
    }
  }

  close(): void {
    this.opened?.close();
    this.opened = null;
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
