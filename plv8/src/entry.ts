/** The exported surface: one function per SQL function of plv8/functions.sql, called with its arguments as they are. */
import { poll, returnNext } from './db.ts';
import { raise, SQLSTATE } from './errors.ts';
import { callerRole } from './generate/caller.ts';
import { findModel } from './generate/catalog.ts';
import type { GeneratedToken, Generation } from './generate/generate.ts';
import { generate as runGeneration } from './generate/generate.ts';
import type { GenerateOptions } from './generate/options.ts';
import { parseOptions } from './generate/options.ts';
import { recordingWanted, recordRun } from './generate/record.ts';
import type { UsedModel } from './generate/registry.ts';
import {
  currentCatalog,
  loadedModelRows,
  setDefaultModel,
  unloadModels,
  useModel,
  useTokenizer,
} from './generate/registry.ts';
import { checkModel as checkModelTables, checkTokenizer as checkTokenizerTables } from './generate/usability.ts';
import { hilbertDecode as decodeHilbert, hilbertEncode as encodeHilbert } from './hilbert/hilbert.ts';
import { indexModelEmbeddings } from './model/embedding-index.ts';
import type { ChatMessage } from './tokenizer/chat-template.ts';
import { parseMessages, renderChat } from './tokenizer/chat-template.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

const NS_PER_MS = 1_000_000;

type Kind = 'generate' | 'complete' | 'chat' | 'stream';

interface Answer {
  generation: Generation;
  modelName: string;
  loadNs: number;
  totalNs: number;
  runId: number | null;
  options: GenerateOptions;
  tokenizer: Tokenizer;
}

/** A token's text as PostgreSQL can hold it: no NUL. */
function shownToken(tokenizer: Tokenizer, id: number): string {
  return tokenizer.tokenText(id).replaceAll('\0', '\uFFFD');
}

function tokenString(tokenizer: Tokenizer, id: number | null): string {
  return id === null ? '' : tokenizer.tokenText(id);
}

/** Prompt text of a conversation through the model's own template. */
function renderMessages(template: string, tokenizer: Tokenizer, messages: ChatMessage[]): string {
  return renderChat(template, {
    messages,
    addGenerationPrompt: true,
    bosToken: tokenString(tokenizer, tokenizer.bosId),
    eosToken: tokenString(tokenizer, tokenizer.eosId),
    poll,
  });
}

/** Ids of rendered template text: its special tokens are tokens, and a BOS it already wrote is not added again. */
function encodeRendered(tokenizer: Tokenizer, text: string): number[] {
  const ids = tokenizer.encode(text, { addSpecial: false, parseSpecial: true, poll });
  if (tokenizer.addBos && tokenizer.bosId !== null && ids[0] !== tokenizer.bosId) ids.unshift(tokenizer.bosId);
  return ids;
}

function promptIds(used: UsedModel, prompt: string, options: GenerateOptions): number[] {
  const template = used.entry.description.chatTemplate;
  if (options.raw || template === null) {
    return used.tokenizer.encode(prompt, { addSpecial: true, parseSpecial: true, poll });
  }
  return encodeRendered(used.tokenizer, renderMessages(template, used.tokenizer, [{ role: 'user', content: prompt }]));
}

/** One request from options to recorded run; `idsOf` turns the input into prompt ids once the model is there. */
function answer(
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
  const record = recordingWanted(options.record, catalog);
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
          seed: options.sampler.seed,
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

/** `_check_tokenizer`: refuse a vocabulary that cannot be used. */
export function checkTokenizer(modelId: bigint | number): number {
  return checkTokenizerTables(Number(modelId));
}

/** `_check_model`: refuse a model whose hyper-parameters or tensors cannot be computed with. */
export function checkModel(modelId: bigint | number): void {
  checkModelTables(Number(modelId));
}

/** The facts that complete and chat report, with Ollama's names; durations are nanoseconds. */
function facts(result: Answer): Record<string, unknown> {
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

export function generate(
  prompt: string | null,
  model: string | null,
  options: Record<string, unknown> | null,
): string | null {
  if (prompt === null) return null;
  return answer('generate', model, options, (used, parsed) => promptIds(used, prompt, parsed)).generation.text;
}

export function complete(
  prompt: string | null,
  model: string | null,
  options: Record<string, unknown> | null,
): Record<string, unknown> | null {
  if (prompt === null) return null;
  const result = answer('complete', model, options, (used, parsed) => promptIds(used, prompt, parsed));
  return {
    model: result.modelName,
    created_at: new Date().toISOString(),
    text: result.generation.text,
    ...facts(result),
  };
}

function templateOf(name: string, template: string | null): string {
  return (
    template ??
    raise(SQLSTATE.objectNotInPrerequisiteState, `model ${name} has no chat template`, {
      hint: 'use generate, which continues the text',
    })
  );
}

export function chat(
  messages: unknown,
  model: string | null,
  options: Record<string, unknown> | null,
): Record<string, unknown> | null {
  if (messages === null) return null;
  const parsed = parseMessages(messages);
  const result = answer('chat', model, options, (used) => {
    const template = templateOf(used.entry.description.name, used.entry.description.chatTemplate);
    return encodeRendered(used.tokenizer, renderMessages(template, used.tokenizer, parsed));
  });
  return {
    model: result.modelName,
    created_at: new Date().toISOString(),
    message: { role: 'assistant', content: result.generation.text },
    ...facts(result),
  };
}

export function generateStream(
  prompt: string | null,
  model: string | null,
  options: Record<string, unknown> | null,
): void {
  if (prompt === null) return;
  let step = 0;
  answer(
    'stream',
    model,
    options,
    (used, parsed) => promptIds(used, prompt, parsed),
    (token, tokenizer) => {
      returnNext({ step: step++, token_id: token.id, token: shownToken(tokenizer, token.id), logprob: token.logprob });
    },
  );
}

export function tokenize(
  input: string | null,
  model: string | null,
  addSpecial: boolean,
  parseSpecial: boolean,
): number[] | null {
  if (input === null) return null;
  return useTokenizer(currentCatalog(), model).tokenizer.encode(input, {
    addSpecial: addSpecial === true,
    parseSpecial: parseSpecial === true,
    poll,
  });
}

export function detokenize(tokens: (number | null)[] | null, model: string | null, special: boolean): string | null {
  if (tokens === null) return null;
  const { tokenizer } = useTokenizer(currentCatalog(), model);
  return tokenizer
    .decode(checkedIds(tokens, tokenizer.vocabSize), { special: special === true })
    .replaceAll('\0', '\uFFFD');
}

export function tokenCount(input: string | null, model: string | null): number | null {
  return tokenize(input, model, false, false)?.length ?? null;
}

function checkedIds(tokens: (number | null)[], vocabSize: number): number[] {
  return tokens.map((id, index) => {
    if (id === null || !Number.isInteger(id) || id < 0 || id >= vocabSize) {
      raise(
        SQLSTATE.invalidParameterValue,
        `token ${index + 1} is ${id === null ? 'null' : String(id)}, the vocabulary has ids 0 to ${vocabSize - 1}`,
      );
    }
    return id;
  });
}

export function logits(
  tokens: (number | null)[] | null,
  model: string | null,
  options: Record<string, unknown> | null,
): Float32Array | null {
  if (tokens === null) return null;
  const parsed = parseOptions(options ?? {});
  const { entry } = useModel(currentCatalog(), model, parsed.precision);
  const ids = checkedIds(tokens, entry.model.config.vocabSize);
  if (ids.length === 0) raise(SQLSTATE.invalidParameterValue, 'logits needs at least one token');
  if (ids.length > entry.model.config.contextLength) {
    raise(
      SQLSTATE.programLimitExceeded,
      `logits got ${ids.length} tokens, the model's context is ${entry.model.config.contextLength}`,
    );
  }
  entry.kept = null; // newCache frees every other cache
  const cache = entry.model.newCache(ids.length);
  try {
    return entry.model.forward(ids, cache, { poll }).slice();
  } finally {
    cache.free();
  }
}

export function renderChatMessages(
  messages: unknown,
  model: string | null,
  _options: Record<string, unknown> | null,
): string | null {
  if (messages === null) return null;
  const { tokenizer, description } = useTokenizer(currentCatalog(), model);
  return renderMessages(templateOf(description.name, description.chatTemplate), tokenizer, parseMessages(messages));
}

export function defaultModel(): string | null {
  const catalog = currentCatalog();
  if (catalog.defaultName === null && catalog.models.length !== 1) return null;
  return findModel(catalog, null).name;
}

export function unload(model: string | null): number {
  return unloadModels(model);
}

export function loadedModels(): void {
  for (const row of loadedModelRows()) returnNext(row);
}

export function indexEmbeddings(modelId: number | bigint): number {
  return indexModelEmbeddings(Number(modelId));
}

export { setDefaultModel };

export { cosineSimilarity, dotProduct } from './model/vector-maths.ts';

/** What the curve says of a wrong argument, with the SQLSTATE of a wrong argument. */
function onCurve<T>(compute: () => T): T {
  try {
    return compute();
  } catch (error) {
    if (error instanceof RangeError) raise(SQLSTATE.invalidParameterValue, error.message);
    throw error;
  }
}

export function hilbertEncode(point: ArrayLike<number>, bits: number): bigint {
  return onCurve(() => encodeHilbert(point, bits));
}

export function hilbertDecode(index: bigint | number, dims: number, bits: number): number[] {
  return onCurve(() => decodeHilbert(BigInt(index), dims, bits));
}
