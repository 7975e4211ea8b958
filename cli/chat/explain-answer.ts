import { explainQuestion } from '../explain/explain-question.ts';
import { findToken, parseQuestion } from '../explain/find-token.ts';
import { CommandError } from '../errors.ts';
import type { Repl } from './repl-state.ts';

const USAGE = `usage: /explain WORD, or /explain why did you say 'WORD'?`;

/** Explain why the latest answer has a word; of several places the first, the others are told. */
export async function explainAnswer({ backend, terminal, last }: Repl, question: string): Promise<void> {
  if (last === null) throw new CommandError('nothing was answered yet');
  if (last.run_id === undefined) {
    throw new CommandError('the latest answer was not recorded', { hint: '/set parameter record true' });
  }
  const { said, versus } = parseQuestion(question);
  if (said === null) throw new CommandError(USAGE);
  const run = last.run_id;
  await terminal.interruptible((signal) =>
    backend.request(signal, async () => {
      const matches = await findToken(backend.client, said, run);
      const first = matches[0]!;
      if (matches.length > 1) {
        terminal.tell(`said at steps ${matches.map(({ step }) => step).join(', ')}; this is step ${first.step}\n`);
      }
      const options = { run, step: first.step, signal, ...(versus === null ? {} : { versus }) };
      await explainQuestion(backend.client, question, options, 'text');
    }),
  );
}
