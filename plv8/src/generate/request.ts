/** One request from arguments to answer: options, model, generation, recording, and the facts that are reported. */
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { noticeOnce } from '../db.ts';
import { callerRole } from '../backend/caller.ts';
import type { Grammar } from '../sampling/constraint/grammar.ts';
import type { GeneratedToken, Step } from '../sampling/continuation.ts';
import type { Generation } from './generate.ts';
import { contextLength, generate as runGeneration } from './generate.ts';
import { limitOptions, refuseUnrecorded } from '../backend/limits.ts';
import type { GenerateOptions } from '../sampling/options.ts';
import { ignoredOptions, parseOptions } from '../sampling/options.ts';
import type { ToolCall } from '../sampling/tool-calls.ts';
import { raise, SQLSTATE } from '../errors.ts';
import type { Prompt } from './prompt-parts.ts';
import type { PromptModel } from './templated-prompt.ts';
import { templateOf } from './templated-prompt.ts';
import { withToolCalls } from './tool-calling.ts';
import type { RunRecord } from './record.ts';
import { buildIdOf, recordingWanted, recordRun } from './record.ts';
import type { Catalog } from '../backend/catalog.ts';
import type { UsedModel } from '../backend/registry.ts';
import { currentCatalog, useModel, useTokenizer } from '../backend/registry.ts';
import { nanoseconds } from '../backend/durations.ts';
import { limitThreads } from '../db.ts';

export interface Answer {
  generation: Generation;
  modelName: string;
  loadNs: number;
  totalNs: number;
  runId: number | null;
  options: GenerateOptions;
  /** Log-probabilities of its tokens, as they are shown. */
  logprobs: () => Record<string, unknown>[];
}

/** A token's text as PostgreSQL can hold it: no NUL. */
export function shownToken(tokenizer: Tokenizer, id: number): string {
  return tokenizer.tokenText(id).replaceAll('\0', '\uFFFD');
}

export interface Request {
  catalog: Catalog;
  caller: string;
  used: UsedModel;
  /** The caller's options as given. */
  given: Record<string, unknown>;
  options: GenerateOptions;
}

/** Who asks which model with which options; loads the model where it is not. Throws where a limit is exceeded. */
export function openRequest(
  model: string | null,
  given: Record<string, unknown> | null,
  {
    grammar = null,
    conversation = false,
    ablates = false,
    admitted = false,
  }: { grammar?: Grammar | null; conversation?: boolean; ablates?: boolean; admitted?: boolean } = {},
): Request {
  const catalog = currentCatalog();
  refuseUnrecorded(catalog.limits);
  const { defaultOptions } = useTokenizer(catalog, model).description;
  const options = parseOptions(given ?? {}, defaultOptions, grammar);
  if (options.toolChoice !== 'auto' && !conversation) {
    raise(SQLSTATE.invalidParameterValue, 'option tool_choice is for conversations: chat, and sessions over messages');
  }
  if (options.ablate !== null && !ablates) {
    raise(
      SQLSTATE.invalidParameterValue,
      'option ablate is for logits, and for the functions that write an answer in one call',
    );
  }
  limitThreads(options.numThread || null);
  const ignored = ignoredOptions(given ?? {});
  if (ignored.length > 0) noticeOnce(`options about hardware change nothing here: ${ignored.join(', ')}`);
  const used = useModel(catalog, model, options.precision, { admitted });
  const context = contextLength(options, used.entry.model.config.contextLength);
  limitOptions(options, given ?? {}, catalog.limits, context);
  return { catalog, caller: callerRole(), used, given: given ?? {}, options };
}

/** What prompts need of a loaded model. */
export function promptModel(used: UsedModel): PromptModel {
  return { description: used.entry.description, tokenizer: used.tokenizer };
}

/** The options of a request, with what its answer has to be where a conversation has tools. */
export function callingTools(
  { used, options }: Pick<Request, 'used' | 'options'>,
  kind: RunRecord['kind'],
  promptIds: readonly number[],
): GenerateOptions {
  const asked = kind === 'chat' && options.tools !== null;
  const template = asked ? templateOf(promptModel(used), options) : null;
  return template === null ? options : withToolCalls(options, template, used.tokenizer, promptIds);
}

/** One request from options to recorded run; `promptOf` turns the input into a prompt once the model is there. */
export function answer(
  kind: RunRecord['kind'],
  model: string | null,
  given: Record<string, unknown> | null,
  promptOf: (model: PromptModel, options: GenerateOptions) => Prompt,
  more: { onStep?: (step: Step) => void; grammar?: Grammar; admitted?: boolean } = {},
): Answer {
  const started = Date.now();
  const request = openRequest(model, given, {
    conversation: kind === 'chat',
    ablates: true,
    ...(more.grammar === undefined ? {} : { grammar: more.grammar }),
    ...(more.admitted === undefined ? {} : { admitted: more.admitted }),
  });
  const { catalog, caller, used } = request;
  const prompt = promptOf(promptModel(used), request.options);
  const options = callingTools(request, kind, prompt.ids);
  const record = recordingWanted(options.record, kind, catalog);
  const generation = runGeneration(used, prompt.ids, caller, options, {
    ...(more.onStep === undefined ? {} : { onStep: more.onStep }),
    logprobs: record || options.logprobs || kind === 'stream',
  });
  const totalNs = nanoseconds(Date.now() - started);
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
          parts: prompt.parts(),
          generation,
          startedAt: started,
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
    logprobs: () => shownLogprobs(used.tokenizer, generation.tokens),
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
    ...(result.options.logprobs ? { logprobs: result.logprobs() } : {}),
  };
}

/** The calls of tools that the answer makes; nothing where it makes none. */
export function callsFact({ generation }: Answer): { tool_calls?: ToolCall[] } {
  return generation.calls.length === 0 ? {} : { tool_calls: generation.calls };
}

/** What the model thought, under Ollama's name; nothing where it did not. */
export function thinkingFact({ generation }: Answer): { thinking?: string } {
  return generation.thinking === '' ? {} : { thinking: generation.thinking };
}

/** Log-probability of a token and of the likeliest ones in its place, with the names OpenAI and Ollama give them. */
export function shownLogprob(tokenizer: Tokenizer, token: GeneratedToken): Record<string, unknown> {
  const entry = (id: number, logprob: number | null): Record<string, unknown> => ({
    token_id: id,
    token: shownToken(tokenizer, id),
    logprob,
    bytes: Array.from(tokenizer.tokenBytes(id)),
  });
  return {
    ...entry(token.id, token.logprob),
    top_logprobs: token.topLogprobs.map((other) => entry(other.id, other.logprob)),
  };
}

export function shownLogprobs(tokenizer: Tokenizer, tokens: readonly GeneratedToken[]): Record<string, unknown>[] {
  return tokens.map((token) => shownLogprob(tokenizer, token));
}
