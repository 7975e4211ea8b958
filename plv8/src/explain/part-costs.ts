/**
 * What leaving out single parts of the network costs a token: the part writes nothing at the position before the token, and
 * everything after it there goes on with that. What earlier positions wrote stays, and so does what the layers before wrote
 * there: each part costs one token's computation from its layer on.
 */
import type { KvCache, Model, Step } from '../model/model.ts';
import { ablation } from '../model/ablation.ts';
import type { Component } from './components.ts';
import { logprobOf } from './distribution.ts';

/**
 * Heads that are left out one by one: those that wrote most, whose effect is mostly through later layers, and those that did
 * most for the token and against the runner-up directly; and all networks of models that have no more of them.
 */
const LARGE_HEADS = 96;
const DIRECT_HEADS = 16;
const NETWORKS = 32;

/** A head, or with -1 the feed-forward network of a layer. */
export interface PartCost {
  layer: number;
  head: number;
  /** What it did for the token and against the other, directly. */
  difference: number;
  contribution: number;
  /** Log-probability that leaving it out costs. */
  cost: number;
}

export interface CostsAsked {
  /** Position before the token. */
  position: number;
  id: number;
  logprob: number;
  components: readonly Component[];
  /** Residual streams (dim) before each layer at the position. */
  residuals: readonly Float32Array[];
}

function candidates(components: readonly Component[]): Component[] {
  const most = (kind: Component['kind'], count: number, of: (one: Component) => number): Component[] =>
    components
      .filter((one) => one.kind === kind)
      .sort((a, b) => of(b) - of(a))
      .slice(0, count);
  const difference = ({ shares }: Component): number => shares[0]! - shares[1]!;
  return [
    ...new Set([
      ...most('head', LARGE_HEADS, ({ size }) => size!),
      ...most('head', DIRECT_HEADS, difference),
      ...most('ffn', NETWORKS, difference),
    ]),
  ];
}

/**
 * For each asked token the costs of its parts, in no order. `cache` holds `ids` up to the last position asked about, and is
 * left with what stands before the first one.
 */
export function partCosts(
  model: Model,
  ids: readonly number[],
  cache: KvCache,
  asked: readonly CostsAsked[],
  poll: () => void,
): PartCost[][] {
  const found = asked.map((): PartCost[] => []);
  // From the last to the first, so that what an ablation leaves in the cache stands behind all that is still to come.
  const order = [...asked.keys()].sort((a, b) => asked[b]!.position - asked[a]!.position);
  for (const a of order) {
    const { position, id, logprob, components, residuals } = asked[a]!;
    const parts = candidates(components).sort((one, other) => one.layer - other.layer);
    const steps = parts.map(({ kind, layer, head }): Step => {
      const left = kind === 'head' ? { heads: [{ layer, head }], ffns: [] } : { heads: [], ffns: [{ layer }] };
      const intervention = ablation(model, { ...left, neurons: [], by: 'zero', from: position });
      // Layers before the part's do as they did.
      const joins = { layer, stream: residuals[layer]! };
      return { ids: [ids[position]!], cache, start: position, intervention, joins };
    });
    model.forwardEach(steps, { poll }, (step, _index, logits) => {
      const { layer, head, shares } = parts[step]!;
      const cost = logprob - logprobOf(logits, id);
      found[a]!.push({ layer, head, contribution: shares[0]!, difference: shares[0]! - shares[1]!, cost });
    });
  }
  cache.truncate(Math.min(...asked.map(({ position }) => position)));
  return found;
}

/** The head, or the network, that costs most. */
export function costliest(costs: readonly PartCost[], kind: 'head' | 'ffn'): PartCost {
  return costs
    .filter(({ head }) => head >= 0 === (kind === 'head'))
    .reduce((best, one) => (one.cost > best.cost ? one : best));
}
