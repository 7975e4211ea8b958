/** Explanations of tokens of one recorded run: replay, take apart, and put together what the tables hold. */
import { raise, SQLSTATE } from '../errors.ts';
import type { Model } from '../model/model.ts';
import { privateCache } from '../backend/caches.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { rollout, valueWeighted } from './attention.ts';
import { AllowedTokens, sampleAgain } from './candidates.ts';
import type { Captured } from './capture.ts';
import { capture, newMeanAttention } from './capture.ts';
import type { Component } from './components.ts';
import { componentsOf } from './components.ts';
import { distribution } from './distribution.ts';
import type { Edge, Explanation } from './explanation.ts';
import type { SamplerFacts } from './facts.ts';
import { factsOf, samplerFacts } from './facts.ts';
import { deleteInputs, similarInput, tokenInputs } from './inputs.ts';
import { lensOf } from './lens.ts';
import type { PartCost } from './part-costs.ts';
import { costliest, partCosts } from './part-costs.ts';
import type { RecordedRun, RunModel } from './recorded-run.ts';
import { proveReplay } from './replay.ts';
import { summarise } from './summary.ts';
import { textOf, TokenTexts } from './token-texts.ts';
import type { InputMode } from './units.ts';
import { quoted } from '../format/visible-text.ts';

/** Steps whose activations are kept at once. */
const STEPS_AT_ONCE = 8;

/** What a page shows of attention: the heads that count most, and where each looked. */
const SHOWN_HEADS = 12;
const EDGES_OF_HEAD = 4;
const LEAST_SHOWN_WEIGHT = 0.05;

export interface ExplainRequest {
  /** Ascending. */
  steps: readonly number[];
  inputs: InputMode;
  /** Token to compare with; null for the runner-up. */
  versus: string | null;
  poll(): void;
}

/** Throws invalidParameterValue for a step the run does not have. */
export function checkStep(run: RecordedRun, step: number): void {
  const count = run.outputIds.length;
  if (count === 0) raise(SQLSTATE.invalidParameterValue, `run ${run.id} wrote no tokens`);
  if (!Number.isInteger(step) || step < 0 || step >= count) {
    raise(SQLSTATE.invalidParameterValue, `run ${run.id} has steps 0 to ${count - 1}, got ${step}`);
  }
}

/** The one token that a text stands for, with or without a blank before it: of two the likelier. */
function versusId(tokenizer: Tokenizer, text: string, logits: Float32Array): number {
  const found = [text, ` ${text}`]
    .map((each) => tokenizer.encode(each, { addSpecial: false, parseSpecial: true }))
    .filter((ids) => ids.length === 1)
    .map((ids) => ids[0]!);
  const best = found.sort((a, b) => logits[b]! - logits[a]!)[0];
  return best ?? raise(SQLSTATE.invalidParameterValue, `versus ${quoted(text)} is not one token of the model`);
}

/** One step while it is explained. */
interface Explained {
  explanation: Explanation;
  bySampler: SamplerFacts;
}

/** Steps in their order that one pass can show: a few at once, all near or all far. */
function groupsOf(steps: readonly number[], far: (step: number) => boolean): number[][] {
  const groups: number[][] = [];
  for (const step of steps) {
    const last = groups[groups.length - 1];
    if (last !== undefined && last.length < STEPS_AT_ONCE && far(last[0]!) === far(step)) last.push(step);
    else groups.push([step]);
  }
  return groups;
}

/** Everything but attention of `request.steps`. Throws where the replay is not the recorded computation. */
export function explainSteps(run: RecordedRun, used: RunModel, request: ExplainRequest): Explanation[] {
  const { steps, poll } = request;
  const { model } = used.entry;
  const promptLength = run.promptIds.length;
  const lastStep = steps[steps.length - 1]!;
  const ids = [...run.promptIds, ...run.outputIds.slice(0, lastStep)];
  const texts = new TokenTexts(used.tokenizer, [...run.promptIds, ...run.outputIds]);
  const cache = privateCache(model);
  try {
    const mean = newMeanAttention(model, ids.length);
    let norms: Float32Array[] | null = null; // per layer (nHeads, ids.length)
    const groups = groupsOf(steps, (step) => model.isFar(promptLength + step));
    if (groups.length > 1) {
      // The norms need all values; computing them first spares keeping every step's attention.
      model.forward(ids, cache, { poll });
      norms = model.valueNorms(cache, ids.length, poll);
      cache.truncate(0);
    }
    const explained: Explained[] = [];
    const allowed = new AllowedTokens(run, used.tokenizer, poll);
    for (const some of groups) {
      const positions = some.map((step) => promptLength + step - 1);
      const end = positions[positions.length - 1]! + 1;
      // What the costs of parts before have left ends before these positions.
      const captured = capture(model, ids.slice(cache.length, end), positions, cache, mean, poll);
      norms ??= model.valueNorms(cache, ids.length, poll);
      const taken = takeApart(run, used, some, captured, allowed, request);
      const costs = partCosts(
        model,
        ids,
        cache,
        taken.map(({ explanation: { token }, components }, i) => ({
          position: positions[i]!,
          id: token.token_id,
          logprob: token.logprob,
          components,
          residuals: captured[i]!.residuals,
        })),
        poll,
      );
      taken.forEach(({ explanation, bySampler }, i) => {
        const one = captured[i]!;
        nameParts(explanation, costs[i]!, one, model);
        explanation.inputs = tokenInputs(run, used, texts, ids.slice(0, one.position + 1), explanation.token.token_id, {
          rollout: mean === null ? null : rollout(mean, one.position),
          valueWeighted: valueWeighted(one.weights, one.position + 1, norms!, ids.length),
        });
        explained.push({ explanation, bySampler });
        poll();
      });
    }
    const explanations = explained.map(({ explanation }) => explanation);
    if (request.inputs !== 'none') deleteInputs(run, used, cache, ids, explanations, request.inputs, texts, poll);
    for (const one of explained) finish(one, run, used, texts);
    return explanations;
  } finally {
    cache.free();
  }
}

/** Candidates, components and lens of some steps. */
function takeApart(
  run: RecordedRun,
  used: RunModel,
  steps: readonly number[],
  captured: readonly Captured[],
  allowed: AllowedTokens,
  request: ExplainRequest,
): (Explained & { components: Component[] })[] {
  const { model } = used.entry;
  const { tokenizer } = used;
  const { poll } = request;
  const { nLayers } = model.config;
  const parts = steps.map((step, i) => {
    const id = run.outputIds[step]!;
    const logits = model.unembed(captured[i]!.residuals[nLayers]!, poll).slice();
    const difference = proveReplay(run, used, step, logits[id]!);
    const history = [...run.promptIds, ...run.outputIds.slice(0, step)];
    const sampled = sampleAgain(run.sampler, logits, history, step, id, allowed.at(step), run.labels === null);
    const other =
      request.versus !== null
        ? versusId(tokenizer, request.versus, logits)
        : (sampled.choice.runnerUp ??
          distribution(logits, id, 2)
            .top.map((one) => one.id)
            .find((one) => one !== id)!);
    return { step, id, other, logits, difference, sampled };
  });
  const apart = componentsOf(
    model,
    parts.map(({ id, other }, i) => ({ captured: captured[i]!, ids: [id, other] })),
    poll,
  );
  return parts.map(({ step, id, other, logits, difference, sampled }, i) => {
    const lens = lensOf(model, captured[i]!, id, poll);
    const { components: own, logits: uncapped } = apart[i]!;
    const sum = own.reduce((total, { shares }) => total + shares[0]!, 0);
    const logit = logits[id]!;
    const explanation: Explanation = {
      token: {
        run_id: run.id,
        step,
        token_id: id,
        token: textOf(tokenizer, id),
        logit,
        logprob: sampled.logprob,
        probability: sampled.candidates.find((one) => one.chosen)?.probability ?? 0,
        entropy: sampled.entropy,
        runner_up_id: other,
        runner_up: textOf(tokenizer, other),
        runner_up_logit: logits[other]!,
        runner_up_probability: Math.exp(logits[other]! - logit + sampled.logprob),
        draw: sampled.draw,
        component_sum: sum,
        // A soft cap is no sum: there the logit before it is the one taken apart.
        residual: (model.config.logitSoftcap > 0 ? uncapped[0]! : logit) - sum,
        replay_difference: difference,
        choice_reproduced: sampled.reproduced,
        settled_layer: lens.find((row) => row.staysFirst)?.layer ?? null,
        ...NO_PARTS,
        similar_token: null,
        similarity: null,
        inputs: request.inputs,
        top_input: null,
        top_input_influence: null,
        deleted_count: null,
        deleted_top_lost: null,
        deleted_random_lost: null,
        summary: '',
      },
      candidates: sampled.candidates.map((one) => ({
        rank: one.rank,
        token_id: one.id,
        token: textOf(tokenizer, one.id),
        logit: one.logit,
        penalised_logit: one.penalised,
        scaled_logit: one.scaled,
        cut_by: one.cutBy,
        model_probability: one.modelProbability,
        probability: one.probability,
        chosen: one.chosen,
      })),
      components: own.map(({ kind, layer, head: h, shares }) => ({
        component: kind,
        layer,
        head: h,
        contribution: shares[0]!,
        versus_contribution: shares[1]!,
      })),
      lens: lens.map((row) => ({
        layer: row.layer,
        rank: row.rank,
        probability: row.probability,
        top_token_ids: row.topIds,
        top_tokens: row.topIds.map((one) => textOf(tokenizer, one)),
        top_probabilities: row.topProbabilities,
        stays_first: row.staysFirst,
      })),
      inputs: [],
      edges: edgesOf(own, captured[i]!, model),
    };
    const compared = { chosen: id, other, versus: request.versus !== null };
    return { explanation, bySampler: samplerFacts(run, tokenizer, sampled, logits, compared), components: own };
  });
}

/** Until costs are known. */
const NO_PARTS = {
  top_head_layer: 0,
  top_head: 0,
  top_head_contribution: 0,
  top_head_position: 0,
  top_head_weight: 0,
  top_head_difference: 0,
  top_head_cost: 0,
  top_ffn_layer: 0,
  top_ffn_contribution: 0,
  top_ffn_difference: 0,
  top_ffn_cost: 0,
};

/** The head and the network without which the token loses most, and where that head looked most. */
function nameParts({ token }: Explanation, costs: readonly PartCost[], captured: Captured, model: Model): void {
  const head = costliest(costs, 'head');
  const ffn = costliest(costs, 'ffn');
  const row = headRow(captured, head.layer, head.head, model);
  const position = row.reduce((best, weight, p) => (weight > row[best]! ? p : best), 0);
  Object.assign(token, {
    top_head_layer: head.layer,
    top_head: head.head,
    top_head_contribution: head.contribution,
    top_head_position: position,
    top_head_weight: row[position]!,
    top_head_difference: head.difference,
    top_head_cost: head.cost,
    top_ffn_layer: ffn.layer,
    top_ffn_contribution: ffn.contribution,
    top_ffn_difference: ffn.difference,
    top_ffn_cost: ffn.cost,
  } satisfies Partial<Explanation['token']>);
}

/** Where the heads that moved the logit most looked. */
function edgesOf(components: readonly Component[], captured: Captured, model: Model): Edge[] {
  const heads = components
    .filter((one) => one.kind === 'head')
    .sort((a, b) => Math.abs(b.shares[0]!) - Math.abs(a.shares[0]!))
    .slice(0, SHOWN_HEADS);
  return heads.flatMap(({ layer, head }) => {
    const row = headRow(captured, layer, head, model);
    return Array.from(row, (weight, position): Edge => ({ layer, head, position, weight }))
      .filter(({ weight }) => weight >= LEAST_SHOWN_WEIGHT)
      .sort((a, b) => b.weight - a.weight)
      .slice(0, EDGES_OF_HEAD);
  });
}

/** Attention (position + 1) of one head. */
function headRow(captured: Captured, layer: number, head: number, model: Model): Float32Array {
  const weights = captured.weights[layer]!;
  const n = weights.length / model.config.nHeads;
  return weights.subarray(head * n, (head + 1) * n);
}

/** The most similar other token before it, and the summary. */
function finish({ explanation, bySampler }: Explained, run: RecordedRun, used: RunModel, texts: TokenTexts): void {
  const { token, inputs } = explanation;
  const similar = similarInput(inputs, run, used, token.token_id);
  token.similar_token = similar?.input ?? null;
  token.similarity = similar?.cosine ?? null;
  token.summary = summarise(factsOf(run, texts, token, bySampler, used.entry.model.config.nLayers - 1));
}
