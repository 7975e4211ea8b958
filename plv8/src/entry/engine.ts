/** What the process of an engine calls, and the views engine_list and engine_requests. */
import { returnNext } from '../db.ts';
import { engineRows, requestRows } from '../generate/engine/look.ts';
import { turn } from '../generate/engine/serve.ts';

export function engineTurn(): boolean {
  return turn();
}

export function engineList(): void {
  for (const row of engineRows()) returnNext(row);
}

export function engineRequests(viewer: string | null): void {
  if (viewer === null) return;
  for (const row of requestRows(viewer)) returnNext(row);
}
