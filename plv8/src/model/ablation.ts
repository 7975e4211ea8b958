/** Parts of the network that write zeros, or their means, in place of what they would. */
import { raise, SQLSTATE } from '../errors.ts';
import type { AblatedParts } from '../format/ablated-parts.ts';
import type { ModelConfig } from './config.ts';
import type { Intervention, WrittenTo } from './intervention.ts';
import type { KvCache, Model } from './model.ts';

/** Columns [first, end) of what is written to one place of a layer, and what is to stand there. */
interface Columns {
  to: WrittenTo;
  layer: number;
  first: number;
  end: number;
  /** Null for zeros. */
  value: Float32Array | null;
}

/** Throws invalidParameterValue naming the part and what there is, where the model has no such part. */
function columnsOf({ heads, ffns, neurons }: AblatedParts, config: ModelConfig): Columns[] {
  const { nLayers, nHeads, headSize, dim, hiddenDim } = config;
  const check = (what: string, at: number, count: number, where = ''): void => {
    if (at < count) return;
    raise(
      SQLSTATE.invalidParameterValue,
      `option ablate names ${what} ${at}${where}, the model has ${what}s 0 to ${count - 1}`,
    );
  };
  for (const { layer } of [...heads, ...ffns, ...neurons]) check('layer', layer, nLayers);
  for (const { layer, head } of heads) check('head', head, nHeads, ` of layer ${layer}`);
  for (const { layer, index } of neurons) check('neuron', index, hiddenDim, ` of layer ${layer}`);
  return [
    ...heads.map(({ layer, head }) => ({
      to: 'heads' as const,
      layer,
      first: head * headSize,
      end: (head + 1) * headSize,
    })),
    ...neurons.map(({ layer, index }) => ({ to: 'neurons' as const, layer, first: index, end: index + 1 })),
    ...ffns.map(({ layer }) => ({ to: 'ffn' as const, layer, first: 0, end: dim })),
  ].map((columns) => ({ ...columns, value: null }));
}

/** Call `visit` with the columns that stand in a place of a layer. */
function finder(all: readonly Columns[]): (to: WrittenTo, layer: number) => readonly Columns[] {
  const found = new Map<string, Columns[]>();
  for (const columns of all) {
    const key = `${columns.to} ${columns.layer}`;
    found.set(key, [...(found.get(key) ?? []), columns]);
  }
  return (to, layer) => found.get(`${to} ${layer}`) ?? [];
}

/** Let each of the columns have the mean of what is written there over all of `ids`, with nothing left out. */
function measure(
  model: Model,
  all: readonly Columns[],
  ids: readonly number[],
  cache: KvCache,
  poll: () => void,
): void {
  const sums = new Map(all.map((columns) => [columns, new Float64Array(columns.end - columns.first)]));
  const at = finder(all);
  model.forward(ids, cache, {
    poll,
    intervention: (to, layer, _position, rows, width) => {
      for (const columns of at(to, layer)) {
        const sum = sums.get(columns)!;
        for (let row = 0; row < rows.length; row += width)
          sum.forEach((_, i) => (sum[i]! += rows[row + columns.first + i]!));
      }
    },
  });
  for (const [columns, sum] of sums) columns.value = Float32Array.from(sum, (each) => each / ids.length);
}

/** What means are taken over, and what makes an empty cache for that, which is freed. */
export interface MeansOver {
  ids: readonly number[];
  newCache(): KvCache;
  poll(): void;
}

/** The intervention that leaves parts out; `over` is needed where they are to write their means. Throws where the model has no such part. */
export function ablation(model: Model, parts: AblatedParts, over?: MeansOver): Intervention {
  const all = columnsOf(parts, model.config);
  if (parts.by === 'mean') {
    if (over === undefined) raise(SQLSTATE.internalError, 'means have nothing to be taken over');
    const cache = over.newCache();
    try {
      measure(model, all, over.ids, cache, over.poll);
    } finally {
      cache.free();
    }
  }
  const at = finder(all);
  return (to, layer, position, rows, width) => {
    for (const { first, end, value } of at(to, layer)) {
      for (let row = Math.max(0, parts.from - position) * width; row < rows.length; row += width) {
        if (value === null) rows.fill(0, row + first, row + end);
        else rows.set(value, row + first);
      }
    }
  };
}
