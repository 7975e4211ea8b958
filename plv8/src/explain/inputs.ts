/** Influence of what stood before a token: rows for every token, and deletions of the caller's words. */
import type { KvCache } from '../model/model.ts';
import { embeddingCosines } from './embedding-cosine.ts';
import type { Explanation, InputRow } from './explanation.ts';
import type { Asked, DeletionCheck } from './leave-one-out.ts';
import { checkDeletions, copyForDeletions, Deletions, leaveOneOut } from './leave-one-out.ts';
import type { RecordedRun, RunModel } from './recorded-run.ts';
import type { TokenTexts } from './token-texts.ts';
import { textOf } from './token-texts.ts';
import type { InputMode, PromptToken, Unit } from './units.ts';
import { halves, MAX_SPANS, quarters, unitsOf, wordsOf } from './units.ts';

const UNIT_NAMES: Record<InputMode, string> = {
  none: 'token',
  tokens: 'token',
  words: 'word',
  sentences: 'sentence',
  spans: 'span',
};

/** How often the part of a long prompt that costs most is cut in two. */
const HALVINGS = 5;
/** Of more tokens explained at once the check is left out, which deletes what each of them hangs on. */
const CHECKED_AT_ONCE = 8;

/** Whose words a token of the sequence is. */
interface Origin {
  role: string | null;
  message: number | null;
  is_template: boolean;
}

function originOf(run: RecordedRun, used: RunModel, position: number): Origin {
  const { promptIds, parts } = run;
  if (position >= promptIds.length) return { role: 'assistant', message: null, is_template: false };
  if (parts === null) {
    return { role: null, message: null, is_template: used.tokenizer.isControl(promptIds[position]!) };
  }
  const part = parts.find(({ from, to }) => position >= from && position < to);
  return { role: part?.role ?? null, message: part?.message ?? null, is_template: part === undefined };
}

/** A row for every token up to `position`, without its leave-one-out. */
export function tokenInputs(
  run: RecordedRun,
  used: RunModel,
  texts: TokenTexts,
  ids: readonly number[],
  chosen: number,
  shares: { rollout: Float64Array | null; valueWeighted: Float64Array },
): InputRow[] {
  const cosines = embeddingCosines(used.entry.model, ids, chosen);
  return ids.map((_, p) => ({
    unit: 'token',
    first_position: p,
    last_position: p,
    input: texts.of(p),
    leave_one_out: null,
    versus_leave_one_out: null,
    rollout: shares.rollout?.[p] ?? null,
    value_weighted: shares.valueWeighted[p]!,
    cosine: cosines[p]!,
    ...originOf(run, used, p),
  }));
}

/** The other token before it whose embedding is most similar; similarity, not cause. */
export function similarInput(
  inputs: readonly InputRow[],
  run: RecordedRun,
  used: RunModel,
  chosen: number,
): InputRow | null {
  const ids = [...run.promptIds, ...run.outputIds];
  return inputs
    .filter(
      (row) =>
        row.unit === 'token' &&
        row.cosine !== null &&
        row.input.trim() !== '' &&
        ids[row.first_position] !== chosen &&
        !used.tokenizer.isControl(ids[row.first_position]!),
    )
    .reduce<InputRow | null>((best, row) => (best === null || row.cosine! > best.cosine! ? row : best), null);
}

/** Neighbouring units that are deleted together. */
type Part = readonly Unit[];

/** Parts and (parts, asked) log-probabilities without each. */
interface Deleted {
  parts: readonly Part[];
  without: (number | null)[][];
}

/** Leave-one-out of the prompt's units and its check, for all explanations at once. */
export function deleteInputs(
  run: RecordedRun,
  used: RunModel,
  cache: KvCache,
  ids: readonly number[],
  explanations: readonly Explanation[],
  mode: InputMode,
  texts: TokenTexts,
  poll: () => void,
): void {
  const prompt = run.promptIds.map((id, position): PromptToken => ({
    text: textOf(used.tokenizer, id),
    isLeftOut: originOf(run, used, position).is_template || used.tokenizer.isControl(id),
  }));
  // Of each explanation its token and the one it is compared with.
  const asked = explanations.flatMap(({ token }): Asked[] => {
    const position = run.promptIds.length + token.step - 1;
    return [
      { position, id: token.token_id },
      { position, id: token.runner_up_id },
    ];
  });
  const whole = explanations.flatMap(({ token }) => [
    token.logprob,
    token.logprob + token.runner_up_logit - token.logit,
  ]);
  const own = asked.map((_, a) => a).filter((a) => a % 2 === 0);
  const units = mode === 'spans' ? wordsOf(prompt) : unitsOf(prompt, mode);
  if (units.length === 0) return;
  const { model } = used.entry;
  const copy = copyForDeletions(model, cache, poll);
  let found: Deleted;
  let checks: (DeletionCheck | null)[] = [];
  try {
    const deletions = new Deletions(model, ids, cache, poll, copy);
    found = mode === 'spans' ? spans(deletions, units, asked, whole) : each(deletions, units, asked);
    if (explanations.length <= CHECKED_AT_ONCE)
      checks = checkDeletions(
        deletions,
        found.parts,
        own.map((a) => asked[a]!),
        own.map((a) => whole[a]!),
        found.without.map((logprobs) => own.map((a) => logprobs[a]!)),
      );
  } finally {
    copy?.free();
  }
  const { parts, without } = found;
  const lost = (p: number, a: number): number | null => {
    const left = without[p]![a] ?? null;
    return left === null ? null : whole[a]! - left;
  };
  explanations.forEach(({ token, inputs }, i) => {
    parts.forEach((part, p) => {
      const { from } = part[0]!;
      const costs = { leave_one_out: lost(p, 2 * i), versus_leave_one_out: lost(p, 2 * i + 1) };
      const row = mode === 'tokens' ? inputs[from]! : partRow(part, UNIT_NAMES[mode], inputs, texts);
      Object.assign(row, costs);
      if (mode !== 'tokens') inputs.push(row);
      const influence = costs.leave_one_out;
      if (influence === null || prompt[from]!.isLeftOut || influence <= (token.top_input_influence ?? -Infinity))
        return;
      token.top_input = row.input;
      token.top_input_influence = influence;
    });
    const check = checks[i] ?? null;
    token.deleted_count = check?.count ?? null;
    token.deleted_top_lost = check?.topLost ?? null;
    token.deleted_random_lost = check?.randomLost ?? null;
  });
}

function each(deletions: Deletions, units: readonly Unit[], asked: readonly Asked[]): Deleted {
  return { parts: units.map((unit) => [unit]), without: leaveOneOut(deletions, units, asked) };
}

/**
 * Few words one by one. Of many the quarters, and then the halves of what costs most, again and again: so the words that
 * decide are found among any number in about as many deletions.
 */
function spans(
  deletions: Deletions,
  words: readonly Unit[],
  asked: readonly Asked[],
  whole: readonly number[],
): Deleted {
  if (words.length <= MAX_SPANS) return each(deletions, words, asked);
  const measured = (parts: readonly Part[]) => {
    const left = deletions.logprobs(parts.map((units) => ({ units, asked })));
    return parts.map((part, i) => {
      const without = left[i]!;
      const costs = without.map((logprob, a) =>
        logprob === null || a % 2 === 1 ? 0 : Math.max(0, whole[a]! - logprob),
      );
      return { part, without, cost: costs.reduce((sum, cost) => sum + cost, 0) };
    });
  };
  let found = measured(quarters(words));
  for (let halving = 0; halving < HALVINGS; halving++) {
    const most = found
      .filter(({ part }) => part.length > 1)
      .reduce<(typeof found)[number] | null>((best, one) => (best === null || one.cost > best.cost ? one : best), null);
    if (most === null) break;
    const [first, second] = measured(halves(most.part));
    found = found.flatMap((one) => (one === most ? [first!, second!] : [one]));
  }
  return { parts: found.map(({ part }) => part), without: found.map(({ without }) => without) };
}

/** A part's row, without its leave-one-out: shares of its tokens added up, the nearest of their embeddings. */
function partRow(part: Part, name: string, inputs: readonly InputRow[], texts: TokenTexts): InputRow {
  const [first, last] = [part[0]!.from, part[part.length - 1]!.to];
  const tokens = part.flatMap(({ from, to }) => inputs.slice(from, to));
  const sum = (of: (row: InputRow) => number): number => tokens.reduce((total, row) => total + of(row), 0);
  return {
    ...tokens[0]!,
    unit: name,
    last_position: last - 1,
    first_position: first,
    input: part.map(({ from, to }) => texts.of(from, to)).join(''),
    rollout: tokens.some((row) => row.rollout === null) ? null : sum((row) => row.rollout!),
    value_weighted: sum((row) => row.value_weighted),
    cosine: tokens.reduce<number | null>(
      (best, row) => (row.cosine !== null && row.cosine > (best ?? -Infinity) ? row.cosine : best),
      null,
    ),
  };
}
