/** The conversation at a terminal: prompts in, answers out as they are written, slash commands between. */
import pg from 'pg';
import { visible } from '../../plv8/src/format/visible-text.ts';
import type { AnswerFacts, AnswerRequest, Backend } from '../answer/backend.ts';
import { AnswerCancelled } from '../answer/backend.ts';
import { formatRates } from '../answer/rates.ts';
import { CommandError } from '../errors.ts';
import { print, printJson, printText } from '../output.ts';
import type { Repl, ReplSettings } from './repl-state.ts';
import { runSlashCommand } from './slash-commands.ts';
import type { Terminal } from './terminal.ts';
import { WordWrap } from './word-wrap.ts';

const QUOTES = '"""';

/** Columns of a terminal that says it has 0. */
const UNKNOWN_WIDTH = 80;

/** Read and answer until the input ends or /bye. Errors of one prompt are told and do not end the conversation. */
export async function converse(repl: Repl): Promise<void> {
  const { terminal, conversation } = repl;
  if (terminal.interactive) terminal.tell(`${conversation.model} answers here; /? for help\n`);
  for (;;) {
    const input = await readPrompt(terminal);
    if (input === 'end') break;
    if (input === 'interrupt') {
      terminal.tell('use Ctrl-D or /bye to leave\n');
      continue;
    }
    if (input.trim() === '') continue;
    try {
      // What is pasted is a prompt, though it may begin with a path.
      if (input.startsWith('/') && (!input.includes('\n') || input.startsWith('/set system '))) {
        if ((await runSlashCommand(repl, input)) === 'leave') break;
      } else {
        await answerPrompt(repl, input);
      }
    } catch (error) {
      if (error instanceof AnswerCancelled) {
        terminal.tell('\n');
        continue;
      }
      if (!(error instanceof CommandError || error instanceof pg.DatabaseError)) throw error;
      const hint = error instanceof CommandError ? error.hint : (error.hint ?? error.detail);
      terminal.tell(`${error.message}${hint === undefined ? '' : ` (${hint})`}\n`);
      // FATAL: the server closed this connection; nothing more will come of it.
      if (error instanceof pg.DatabaseError && error.severity === 'FATAL') throw error;
    }
  }
  // Ctrl-D leaves the cursor behind the prompt.
  if (terminal.interactive) terminal.tell('\n');
}

/** One prompt: a line, or what stands between triple quotes. */
async function readPrompt(terminal: Terminal): Promise<string | 'end' | 'interrupt'> {
  const first = await terminal.read('>>> ');
  if (typeof first === 'string') return first;
  const start = first.line.indexOf(QUOTES);
  // `/set system """...` may go on over lines as well.
  if (start !== 0 && !(start > 0 && first.line.startsWith('/set system '))) return first.line;
  const before = first.line.slice(0, start);
  const lines = [first.line.slice(start + QUOTES.length)];
  while (!lines.at(-1)!.trimEnd().endsWith(QUOTES)) {
    const next = await terminal.read('... ');
    if (typeof next === 'string') return next;
    lines.push(next.line);
  }
  const text = lines.join('\n').trimEnd();
  return before + text.slice(0, text.length - QUOTES.length);
}

async function answerPrompt(repl: Repl, prompt: string): Promise<void> {
  const { conversation, settings, terminal } = repl;
  const facts = await terminal.interruptible((signal) =>
    writeAnswer(repl.backend, conversation.ask(prompt), settings, signal),
  );
  repl.last = facts;
  conversation.add(prompt, facts.text);
  if (settings.json) return;
  print('\n\n');
  if (settings.verbose) terminal.tell(`${formatRates(facts)}\n`);
}

/** Write an answer to standard output as it comes, wrapped where that is a terminal; its facts. */
export async function writeAnswer(
  backend: Backend,
  request: AnswerRequest,
  settings: Pick<ReplSettings, 'wordWrap' | 'json'>,
  signal: AbortSignal,
): Promise<AnswerFacts> {
  const { stdout } = process;
  const wrap = settings.wordWrap && stdout.isTTY ? new WordWrap(() => stdout.columns || UNKNOWN_WIDTH) : null;
  const tokens = backend.answer(request, signal);
  for (;;) {
    const next = await tokens.next();
    if (next.done === true) {
      if (settings.json) printJson(next.value);
      else if (wrap !== null) printText(wrap.flush());
      return next.value;
    }
    if (settings.json) continue;
    printText(wrap === null ? next.value.token : wrap.push(visible(next.value.token)));
  }
}
