import { join } from 'node:path';
import { text as readAll } from 'node:stream/consumers';
import type { Command } from 'commander';
import type pg from 'pg';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { AnswerCancelled, Backend } from '../answer/backend.ts';
import { formatRates } from '../answer/rates.ts';
import { Conversation, dataFolder, savedConversation } from '../chat/conversation.ts';
import { converse, writeAnswer } from '../chat/repl.ts';
import type { ReplSettings } from '../chat/repl-state.ts';
import { modelDetails } from '../chat/slash-commands.ts';
import { Terminal } from '../chat/terminal.ts';
import { withClient } from '../cluster/connect.ts';
import { EXIT_INTERRUPTED } from '../cluster/interrupt.ts';
import { CommandError } from '../errors.ts';
import type { GlobalOptions } from './globals.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';
import { print, tell } from '../output.ts';

interface RunOptions {
  temperature?: string;
  numPredict?: string;
  seed?: string;
  raw?: boolean;
  system?: string;
  verbose?: boolean;
  nowordwrap?: boolean;
}

function numberOption(name: string, value: string | undefined): Record<string, number> {
  if (value === undefined) return {};
  const number = value.trim() === '' ? NaN : Number(value);
  if (!Number.isFinite(number))
    throw new CommandError(`option --${name.replace('_', '-')} must be a number, got ${brief(value)}`, { exitCode: 2 });
  return { [name]: number };
}

function sqlOptions(options: RunOptions): Record<string, unknown> {
  return {
    ...numberOption('temperature', options.temperature),
    ...numberOption('num_predict', options.numPredict),
    ...numberOption('seed', options.seed),
    ...(options.raw === true ? { raw: true } : {}),
  };
}

function settingsOf(options: RunOptions, globals: GlobalOptions): ReplSettings {
  return {
    verbose: options.verbose === true,
    wordWrap: options.nowordwrap !== true,
    json: globals.format === 'json',
  };
}

async function conversationWith(
  client: pg.Client,
  backend: Backend,
  name: string | undefined,
  options: RunOptions,
): Promise<Conversation> {
  const saved = name === undefined ? null : savedConversation(name);
  const { rows } = await client.query<{ name: string | null; there: boolean }>(
    `select hartonomous.default_model() as name, exists (select from hartonomous.model_list where name = $1) as there`,
    [name ?? null],
  );
  const { name: chosen, there } = rows[0]!;
  // A model goes before a conversation of the same name.
  const resumed = there ? null : saved;
  const model = resumed?.model ?? name ?? chosen;
  if (model === null) {
    throw new CommandError('no model named and no default set', { hint: 'see: hartonomous list, hartonomous default' });
  }
  const details = await modelDetails({ backend }, model);
  const conversation = new Conversation(model, details.chat_template !== null && options.raw !== true);
  if (!conversation.hasTemplate && options.raw !== true)
    tell(`${model} has no chat template: it continues a text and does not answer\n`);
  conversation.messages = resumed?.messages ?? [];
  conversation.system = options.system ?? resumed?.system ?? null;
  conversation.options = { ...resumed?.options, ...sqlOptions(options) };
  return conversation;
}

/** Answer one prompt on standard output; Ctrl-C stops it and is the exit code. */
async function answerOnce(
  backend: Backend,
  conversation: Conversation,
  prompt: string,
  settings: ReplSettings,
): Promise<void> {
  const controller = new AbortController();
  const onInterrupt = (): void => {
    if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED);
    controller.abort();
  };
  process.on('SIGINT', onInterrupt);
  try {
    const facts = await writeAnswer(backend, conversation.ask(prompt), settings, controller.signal);
    if (!settings.json) print('\n');
    if (settings.verbose) tell(`\n${formatRates(facts)}`);
    if (controller.signal.aborted) throw new AnswerCancelled();
  } catch (cause) {
    if (!(cause instanceof AnswerCancelled)) throw cause;
    throw new CommandError('interrupted', { exitCode: EXIT_INTERRUPTED, cause });
  } finally {
    process.off('SIGINT', onInterrupt);
  }
}

/** Converse at the terminal, or line by line with what is piped in. */
async function chat(model: string | undefined, options: RunOptions, globals: GlobalOptions): Promise<void> {
  await withClient(globals, async (client) => {
    await requireInstalled(client);
    const backend = await Backend.over(client, globals);
    const conversation = await conversationWith(client, backend, model, options);
    const terminal = new Terminal(join(dataFolder(), 'history'));
    try {
      await converse({ backend, terminal, conversation, settings: settingsOf(options, globals), last: null });
    } finally {
      terminal.close();
    }
  });
}

function withOptions(command: Command): Command {
  return command
    .option('--temperature <number>', '0 for the most likely answer')
    .option('--num-predict <number>', 'most tokens to write')
    .option('--seed <number>', 'seed of the draws')
    .option('--raw', 'continue the text instead of answering it as a chat turn')
    .option('--system <text>', 'system message')
    .option('--verbose', 'show rates after the answer')
    .option('--nowordwrap', 'do not break lines between words');
}

/** `run MODEL [PROMPT]` and `chat [MODEL]`: one answer, or a conversation. */
export function registerRun(program: Command): void {
  withOptions(
    program.command('run <model> [prompt...]').description('ask a model; reads standard input when it is piped in'),
  ).action(async (model: string, words: string[], options: RunOptions, command: Command) => {
    const globals = globalsOf(command);
    const piped = process.stdin.isTTY === true ? '' : await readAll(process.stdin);
    const prompt = [words.join(' '), piped.replace(/\n$/, '')].filter((part) => part !== '').join('\n\n');
    if (prompt === '' && process.stdin.isTTY === true) return chat(model, options, globals);
    if (prompt === '') throw new CommandError('no prompt given and standard input is empty', { exitCode: 2 });
    await withClient(globals, async (client) => {
      await requireInstalled(client);
      const backend = await Backend.over(client, globals);
      const conversation = await conversationWith(client, backend, model, options);
      await answerOnce(backend, conversation, prompt, settingsOf(options, globals));
    });
  });
  withOptions(
    program
      .command('chat [model]')
      .description('converse with a model, or go on with a saved conversation; /? at the prompt tells the commands'),
  ).action(async (model: string | undefined, options: RunOptions, command: Command) => {
    await chat(model, options, globalsOf(command));
  });
}
