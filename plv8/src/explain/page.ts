/** Explanations of a whole run in as few characters as the HTML page can do with. */
import { TokenTexts } from './token-texts.ts';
import type { Explanation } from './explanation.ts';
import type { RecordedRun, RunModel } from './recorded-run.ts';
import type { CurveOrder } from './vocabulary-map.ts';
import { vocabularyMap } from './vocabulary-map.ts';

/** Candidates of a token that the page shows, beside the one that was written. */
const CANDIDATES = 10;
/** Heads and networks that the page compares. */
const PARTS = 14;

const rounded = (x: number, digits: number): number => Number(x.toFixed(digits));
/** Three digits of what is small; 1 and 0 only where it is. */
const share = (x: number): number =>
  x > 0.999 && x < 1 ? Math.min(rounded(x, 6), 0.999999) : Number(x.toPrecision(3));
/** Shares in long lists are whole thousandths, and tokens of the lens numbers of a list of texts. */
const thousandths = (x: number): number => Math.round(x * 1000);

/** `order` is that of the model's vocabulary on its map; null where it has none. */
export function pageOf(
  run: RecordedRun,
  used: RunModel,
  explanations: readonly Explanation[],
  order: CurveOrder | null,
): Record<string, unknown> {
  const { nLayers } = used.entry.model.config;
  const texts = new TokenTexts(used.tokenizer, [...run.promptIds, ...explanations.map(({ token }) => token.token_id)]);
  /** What a position adds to the text; of parts of characters also these, and which bytes. */
  const written = (at: number): { text: string; whole?: string; part?: string } => {
    const part = texts.partOf(at);
    return { text: texts.beginningIn(at), ...(part === null ? {} : { whole: texts.of(at), part }) };
  };
  const vocabulary = order === null ? null : vocabularyMap(order);
  const placeOf = (id: number): number | null => vocabulary?.placeOf(id) ?? null;
  const numbers = new Map<string, number>();
  const numberOf = (text: string): number => {
    const known = numbers.get(text) ?? numbers.size;
    numbers.set(text, known);
    return known;
  };
  const page = {
    run_id: run.id,
    model: run.modelName,
    digest: run.digest,
    layers: nLayers,
    temperature: run.sampler.temperature,
    map: vocabulary?.map ?? null,
    prompt: explanations[0]!.inputs.slice(0, run.promptIds.length).map(({ role, is_template }, p) => ({
      ...written(p),
      role,
      template: is_template,
      place: placeOf(run.promptIds[p]!),
    })),
    tokens: explanations.map(({ token, candidates, components, lens, inputs, edges }, step) => {
      const layerSum = (layer: number, kinds: readonly string[]): number =>
        components
          .filter((one) => one.layer === layer && kinds.includes(one.component))
          .reduce((sum, one) => sum + one.contribution, 0);
      const layers = Array.from({ length: nLayers }, (_, layer) => layer);
      const all = inputs.filter((row) => row.unit === 'token');
      const units = inputs.filter((row) => row.leave_one_out !== null);
      return {
        ...written(run.promptIds.length + step),
        place: placeOf(token.token_id),
        other: token.runner_up,
        p: share(Math.exp(token.logprob)),
        final: share(token.probability),
        logit: rounded(token.logit, 3),
        residual: token.residual,
        entropy: rounded(token.entropy, 3),
        settled: token.settled_layer,
        summary: token.summary,
        check:
          token.deleted_top_lost === null ? null : [share(token.deleted_top_lost), share(token.deleted_random_lost!)],
        candidates: candidates
          .filter((one, i) => i < CANDIDATES || one.chosen)
          .map((one) => [
            one.token,
            rounded(one.logit, 2),
            share(one.model_probability),
            share(one.probability),
            one.cut_by,
            one.chosen,
            one.rank,
            rounded(one.penalised_logit, 2),
            placeOf(one.token_id),
          ]),
        // Everything outside the layers, then attention and feed-forward network of each.
        outside: rounded(layerSum(-1, ['embedding', 'position']) + layerSum(nLayers, ['norm_bias']), 3),
        attention: layers.map((layer) => rounded(layerSum(layer, ['head', 'attention_bias']), 3)),
        ffn: layers.map((layer) => rounded(layerSum(layer, ['ffn', 'ffn_bias']), 3)),
        parts: components
          .filter((one) => one.component === 'head' || one.component === 'ffn')
          .map((one) => ({ ...one, difference: one.contribution - one.versus_contribution }))
          .sort((a, b) => Math.abs(b.difference) - Math.abs(a.difference))
          .slice(0, PARTS)
          .sort((a, b) => b.difference - a.difference)
          .map((one) => [one.layer, one.head, rounded(one.contribution, 3), rounded(one.difference, 3)]),
        edges: edges.map((one) => [one.layer, one.head, one.position, rounded(one.weight, 3)]),
        lens: lens.map((row) => [
          row.rank,
          thousandths(row.probability),
          ...row.top_tokens.map(numberOf),
          ...row.top_probabilities.map(thousandths),
        ]),
        rollout: all.some((row) => row.rollout === null) ? null : all.map((row) => thousandths(row.rollout!)),
        value: all.map((row) => thousandths(row.value_weighted)),
        inputs: units.map((row) => [row.first_position, row.last_position, rounded(row.leave_one_out!, 3)]),
      };
    }),
  };
  return { ...page, texts: [...numbers.keys()] };
}
