import type { Command } from 'commander';
import { Option } from 'commander';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { requireInstalled } from './installed.ts';
import { withClient } from '../cluster/connect.ts';
import { interruptible } from '../cluster/interrupt.ts';
import { CommandError, EXIT } from '../errors.ts';
import { explainQuestion, locate } from '../explain/explain-question.ts';
import type { ExplainOptions } from '../explain/explain-question.ts';
import { writePage } from '../explain/write-page.ts';
import { globalsOf } from './globals.ts';
import { print } from '../output.ts';

interface Given {
  run?: string;
  step?: string;
  versus?: string;
  inputs?: string;
  html?: string;
}

function wholeNumber(name: string, text: string | undefined): Record<string, number> {
  if (text === undefined) return {};
  if (!/^\d{1,15}$/.test(text)) {
    throw new CommandError(`option --${name} must be a whole number, got ${brief(text)}`, { exitCode: EXIT.usage });
  }
  return { [name]: Number(text) };
}

/** `explain [QUESTION]`: why a recorded run wrote a token. */
export function registerExplain(program: Command): void {
  program
    .command('explain [question...]')
    .description(`why a token was written, as in: explain "why did you say 'well'?"`)
    .option('--run <id>', 'recorded run (default: your latest one that has the quoted words)')
    .option('--step <number>', 'which token it wrote, from 0')
    .option('--versus <token>', 'compare with this token instead of the runner-up')
    .addOption(
      new Option('--inputs <mode>', 'parts of the prompt that are deleted one by one').choices([
        'none',
        'spans',
        'words',
        'sentences',
        'tokens',
      ]),
    )
    .option('--html <file>', 'write a page that explains every token of the run')
    .action(async (words: string[], given: Given, command: Command) => {
      const globals = globalsOf(command);
      const question = words.join(' ');
      const options: ExplainOptions = {
        ...wholeNumber('run', given.run),
        ...wholeNumber('step', given.step),
        ...(given.versus === undefined ? {} : { versus: given.versus }),
        ...(given.inputs === undefined ? {} : { inputs: given.inputs }),
      };
      await withClient(globals, async (client) => {
        await requireInstalled(client);
        const { html } = given;
        if (html === undefined) {
          await interruptible(client, globals, () => explainQuestion(client, question, options, globals.format));
          return;
        }
        const whole = question === '' && options.run !== undefined && options.step === undefined;
        const { runId, step } = whole ? { runId: options.run!, step: 0 } : await locate(client, question, options);
        await interruptible(client, globals, () => writePage(client, html, runId, step, options.inputs ?? null));
        print(`run ${runId} explained in ${html}\n`);
      });
    });
}
