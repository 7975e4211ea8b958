/** One request from arguments to answer: prompt text to ids, generation, recording, and the facts that are reported. */
import { poll } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { ChatMessage } from '../tokenizer/chat-template.ts';
import { renderChat } from '../tokenizer/chat-template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { callerRole } from './caller.ts';
import type { GeneratedToken, Generation } from './generate.ts';
import { generate as runGeneration } from './generate.ts';
import type { GenerateOptions } from './options.ts';
import { parseOptions } from './options.ts';
import { buildIdOf, recordingWanted, recordRun } from './record.ts';
import type { UsedModel } from './registry.ts';
import { currentCatalog, useModel } from './registry.ts';

const NS_PER_MS = 1_000_000;

export type Kind = 'generate' | 'complete' | 'chat' | 'stream';

export interface Answer {
  generation: Generation;
  modelName: string;
  loadNs: number;
  totalNs: number;
  runId: number | null;
  options: GenerateOptions;
  tokenizer: Tokenizer;
}

/** A token's text as PostgreSQL can hold it: no NUL. */
export function shownToken(tokenizer: Tokenizer, id: number): string {
  return tokenizer.tokenText(id).replaceAll('\0', '\uFFFD');
}

function tokenString(tokenizer: Tokenizer, id: number | null): string {
  return id === null ? '' : tokenizer.tokenText(id);
}

/** Prompt text of a conversation through the model's own template. */
export function renderMessages(template: string, tokenizer: Tokenizer, messages: ChatMessage[]): string {
  return renderChat(template, {
    messages,
    addGenerationPrompt: true,
    bosToken: tokenString(tokenizer, tokenizer.bosId),
    eosToken: tokenString(tokenizer, tokenizer.eosId),
    poll,
  });
}

/** Ids of rendered template text: its special tokens are tokens, and a BOS it already wrote is not added again. */
export function encodeRendered(tokenizer: Tokenizer, text: string): number[] {
  const ids = tokenizer.encode(text, { addSpecial: false, parseSpecial: true, poll });
  if (tokenizer.addBos && tokenizer.bosId !== null && ids[0] !== tokenizer.bosId) ids.unshift(tokenizer.bosId);
  return ids;
}

export function promptIds(used: UsedModel, prompt: string, options: GenerateOptions): number[] {
  const template = used.entry.description.chatTemplate;
  if (options.raw || template === null) {
    return used.tokenizer.encode(prompt, { addSpecial: true, parseSpecial: true, poll });
  }
  return encodeRendered(used.tokenizer, renderMessages(template, used.tokenizer, [{ role: 'user', content: prompt }]));
}

/** One request from options to recorded run; `idsOf` turns the input into prompt ids once the model is there. */
export function answer(
  kind: Kind,
  model: string | null,
  given: Record<string, unknown> | null,
  idsOf: (used: UsedModel, options: GenerateOptions) => number[],
  onToken?: (token: GeneratedToken, tokenizer: Tokenizer) => void,
): Answer {
  const started = Date.now();
  const options = parseOptions(given ?? {});
  const catalog = currentCatalog();
  const caller = callerRole();
  const used = useModel(catalog, model, options.precision);
  const record = recordingWanted(options.record, kind, catalog);
  const generation = runGeneration(used, idsOf(used, options), caller, options, {
    onToken: (token) => onToken?.(token, used.tokenizer),
    logprobs: record || options.logprobs || kind === 'stream',
  });
  const totalNs = (Date.now() - started) * NS_PER_MS;
  const { description } = used.entry;
  const runId = record
    ? recordRun(
        {
          caller,
          kind,
          model: description,
          options: given ?? {},
          settings: options,
          heldAs: used.entry.model.precision,
          buildId: buildIdOf(catalog),
          generation,
          loadNs: used.loadNs,
          totalNs,
        },
        used.tokenizer,
      )
    : null;
  return {
    generation,
    modelName: description.name,
    loadNs: used.loadNs,
    totalNs,
    runId,
    options,
    tokenizer: used.tokenizer,
  };
}

/** The facts that complete and chat report, with Ollama's names; durations are nanoseconds. */
export function facts(result: Answer): Record<string, unknown> {
  const { generation } = result;
  return {
    done: true,
    done_reason: generation.doneReason,
    total_duration: result.totalNs,
    load_duration: result.loadNs,
    prompt_eval_count: generation.promptEvalCount,
    prompt_eval_duration: generation.promptEvalNs,
    eval_count: generation.tokens.length,
    eval_duration: generation.evalNs,
    prompt_tokens: generation.promptIds.length,
    seed: result.options.sampler.seed,
    ...(result.runId === null ? {} : { run_id: result.runId }),
    ...(result.options.logprobs
      ? {
          logprobs: generation.tokens.map((token) => ({
            token_id: token.id,
            token: shownToken(result.tokenizer, token.id),
            logprob: token.logprob,
          })),
        }
      : {}),
  };
}

export function templateOf(name: string, template: string | null): string {
  return (
    template ??
    raise(SQLSTATE.objectNotInPrerequisiteState, `model ${name} has no chat template`, {
      hint: 'use generate, which continues the text',
    })
  );
}
