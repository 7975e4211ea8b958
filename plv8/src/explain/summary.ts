/** The short text a person reads. */

export interface SummaryFacts {
  token: string;
  /** Final probability, after the sampler. */
  probability: number;
  /** Before it. */
  modelProbability: number;
  /** Sampling took the highest logit. */
  greedy: boolean;
  similar: { token: string; cosine: number } | null;
  head: { layer: number; head: number; position: number; weight: number };
  ffn: { layer: number; contribution: number };
  runnerUp: { token: string; probability: number; logitsBehind: number };
}

/** A token between quotation marks: without the blank that most words begin with. */
export function quoted(token: string): string {
  const trimmed = token.trim();
  return `'${(trimmed === '' ? token : trimmed).replaceAll('\n', '\\n')}'`;
}

/** Two digits after the point, or two significant ones where that would be nought. */
const chance = (p: number): string => (p >= 0.005 || p === 0 ? p.toFixed(2) : p.toPrecision(2));

const signed = (x: number): string => `${x < 0 ? '' : '+'}${x.toFixed(1)}`;

export function summarise(facts: SummaryFacts): string {
  const { similar, head, ffn, runnerUp } = facts;
  const lines = [
    ...(similar === null ? [] : [`embedding similarity to ${quoted(similar.token)} (${similar.cosine.toFixed(2)})`]),
    `attention from position ${head.position} (layer ${head.layer}, head ${head.head}, ${head.weight.toFixed(2)})`,
    `FFN contribution (layer ${ffn.layer}, ${signed(ffn.contribution)} logit)`,
  ];
  const behind =
    runnerUp.logitsBehind >= 0
      ? `${runnerUp.logitsBehind.toFixed(1)} logit behind`
      : `${(-runnerUp.logitsBehind).toFixed(1)} logit ahead of it`;
  return [
    `Token ${quoted(facts.token)} selected via:`,
    ...lines.map((line, i) => `${i + 1}. ${line}`),
    facts.greedy
      ? `Final probability: ${chance(facts.modelProbability)} (the most likely token was taken)`
      : `Final probability: ${chance(facts.probability)} (${chance(facts.modelProbability)} before sampling)`,
    `Runner-up: ${quoted(runnerUp.token)} (${chance(runnerUp.probability)}), ${behind}`,
  ].join('\n');
}
