/** explain, explain_candidates, explain_components, explain_lens, explain_inputs and explain_attention. */
import { logEvent, poll, returnNext } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { attentionOf } from '../explain/attention-edges.ts';
import type { ExplainRequest } from '../explain/explain.ts';
import { checkStep, explainSteps } from '../explain/explain.ts';
import type { ExplainedToken, Explanation } from '../explain/explanation.ts';
import { pageOf } from '../explain/page.ts';
import type { RecordedRun, RunModel } from '../explain/recorded-run.ts';
import { modelOf, readRun } from '../explain/recorded-run.ts';
import { describeExplained } from '../explain/report.ts';
import {
  readAttention,
  readCandidates,
  readComponents,
  readExplained,
  readInputs,
  readLens,
  storeAttention,
  storeExplanation,
} from '../explain/store.ts';
import { TokenTexts } from '../explain/token-texts.ts';
import type { InputMode } from '../explain/units.ts';
import { INPUT_MODES } from '../explain/units.ts';
import { curveOrder } from '../explain/vocabulary-map.ts';
import { mayWrite } from '../backend/caller.ts';
import { nanoseconds } from '../backend/durations.ts';
import { brief } from '../format/visible-text.ts';

type Id = number | bigint | null;

/** Attention weights below this are not written into connections. */
const LEAST_STORED_WEIGHT = 0.01;

function inputMode(given: string | null): InputMode | null {
  if (given === null) return null;
  return (
    INPUT_MODES.find((mode) => mode === given) ??
    raise(SQLSTATE.invalidParameterValue, `inputs must be one of ${INPUT_MODES.join(', ')}, got ${brief(given)}`)
  );
}

interface Wanted {
  versus?: string | null;
  /** Null for whatever is stored, else spans. */
  inputs?: string | null;
  /** Used where nothing is stored and `inputs` is null. */
  otherwise?: InputMode;
  refresh?: boolean;
}

type Found = { run: RecordedRun; stored: ExplainedToken | null; computed: Explanation | null };

/** explainSteps, of which the server log is told. */
function computeSteps(run: RecordedRun, used: RunModel, request: ExplainRequest): Explanation[] {
  const started = Date.now();
  const explanations = explainSteps(run, used, request);
  logEvent('explain', {
    model: used.entry.description.name,
    run_id: run.id,
    steps: request.steps.length,
    inputs: request.inputs,
    duration: nanoseconds(Date.now() - started),
  });
  return explanations;
}

/** What is stored of a step if it answers the question, else the explanation computed anew, and stored where that may be. */
function find(runId: Id, step: number | null, wanted: Wanted): Found | null {
  if (runId === null || step === null) return null;
  const mode = inputMode(wanted.inputs ?? null);
  const versus = wanted.versus ?? null;
  const run = readRun(Number(runId));
  checkStep(run, step);
  const stored = readExplained(run.id, step);
  // Where nobody names them, what was explained without inputs answers only those who need none.
  const kept = stored?.inputs === 'none' ? (wanted.otherwise ?? 'spans') : stored?.inputs;
  const inputs = mode ?? kept ?? wanted.otherwise ?? 'spans';
  if (stored !== null && versus === null && wanted.refresh !== true && inputs === stored.inputs) {
    return { run, stored, computed: null };
  }
  const [computed] = computeSteps(run, modelOf(run), { steps: [step], inputs, versus, poll });
  // What is stored is always against the runner-up.
  if (versus === null && mayWrite()) storeExplanation(computed!);
  return { run, stored: null, computed: computed! };
}

export function explain(
  runId: Id,
  step: number | null,
  versus: string | null,
  inputs: string | null,
  refresh: boolean | null,
): Record<string, unknown> | null {
  const found = find(runId, step, { versus, inputs, refresh: refresh === true });
  if (found === null) return null;
  return describeExplained(found.run, found.computed?.token ?? found.stored!);
}

export function explainCandidates(runId: Id, step: number | null): void {
  const found = find(runId, step, { otherwise: 'none' });
  if (found === null) return;
  for (const row of found.computed?.candidates ?? readCandidates(found.run.id, step!)) returnNext(row);
}

export function explainComponents(runId: Id, step: number | null, versus: string | null): void {
  const found = find(runId, step, { versus, otherwise: 'none' });
  if (found === null) return;
  const { residual } = found.computed?.token ?? found.stored!;
  for (const row of found.computed?.components ?? readComponents(found.run.id, step!)) {
    returnNext({ ...row, difference: row.contribution - row.versus_contribution, residual });
  }
}

export function explainLens(runId: Id, step: number | null): void {
  const found = find(runId, step, { otherwise: 'none' });
  if (found === null) return;
  for (const row of found.computed?.lens ?? readLens(found.run.id, step!)) returnNext(row);
}

export function explainInputs(
  runId: Id,
  step: number | null,
  inputs: string | null,
  withTemplate: boolean | null,
  versus: string | null,
): void {
  const found = find(runId, step, { inputs, versus });
  if (found === null) return;
  for (const row of found.computed?.inputs ?? readInputs(found.run.id, step!)) {
    if (row.is_template && withTemplate !== true && inputs !== 'tokens') continue;
    const { leave_one_out: own, versus_leave_one_out: others } = row;
    returnNext({ ...row, difference: own === null || others === null ? null : own - others });
  }
}

export function explainAttention(runId: Id, step: number | null, minWeight: number | null): void {
  if (runId === null || step === null) return;
  const least = minWeight ?? LEAST_STORED_WEIGHT;
  const run = readRun(Number(runId));
  checkStep(run, step);
  const ids = [...run.promptIds, ...run.outputIds.slice(0, step)];
  let edges = least >= LEAST_STORED_WEIGHT ? readAttention(run.id, step) : [];
  const used = modelOf(run);
  if (edges.length === 0) {
    edges = attentionOf(run, used, step, Math.min(least, LEAST_STORED_WEIGHT), poll);
    if (mayWrite()) {
      const kept = edges.filter(({ weight }) => weight >= LEAST_STORED_WEIGHT);
      storeAttention(run, step, ids.length - 1, ids, kept);
    }
  }
  const texts = new TokenTexts(used.tokenizer, ids);
  for (const { layer, head, position, weight } of edges) {
    if (weight < least) continue;
    returnNext({
      layer,
      head,
      from_position: ids.length - 1,
      to_position: position,
      from_token: texts.of(ids.length - 1),
      to_token: texts.of(position),
      weight,
    });
  }
}

/** Every token of a run explained, in the form the HTML page takes; stored as explain does. */
export function explainPage(runId: Id, inputs: string | null): Record<string, unknown> | null {
  if (runId === null) return null;
  const run = readRun(Number(runId));
  checkStep(run, 0);
  const used = modelOf(run);
  const steps = run.outputIds.map((_, step) => step);
  const explanations = computeSteps(run, used, { steps, inputs: inputMode(inputs) ?? 'spans', versus: null, poll });
  if (mayWrite()) {
    for (const explanation of explanations) {
      storeExplanation(explanation);
      poll();
    }
  }
  return pageOf(run, used, explanations, curveOrder(used.entry.description.id));
}
