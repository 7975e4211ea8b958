/** Attention of every head at one step, as edges. */
import { privateCache } from '../backend/caches.ts';
import { capture } from './capture.ts';
import type { Edge } from './explanation.ts';
import type { RecordedRun, RunModel } from './recorded-run.ts';
import { proveReplay } from './replay.ts';

/** Weights of at least `least` from the position before the step's token to every earlier one. Throws as explainSteps does. */
export function attentionOf(run: RecordedRun, used: RunModel, step: number, least: number, poll: () => void): Edge[] {
  const { model } = used.entry;
  const ids = [...run.promptIds, ...run.outputIds.slice(0, step)];
  const cache = privateCache(model);
  try {
    const [captured] = capture(model, ids, [ids.length - 1], cache, null, poll);
    const { weights, residuals } = captured!;
    const chosen = run.outputIds[step]!;
    proveReplay(run, used, step, model.unembed(residuals[model.config.nLayers]!, poll)[chosen]!);
    const edges: Edge[] = [];
    weights.forEach((ofLayer, layer) => {
      ofLayer.forEach((weight, i) => {
        if (weight >= least) edges.push({ layer, head: Math.floor(i / ids.length), position: i % ids.length, weight });
      });
    });
    return edges;
  } finally {
    cache.free();
  }
}
