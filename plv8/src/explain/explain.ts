/** Explanations of tokens of one recorded run: replay, take apart, and put together what the tables hold. */
import { raise, SQLSTATE } from '../errors.ts';
import type { KvCache, Model } from '../model/model.ts';
import { privateCache } from '../backend/caches.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { ValueNorms } from './attention.ts';
import { rollout, valueNorms, valueWeighted } from './attention.ts';
import { AllowedTokens, sampleAgain } from './candidates.ts';
import type { Captured } from './capture.ts';
import { capture, newMeanAttention } from './capture.ts';
import type { Component } from './components.ts';
import { componentsOf } from './components.ts';
import { distribution } from './distribution.ts';
import { embeddingCosines } from './embedding-cosine.ts';
import type { Edge, Explanation, InputRow } from './explanation.ts';
import type { Asked } from './leave-one-out.ts';
import { checkDeletions, Deletions, leaveOneOut } from './leave-one-out.ts';
import { lensOf } from './lens.ts';
import type { RecordedRun, RunModel } from './recorded-run.ts';
import { proveReplay } from './replay.ts';
import { summarise } from './summary.ts';
import type { InputMode, PromptToken, Unit } from './units.ts';
import { unitsOf } from './units.ts';
import { quoted } from '../format/visible-text.ts';

/** Steps whose activations are kept at once. */
const STEPS_AT_ONCE = 8;

/** What a page shows of attention: the heads that count most, and where each looked. */
const SHOWN_HEADS = 12;
const EDGES_OF_HEAD = 4;
const LEAST_SHOWN_WEIGHT = 0.05;

const UNIT_NAMES: Record<InputMode, string> = {
  none: 'token',
  tokens: 'token',
  words: 'word',
  sentences: 'sentence',
  spans: 'span',
};

export interface ExplainRequest {
  /** Ascending. */
  steps: readonly number[];
  inputs: InputMode;
  /** Token to compare with; null for the runner-up. */
  versus: string | null;
  poll(): void;
}

/** Text of a token as PostgreSQL can hold it; vocabularies may be shorter than the output matrix. */
export function textOf(tokenizer: Tokenizer, id: number): string {
  return id < tokenizer.vocabSize ? tokenizer.tokenText(id).replaceAll('\0', '\u2400') : `<unused ${id}>`;
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

/** Everything but attention of `request.steps`. Throws where the replay is not the recorded computation. */
export function explainSteps(run: RecordedRun, used: RunModel, request: ExplainRequest): Explanation[] {
  const { steps, poll } = request;
  const { model } = used.entry;
  const promptLength = run.promptIds.length;
  const lastStep = steps[steps.length - 1]!;
  const ids = [...run.promptIds, ...run.outputIds.slice(0, lastStep)];
  const cache = privateCache(model);
  try {
    const mean = newMeanAttention(model, ids.length);
    let norms: ValueNorms | null = null;
    if (steps.length > STEPS_AT_ONCE) {
      // The norms need all values; computing them first spares keeping every step's attention.
      model.forward(ids, cache, { poll });
      norms = valueNorms(model, cache, ids.length, poll);
      cache.truncate(0);
    }
    const explanations: Explanation[] = [];
    const allowed = new AllowedTokens(run, used.tokenizer, poll);
    for (let from = 0; from < steps.length; from += STEPS_AT_ONCE) {
      const some = steps.slice(from, from + STEPS_AT_ONCE);
      const positions = some.map((step) => promptLength + step - 1);
      const end = positions[positions.length - 1]! + 1;
      const captured = capture(model, ids.slice(cache.length, end), positions, cache, mean, poll);
      norms ??= valueNorms(model, cache, ids.length, poll);
      const apart = takeApart(run, used, some, captured, allowed, request);
      apart.forEach((explanation, i) => {
        const one = captured[i]!;
        explanation.inputs = tokenInputs(used, ids, explanation.token.token_id, one.position, {
          rollout: mean === null ? null : rollout(mean, one.position),
          valueWeighted: valueWeighted(one.weights, one.position + 1, norms!, ids.length),
        });
        poll();
      });
      explanations.push(...apart);
    }
    deleteInputs(run, used, cache, ids, explanations, request);
    for (const explanation of explanations) finish(explanation, run, used);
    return explanations;
  } finally {
    cache.free();
  }
}

/** A row for every token up to `position`, without its leave-one-out. */
function tokenInputs(
  used: RunModel,
  ids: readonly number[],
  chosen: number,
  position: number,
  shares: { rollout: Float64Array | null; valueWeighted: Float64Array },
): InputRow[] {
  const context = ids.slice(0, position + 1);
  const cosines = embeddingCosines(used.entry.model, context, chosen);
  return context.map((id, p) => ({
    unit: 'token',
    first_position: p,
    last_position: p,
    input: textOf(used.tokenizer, id),
    leave_one_out: null,
    rollout: shares.rollout?.[p] ?? null,
    value_weighted: shares.valueWeighted[p]!,
    cosine: cosines[p]!,
  }));
}

/** Candidates, components and lens of some steps. */
function takeApart(
  run: RecordedRun,
  used: RunModel,
  steps: readonly number[],
  captured: readonly Captured[],
  allowed: AllowedTokens,
  request: ExplainRequest,
): Explanation[] {
  const { model } = used.entry;
  const { tokenizer } = used;
  const { poll } = request;
  const { nLayers } = model.config;
  const parts = steps.map((step, i) => {
    const id = run.outputIds[step]!;
    const logits = model.unembed(captured[i]!.residuals[nLayers]!, poll).slice();
    const difference = proveReplay(run, used, step, logits[id]!);
    const history = [...run.promptIds, ...run.outputIds.slice(0, step)];
    const sampled = sampleAgain(run.sampler, logits, history, step, id, allowed.at(step));
    const other =
      request.versus !== null
        ? versusId(tokenizer, request.versus, logits)
        : distribution(logits, id, 2)
            .top.map((one) => one.id)
            .find((one) => one !== id)!;
    return { step, id, other, logit: logits[id]!, otherLogit: logits[other]!, difference, sampled };
  });
  const apart = componentsOf(
    model,
    parts.map(({ id, other }, i) => ({ captured: captured[i]!, ids: [id, other] })),
    poll,
  );
  return parts.map(({ step, id, other, logit, otherLogit, difference, sampled }, i): Explanation => {
    const lens = lensOf(model, captured[i]!, id, poll);
    const { components: own, logits: uncapped } = apart[i]!;
    const sum = own.reduce((total, { shares }) => total + shares[0]!, 0);
    const head = strongest(own, 'head');
    const ffn = strongest(own, 'ffn');
    const looked = strongestPosition(captured[i]!, head, model);
    return {
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
        runner_up_logit: otherLogit,
        runner_up_probability: Math.exp(otherLogit - logit + sampled.logprob),
        draw: sampled.draw,
        component_sum: sum,
        // A soft cap is no sum: there the logit before it is the one taken apart.
        residual: (model.config.logitSoftcap > 0 ? uncapped[0]! : logit) - sum,
        replay_difference: difference,
        choice_reproduced: sampled.reproduced,
        settled_layer: lens.find((row) => row.staysFirst)?.layer ?? null,
        top_head_layer: head.layer,
        top_head: head.head,
        top_head_contribution: head.shares[0]!,
        top_head_position: looked.position,
        top_head_weight: looked.weight,
        top_ffn_layer: ffn.layer,
        top_ffn_contribution: ffn.shares[0]!,
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
  });
}

function strongest(components: readonly Component[], kind: Component['kind']): Component {
  return components
    .filter((one) => one.kind === kind)
    .reduce((best, one) => (one.shares[0]! > best.shares[0]! ? one : best));
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

/** Where a head looked most. */
function strongestPosition(captured: Captured, head: Component, model: Model): { position: number; weight: number } {
  const row = headRow(captured, head.layer, head.head, model);
  const position = row.reduce((best, weight, p) => (weight > row[best]! ? p : best), 0);
  return { position, weight: row[position]! };
}

/** Leave-one-out of the prompt's units and its check, for all explanations at once. */
function deleteInputs(
  run: RecordedRun,
  used: RunModel,
  cache: KvCache,
  ids: readonly number[],
  explanations: readonly Explanation[],
  request: ExplainRequest,
): void {
  const prompt = run.promptIds.map((id): PromptToken => ({
    text: textOf(used.tokenizer, id),
    isControl: used.tokenizer.isControl(id),
  }));
  const units = unitsOf(prompt, request.inputs);
  if (units.length === 0) return;
  const asked = explanations.map(({ token }): Asked => ({
    position: run.promptIds.length + token.step - 1,
    id: token.token_id,
  }));
  const deletions = new Deletions(used.entry.model, ids, cache, request.poll);
  const without = leaveOneOut(deletions, units, asked);
  const checks = checkDeletions(
    deletions,
    units,
    asked,
    explanations.map(({ token }) => token.logprob),
    without,
  );
  explanations.forEach(({ token, inputs }, i) => {
    const influences = without.map((logprobs) => {
      const left = logprobs[i] ?? null;
      return left === null ? null : token.logprob - left;
    });
    units.forEach((unit, u) => {
      const influence = influences[u]!;
      if (request.inputs === 'tokens') inputs[unit.from]!.leave_one_out = influence;
      else inputs.push(unitRow(unit, UNIT_NAMES[request.inputs], influence, inputs, prompt));
      if (influence !== null && influence > (token.top_input_influence ?? -Infinity)) {
        token.top_input = textOfUnit(prompt, unit);
        token.top_input_influence = influence;
      }
    });
    const check = checks[i] ?? null;
    token.deleted_count = check?.count ?? null;
    token.deleted_top_lost = check?.topLost ?? null;
    token.deleted_random_lost = check?.randomLost ?? null;
  });
}

function textOfUnit(prompt: readonly PromptToken[], unit: Unit): string {
  return prompt
    .slice(unit.from, unit.to)
    .map((token) => token.text)
    .join('');
}

/** A span's row: shares of its tokens added up, the nearest of their embeddings. */
function unitRow(
  unit: Unit,
  name: string,
  influence: number | null,
  inputs: readonly InputRow[],
  prompt: readonly PromptToken[],
): InputRow {
  const tokens = inputs.slice(unit.from, unit.to);
  const sum = (of: (row: InputRow) => number): number => tokens.reduce((total, row) => total + of(row), 0);
  return {
    unit: name,
    first_position: unit.from,
    last_position: unit.to - 1,
    input: textOfUnit(prompt, unit),
    leave_one_out: influence,
    rollout: tokens.some((row) => row.rollout === null) ? null : sum((row) => row.rollout!),
    value_weighted: sum((row) => row.value_weighted),
    cosine: tokens.reduce<number | null>(
      (best, row) => (row.cosine !== null && row.cosine > (best ?? -Infinity) ? row.cosine : best),
      null,
    ),
  };
}

/** The most similar other token before it, and the summary. */
function finish({ token, inputs }: Explanation, run: RecordedRun, used: RunModel): void {
  const ids = [...run.promptIds, ...run.outputIds];
  const similar = inputs
    .filter(
      (row) =>
        row.unit === 'token' &&
        row.cosine !== null &&
        row.input.trim() !== '' &&
        ids[row.first_position] !== token.token_id &&
        !used.tokenizer.isControl(ids[row.first_position]!),
    )
    .reduce<InputRow | null>((best, row) => (best === null || row.cosine! > best.cosine! ? row : best), null);
  token.similar_token = similar?.input ?? null;
  token.similarity = similar?.cosine ?? null;
  token.summary = summarise({
    token: token.token,
    probability: token.probability,
    modelProbability: Math.exp(token.logprob),
    greedy: run.sampler.temperature === 0,
    similar: similar === null ? null : { token: similar.input, cosine: similar.cosine! },
    head: {
      layer: token.top_head_layer,
      head: token.top_head,
      position: token.top_head_position,
      weight: token.top_head_weight,
    },
    ffn: { layer: token.top_ffn_layer, contribution: token.top_ffn_contribution },
    runnerUp: {
      token: token.runner_up,
      probability: token.runner_up_probability,
      logitsBehind: token.logit - token.runner_up_logit,
    },
  });
}
