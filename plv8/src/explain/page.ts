/** Explanations of a whole run in as few characters as the HTML page can do with. */
import { textOf } from './token-texts.ts';
import type { Explanation } from './explanation.ts';
import type { RecordedRun, RunModel } from './recorded-run.ts';

/** Candidates of a token that the page shows. */
const CANDIDATES = 10;

const rounded = (x: number, digits: number): number => Number(x.toFixed(digits));
const share = (x: number): number => rounded(x, 4);
/** Shares in long lists are whole thousandths, and tokens of the lens numbers of a list of texts. */
const thousandths = (x: number): number => Math.round(x * 1000);

export function pageOf(
  run: RecordedRun,
  used: RunModel,
  explanations: readonly Explanation[],
): Record<string, unknown> {
  const { tokenizer } = used;
  const { nLayers } = used.entry.model.config;
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
    prompt: run.promptIds.map((id) => ({ text: textOf(tokenizer, id), control: tokenizer.isControl(id) })),
    tokens: explanations.map(({ token, candidates, components, lens, inputs, edges }) => {
      const layerSum = (layer: number, kinds: readonly string[]): number =>
        components
          .filter((one) => one.layer === layer && kinds.includes(one.component))
          .reduce((sum, one) => sum + one.contribution, 0);
      const layers = Array.from({ length: nLayers }, (_, layer) => layer);
      const all = inputs.filter((row) => row.unit === 'token');
      const units = inputs.filter((row) => row.leave_one_out !== null);
      return {
        text: token.token,
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
          .slice(0, CANDIDATES)
          .map((one) => [
            one.token,
            rounded(one.logit, 2),
            share(one.model_probability),
            share(one.probability),
            one.cut_by,
            one.chosen,
          ]),
        // Everything outside the layers, then attention and feed-forward network of each.
        outside: rounded(layerSum(-1, ['embedding', 'position']) + layerSum(nLayers, ['norm_bias']), 3),
        attention: layers.map((layer) => rounded(layerSum(layer, ['head', 'attention_bias']), 3)),
        ffn: layers.map((layer) => rounded(layerSum(layer, ['ffn', 'ffn_bias']), 3)),
        heads: components
          .filter((one) => one.component === 'head')
          .sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution))
          .slice(0, CANDIDATES)
          .map((one) => [one.layer, one.head, rounded(one.contribution, 3)]),
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
