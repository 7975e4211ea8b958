/** How long an answer took, in the lines of `ollama run --verbose`. */
import type { AnswerFacts } from './backend.ts';

const NS_PER_SECOND = 1e9;

function rounded(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** Nanoseconds as 1.5s, 130.2ms or 2m3.5s. */
export function formatDuration(ns: number): string {
  if (ns < 1e3) return `${ns}ns`;
  if (ns < 1e6) return `${rounded(ns / 1e3)}µs`;
  if (ns < NS_PER_SECOND) return `${rounded(ns / 1e6)}ms`;
  const seconds = ns / NS_PER_SECOND;
  if (seconds < 60) return `${rounded(seconds)}s`;
  return `${Math.floor(seconds / 60)}m${rounded(seconds % 60)}s`;
}

function rate(tokens: number, ns: number): string {
  return ns > 0 ? `${((tokens * NS_PER_SECOND) / ns).toFixed(2)} tokens/s` : 'too fast to tell';
}

/** Eight lines, as ollama prints them. */
export function formatRates(facts: AnswerFacts): string {
  return [
    ['total duration:', formatDuration(facts.total_duration)],
    ['load duration:', formatDuration(facts.load_duration)],
    ['prompt eval count:', `${facts.prompt_eval_count} token(s)`],
    ['prompt eval duration:', formatDuration(facts.prompt_eval_duration)],
    ['prompt eval rate:', rate(facts.prompt_eval_count, facts.prompt_eval_duration)],
    ['eval count:', `${facts.eval_count} token(s)`],
    ['eval duration:', formatDuration(facts.eval_duration)],
    ['eval rate:', rate(facts.eval_count, facts.eval_duration)],
  ]
    .map(([name, value]) => `${name!.padEnd(21)} ${value}\n`)
    .join('');
}
