/** The short text a person reads: what is known to have caused a token, and nothing else. */
import { visible } from '../format/visible-text.ts';

/** Tokens that stood before the chosen one, and the likeliest of them with the probability that the model gave it. */
export interface NamedAhead {
  count: number;
  first: { token: string; probability: number };
}

export interface SummaryFacts {
  token: string;
  /** Which bytes of the character it is; null for whole characters. */
  part: string | null;
  /** It ends the answer and is no text. */
  endsAnswer: boolean;
  /** Final probability, after the sampler. */
  probability: number;
  /** Before it. */
  modelProbability: number;
  /** The label that it is of, and the share of its likelihood, where classify chose whole labels. */
  labels: { label: string; probability: number; count: number } | null;
  /** Temperature 0: the highest logit is taken. */
  greedy: boolean;
  /** The sampler chooses it again today. */
  reproduced: boolean;
  constraint: { name: string; allowed: number; forbidden: NamedAhead | null } | null;
  /** The likeliest of the tokens that fell behind it by these settings, which raised its logit or lowered the other's. */
  overtaken: (NamedAhead & { by: string; raised: boolean; from: number; to: number }) | null;
  /** Likelier tokens on which the draw did not fall. */
  passedOver: NamedAhead | null;
  draw: number | null;
  input: { text: string; cost: number } | null;
  head: { layer: number; head: number; position: number; attended: string; weight: number; cost: number } | null;
  ffn: { layer: number; difference: number; cost: number } | null;
  /** The layer from which it stays first, and the last one; null where it never does. */
  settled: { layer: number; last: number } | null;
  /** The token that it is compared with: that of the caller, else the runner-up. */
  other: {
    token: string;
    probability: number;
    versus: boolean;
    /** False where the constraint left no other. */
    allowed: boolean;
    /** Null where the sampler's trace does not say. */
    final: number | null;
    cutBy: string | null;
    /** Logits after bias and penalties. */
    behind: number;
    penalised: boolean;
  };
  /** What the caller got of it where a stop string cut it; null for all. */
  shown: string | null;
  /** What ended the answer with this token; null where it goes on. */
  ending: string | null;
}

/** Nats that leaving something out has to cost to be called a cause. */
export const LEAST_COST = 0.005;

/** A text between quotation marks, with its blanks. */
function quoted(text: string): string {
  return `'${visible(text).replaceAll('\n', '\\n').replaceAll('\t', '\\t')}'`;
}

/** Two digits after the point, or two significant ones where that would be nought; no 1.00 that is less. */
function chance(p: number): string {
  if (p >= 0.995 && p < 1) return '> 0.99';
  return p >= 0.005 || p === 0 ? p.toFixed(2) : p.toPrecision(2);
}

const signed = (x: number): string => `${x < 0 ? '' : '+'}${x.toFixed(1)}`;

const without = (what: string, cost: number): string => `without ${what} ${cost.toFixed(2)} nats less likely`;

function named({ count, first }: NamedAhead): string {
  const likeliest = `${quoted(first.token)} (${chance(first.probability)})`;
  return count === 1 ? `the likelier ${likeliest}` : `${count} likelier tokens, first ${likeliest}`;
}

/** What the sampler did that made another token of it than the model's logits alone would have. */
function samplerCauses({ labels, constraint, overtaken, passedOver, draw }: SummaryFacts): string[] {
  const lines: string[] = [];
  if (labels !== null) {
    const { label, probability, count } = labels;
    lines.push(`its label ${quoted(label)}, the likeliest of ${count} as a whole (${chance(probability)})`);
  }
  if (constraint !== null && constraint.forbidden !== null) {
    lines.push(`the constraint (${constraint.name}), which forbade ${named(constraint.forbidden)}`);
  }
  if (overtaken !== null) {
    const { by, raised, from, to } = overtaken;
    const moved = `${raised ? 'it rose' : 'that fell'} from ${from.toFixed(1)} to ${to.toFixed(1)} logit`;
    lines.push(`${by}, which put it before ${named(overtaken)}: ${moved}`);
  }
  if (passedOver !== null && draw !== null)
    lines.push(`the draw (${draw.toFixed(4)}), which passed over ${named(passedOver)}`);
  return lines;
}

function causes(facts: SummaryFacts): string[] {
  const { constraint, input, head, ffn, other } = facts;
  const bySampler = samplerCauses(facts);
  // Where nothing else was allowed, nothing else can have decided.
  if (constraint?.allowed === 1) {
    return bySampler.length > 0 ? bySampler : [`the constraint (${constraint.name}), which allowed no other token`];
  }
  return [
    ...bySampler,
    ...(input === null ? [] : [`the words ${quoted(input.text)} (${without('them', input.cost)})`]),
    ...(head === null
      ? []
      : [
          `attention from position ${head.position} ${quoted(head.attended)} (layer ${head.layer}, head ${head.head}, ${head.weight.toFixed(2)}; ${without('it', head.cost)})`,
        ]),
    ...(ffn === null
      ? []
      : [
          `FFN contribution (layer ${ffn.layer}, ${signed(ffn.difference)} logit over ${quoted(other.token)}; ${without('it', ffn.cost)})`,
        ]),
  ];
}

function otherLine({ other, greedy }: SummaryFacts): string {
  const name = other.versus ? 'Versus' : 'Runner-up';
  if (!other.allowed) return `${name}: none was allowed`;
  const { final, cutBy, behind } = other;
  const end = cutBy !== null ? `cut by ${cutBy}, ` : greedy || final === null ? '' : `${chance(final)}, `;
  const apart = behind >= 0 ? `${behind.toFixed(1)} logit behind` : `${(-behind).toFixed(1)} logit ahead of it`;
  return `${name}: ${quoted(other.token)} (${end}${chance(other.probability)} by the model), ${apart}${other.penalised ? ' after penalties' : ''}`;
}

export function summarise(facts: SummaryFacts): string {
  const { token, part, settled, shown, ending } = facts;
  const lines = causes(facts);
  const what = `${facts.endsAnswer ? 'End of the answer' : 'Token'} ${quoted(token)}${part === null ? '' : ` (${part})`}`;
  return [
    lines.length === 0 ? `${what}: no single word, head or FFN decided it` : `${what} selected via:`,
    ...lines.map((line, i) => `${i + 1}. ${line}`),
    ...(settled === null ? [] : [`Settled: first from layer ${settled.layer} of 0 to ${settled.last} on`]),
    `Final probability: ${chance(facts.probability)} (${chance(facts.modelProbability)} by the model${facts.greedy ? ', temperature 0' : ''})`,
    otherLine(facts),
    ...(ending === null ? [] : [`The answer ended with it: ${ending}`]),
    ...(shown === null
      ? []
      : [shown === '' ? 'The caller got nothing of it' : `The caller got ${quoted(shown)} of it`]),
    ...(facts.reproduced
      ? []
      : ['The sampler would choose another token today, so what it did to this one is not told']),
  ].join('\n');
}
