import { createInterface } from 'node:readline/promises';
import { text as readAll } from 'node:stream/consumers';
import type { Command } from 'commander';
import type pg from 'pg';
import { withClient } from '../cluster/connect.ts';
import { EXIT_INTERRUPTED, interruptible } from '../cluster/interrupt.ts';
import { CommandError } from '../errors.ts';
import { printJson } from '../output.ts';
import { globalsOf } from './globals.ts';

interface RunOptions {
  temperature?: string;
  numPredict?: string;
  seed?: string;
  raw?: boolean;
}

interface Completion {
  text: string;
  done_reason: string;
}

function numberOption(name: string, value: string | undefined): Record<string, number> {
  if (value === undefined) return {};
  const number = value.trim() === '' ? NaN : Number(value);
  if (!Number.isFinite(number))
    throw new CommandError(`option --${name.replace('_', '-')} must be a number, got ${value}`, { exitCode: 2 });
  return { [name]: number };
}

function sqlOptions(options: RunOptions): Record<string, unknown> {
  return {
    record: true,
    ...numberOption('temperature', options.temperature),
    ...numberOption('num_predict', options.numPredict),
    ...numberOption('seed', options.seed),
    ...(options.raw === true ? { raw: true } : {}),
  };
}

async function complete(client: pg.Client, model: string, prompt: string, options: RunOptions): Promise<Completion> {
  const { rows } = await client.query<{ answer: Completion }>('select hartonomous.complete($1, $2, $3) as answer', [
    prompt,
    model,
    JSON.stringify(sqlOptions(options)),
  ]);
  return rows[0]!.answer;
}

/** `run MODEL [PROMPT]`: one answer; without a prompt what is piped in, or at a terminal a prompt after another. */
export function registerRun(program: Command): void {
  program
    .command('run <model> [prompt...]')
    .description('ask a model; reads standard input when it is piped in')
    .option('--temperature <number>', '0 for the most likely answer')
    .option('--num-predict <number>', 'most tokens to write')
    .option('--seed <number>', 'seed of the draws')
    .option('--raw', 'continue the text instead of answering it as a chat turn')
    .action(async (model: string, words: string[], options: RunOptions, command: Command) => {
      const globals = globalsOf(command);
      const piped = process.stdin.isTTY === true ? '' : await readAll(process.stdin);
      const prompt = [words.join(' '), piped.replace(/\n$/, '')].filter((part) => part !== '').join('\n\n');
      await withClient(globals, async (client) => {
        if (prompt !== '') {
          const answer = await interruptible(client, globals, () => complete(client, model, prompt, options));
          if (globals.format === 'json') printJson(answer);
          else process.stdout.write(`${answer.text}\n`);
          return;
        }
        if (process.stdin.isTTY !== true)
          throw new CommandError('no prompt given and standard input is empty', { exitCode: 2 });
        const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: '>>> ' });
        // At the prompt Ctrl-C clears the line; while the model writes it stops the answer.
        let asking = false;
        lines.on('SIGINT', () => {
          if (asking) {
            process.emit('SIGINT');
          } else {
            process.stdout.write('\nuse /bye to leave\n');
            lines.prompt();
          }
        });
        lines.prompt();
        for await (const line of lines) {
          const question = line.trim();
          if (question === '/bye') break;
          if (question !== '') {
            asking = true;
            try {
              const answer = await interruptible(client, globals, () => complete(client, model, question, options));
              process.stdout.write(`${answer.text}\n\n`);
            } catch (error) {
              if (!(error instanceof CommandError && error.exitCode === EXIT_INTERRUPTED)) throw error;
              process.stdout.write('\n');
            } finally {
              asking = false;
            }
          }
          lines.prompt();
        }
        lines.close();
      });
    });
}
