/** From a question like `why did you say 'well'?` to a token of a recorded run. */
import type pg from 'pg';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError, EXIT } from '../errors.ts';

/** Latest runs that are searched for the quoted words. */
const RUNS_SEARCHED = 200;
/** Characters shown on each side of a match. */
const CONTEXT = 24;

export interface Question {
  /** Words asked about; null where none are quoted. */
  said: string | null;
  /** Words they are compared with. */
  versus: string | null;
}

export interface Match {
  runId: number;
  step: number;
  /** The words with some text around them. */
  context: string;
}

/** Words between quotation marks: the first are asked about, the second ones after "not" compared with. */
export function parseQuestion(question: string): Question {
  // An apostrophe within a word neither opens nor closes a quotation.
  const quotation = /(?<![\p{L}\p{N}])(?:'(.+?)'|"(.+?)"|`(.+?)`|‘(.+?)’|“(.+?)”)(?![\p{L}\p{N}])/gu;
  const found = [...question.matchAll(quotation)].map((match) => ({
    at: match.index,
    words: match.slice(1).find((group) => group !== undefined) ?? '',
  }));
  const [first, second] = found;
  if (first === undefined) {
    const word = question.trim();
    return { said: word !== '' && !/\s/.test(word) ? word : null, versus: null };
  }
  const contrasted = second !== undefined && /\bnot\b/i.test(question.slice(first.at, second.at));
  return { said: first.words, versus: contrasted ? second.words : null };
}

interface WrittenToken {
  run_id: string;
  step: number;
  token: string;
}

/** Steps at which `words` begin in a run's tokens, whole words before parts of words. */
function matchesIn(tokens: readonly WrittenToken[], words: string): Match[] {
  const text = tokens.map((token) => token.token).join('');
  const starts: number[] = [];
  tokens.reduce((at, token) => {
    starts.push(at);
    return at + token.token.length;
  }, 0);
  const escaped = words.trim().replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  for (const pattern of [`(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`, escaped]) {
    const found = [...text.matchAll(new RegExp(pattern, 'giu'))];
    if (found.length === 0) continue;
    return found.map(({ index }) => {
      let at = starts.length - 1;
      while (starts[at]! > index) at--;
      const from = Math.max(0, index - CONTEXT);
      return {
        runId: Number(tokens[at]!.run_id),
        step: tokens[at]!.step,
        context: text.slice(from, index + words.length + CONTEXT).replaceAll('\n', ' '),
      };
    });
  }
  return [];
}

/** Where the caller's latest run that has them says the words; `runId` looks into that run only. Throws when none has. */
export async function findToken(client: pg.Client, words: string, runId: number | null): Promise<Match[]> {
  const { rows } = await client.query<WrittenToken>(
    `select run_id, step, token from hartonomous.run_token_list
     where not is_prompt and case when $1::bigint is null
       then run_id in (select id from hartonomous.run_list where caller = hartonomous._caller() order by id desc limit $2)
       else run_id = $1 end
     order by run_id desc, position`,
    [runId, RUNS_SEARCHED],
  );
  for (let from = 0; from < rows.length;) {
    const end = rows.findIndex((row, i) => i > from && row.run_id !== rows[from]!.run_id);
    const run = rows.slice(from, end < 0 ? rows.length : end);
    const matches = matchesIn(run, words);
    if (matches.length > 0) return matches;
    from += run.length;
  }
  const where = runId === null ? 'no recorded run of yours says' : `run ${runId} does not say`;
  throw new CommandError(`${where} '${brief(words)}'`, {
    hint: 'runs: hartonomous query "select id, created_at, model from hartonomous.run_list order by id desc limit 10"',
    exitCode: EXIT.failure,
  });
}
