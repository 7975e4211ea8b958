/** One explanation at the terminal: the token is found, explained in the database, and printed. */
import { createInterface } from 'node:readline/promises';
import type pg from 'pg';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError, EXIT } from '../errors.ts';
import type { Format } from '../output.ts';
import { print, printJson, printTable } from '../output.ts';
import type { Match } from './find-token.ts';
import { findToken, parseQuestion } from './find-token.ts';

export interface ExplainOptions {
  run?: number;
  step?: number;
  versus?: string;
  inputs?: string;
  /** Nothing more is asked of the database once it is aborted. */
  signal?: AbortSignal;
}

interface Explained {
  summary: string;
  checks: {
    residual: number;
    replay_difference: number | null;
    choice_reproduced: boolean;
    deletion: { inputs_deleted: number; probability_lost: number; probability_lost_at_random: number } | null;
  };
  settled_layer: number | null;
}

type Row = Record<string, unknown>;

/** Rows that a person is shown of a long table. */
const SHOWN = 5;

/** The token that question and options name. At a terminal several matches are asked about, else they are an error. */
export async function locate(client: pg.Client, question: string, options: ExplainOptions): Promise<Match> {
  const { said } = parseQuestion(question);
  if (options.run !== undefined && options.step !== undefined) {
    return { runId: options.run, step: options.step, context: '' };
  }
  if (options.run !== undefined) await requireRun(client, options.run);
  if (said === null) {
    throw new CommandError('nothing to explain: the question quotes no word', {
      hint: `ask as in: hartonomous explain "why did you say 'well'?", or name --run and --step`,
      exitCode: EXIT.usage,
    });
  }
  const matches = await findToken(client, said, options.run ?? null);
  const wanted = options.step === undefined ? matches : matches.filter((match) => match.step === options.step);
  if (wanted.length === 1) return wanted[0]!;
  const steps = matches.map((match) => match.step).join(', ');
  if (wanted.length === 0) {
    throw new CommandError(
      `run ${matches[0]!.runId} says '${brief(said)}' at steps ${brief(steps)}, not at step ${options.step}`,
      {
        exitCode: EXIT.usage,
      },
    );
  }
  if (process.stdin.isTTY !== true || process.stdout.isTTY !== true) {
    throw new CommandError(`run ${matches[0]!.runId} says '${brief(said)}' at steps ${brief(steps)}`, {
      hint: `name one: --run ${matches[0]!.runId} --step ${matches[0]!.step}`,
      exitCode: EXIT.usage,
    });
  }
  return chooseOne(wanted);
}

/** Throws where the caller sees no such run. */
async function requireRun(client: pg.Client, run: number): Promise<void> {
  const { rowCount } = await client.query('select from hartonomous.run_list where id = $1', [run]);
  if (rowCount === 0)
    throw new CommandError(`run ${run} does not exist`, { hint: 'runs you may see: hartonomous.run_list' });
}

async function chooseOne(matches: readonly Match[]): Promise<Match> {
  matches.forEach((match, i) => print(`${i + 1}. step ${match.step}: ...${match.context}...\n`));
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const answer = Number(await lines.question(`which one (1 to ${matches.length})? `));
    const chosen = matches[answer - 1];
    if (chosen === undefined) throw new CommandError('none was chosen', { exitCode: EXIT.usage });
    return chosen;
  } finally {
    lines.close();
  }
}

/** Explain and print. */
export async function explainQuestion(
  client: pg.Client,
  question: string,
  options: ExplainOptions,
  format: Format,
): Promise<void> {
  const { runId, step } = await locate(client, question, options);
  const versus = options.versus ?? parseQuestion(question).versus;
  const inputs = options.inputs ?? null;
  const ask = async (sql: string, values: unknown[]): Promise<Row[]> => {
    options.signal?.throwIfAborted();
    return (await client.query<Row>(sql, values)).rows;
  };
  const [explained] = await ask('select hartonomous.explain($1, $2, $3, $4) as answer', [runId, step, versus, inputs]);
  const answer = explained!.answer as Explained;
  const candidates = await ask('select * from hartonomous.explain_candidates($1, $2)', [runId, step]);
  const components = await ask('select * from hartonomous.explain_components($1, $2, $3)', [runId, step, versus]);
  const lens = await ask('select * from hartonomous.explain_lens($1, $2)', [runId, step]);
  const influences = await ask('select * from hartonomous.explain_inputs($1, $2, $3, versus => $4)', [
    runId,
    step,
    inputs,
    versus,
  ]);
  if (format === 'json') {
    printJson({ ...answer, candidates, components, lens, input_rows: influences });
    return;
  }
  print(`${answer.summary}\n\n`);
  const { deletion, residual } = answer.checks;
  const strongest = [...components].sort((a, b) => Math.abs(Number(b.contribution)) - Math.abs(Number(a.contribution)));
  const deleted = influences
    .filter((row) => row.leave_one_out !== null)
    .sort((a, b) => Number(b.leave_one_out) - Number(a.leave_one_out));
  printRows(candidates, {
    candidate: (row) => quoted(row.token),
    logit: (row) => fixed(row.logit, 2),
    model: (row) => fixed(row.model_probability, 4),
    final: (row) => fixed(row.probability, 4),
    cut: (row) => row.cut_by ?? (row.chosen === true ? 'chosen' : ''),
  });
  printRows(strongest, {
    component: (row) => named(row),
    contribution: (row) => signed(row.contribution),
    versus: (row) => signed(row.versus_contribution),
    difference: (row) => signed(row.difference),
  });
  printRows(
    deleted,
    {
      input: (row) => quoted(row.input),
      'leave-one-out': (row) => signed(row.leave_one_out),
      difference: (row) => signed(row.difference),
      rollout: (row) => fixed(row.rollout, 3),
      attention: (row) => fixed(row.value_weighted, 3),
      'similarity (no cause)': (row) => fixed(row.cosine, 2),
    },
    'input',
  );
  printRows(lens.slice(-SHOWN), {
    layer: (row) => row.layer,
    'would say': (row) => quoted((row.top_tokens as string[])[0]),
    rank: (row) => row.rank,
    probability: (row) => fixed(row.probability, 4),
  });
  const notes = [
    `run ${runId}, step ${step}; components sum to the logit within ${Math.abs(residual).toExponential(1)}`,
    ...(answer.settled_layer === null ? [] : [`first from layer ${answer.settled_layer} on`]),
    ...(deletion === null
      ? []
      : [
          `without the top ${deletion.inputs_deleted === 1 ? 'input' : `${deletion.inputs_deleted} inputs`} the probability falls by ${fixed(deletion.probability_lost, 4)}, without as many others by ${fixed(deletion.probability_lost_at_random, 4)}`,
        ]),
    ...(answer.checks.choice_reproduced ? [] : ['the sampler would choose another token today']),
  ];
  print(`${notes.join('\n')}\n`);
}

function printRows(rows: readonly Row[], columns: Record<string, (row: Row) => unknown>, shortened?: string): void {
  if (rows.length === 0) return;
  const shown = rows
    .slice(0, SHOWN)
    .map((row) => Object.fromEntries(Object.entries(columns).map(([name, of]) => [name, of(row)])));
  printTable(Object.keys(columns), shown, shortened === undefined ? {} : { shortened });
  print('\n');
}

function quoted(value: unknown): string {
  return `'${String(value).replaceAll('\n', '\\n')}'`;
}

function fixed(value: unknown, digits: number): string {
  return value === null || value === undefined ? '' : Number(value).toFixed(digits);
}

function signed(value: unknown): string {
  if (value === null || value === undefined) return '';
  return `${Number(value) < 0 ? '' : '+'}${Number(value).toFixed(2)}`;
}

function named(row: Row): string {
  if (row.component === 'head') return `layer ${String(row.layer)}, head ${String(row.head)}`;
  return row.component === 'ffn' ? `layer ${String(row.layer)}, FFN` : String(row.component).replaceAll('_', ' ');
}
