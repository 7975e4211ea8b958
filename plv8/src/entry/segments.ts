/** Segments of the server: what is there, checks and removal. */
import { returnNext } from '../db.ts';
import { currentCatalog } from '../backend/registry.ts';
import { checkSegments, dropSegmentsOf, segmentRows, sweepSegments as sweep } from '../backend/sharing.ts';

export function segments(): void {
  for (const row of segmentRows()) returnNext(row);
}

export function dropSegments(digest: string): void {
  dropSegmentsOf(digest, currentCatalog());
}

export function checkEverySegment(): void {
  for (const row of checkSegments()) returnNext(row);
}

export function sweepSegments(): number {
  return sweep(currentCatalog());
}
