/** One request that an engine computes, from what its caller left to the messages that it hears. */
import type { CacheRequest } from '../../backend/caches.ts';
import { forkCache, releaseCache, takeCache } from '../../backend/caches.ts';
import { nanoseconds } from '../../backend/durations.ts';
import { limitOptions } from '../../backend/limits.ts';
import type { UsedModel } from '../../backend/registry.ts';
import { parseJson, writeJson } from '../../format/ordered-json.ts';
import type { KvCache } from '../../model/model.ts';
import type { Continuation, GeneratedToken, Step } from '../../sampling/continuation.ts';
import type { Automaton } from '../../sampling/constraint/automaton.ts';
import type { Grammar } from '../../sampling/constraint/grammar.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { parseOptions } from '../../sampling/options.ts';
import { parseMessages } from '../../tokenizer/messages.ts';
import type { Generation, GenerationRequest } from '../generate.ts';
import { cacheRequest, checkPrompt, contextLength, continuationOf, finishedGeneration } from '../generate.ts';
import type { Prompt } from '../prompt-parts.ts';
import { runTexts } from '../record.ts';
import { callingTools, shownLogprobs } from '../request.ts';
import type { Job, Task } from '../scheduler.ts';
import type { SharedBeginning } from '../shared-beginning.ts';
import type { PromptModel } from '../templated-prompt.ts';
import { chatPrompt, turnPrompt } from '../templated-prompt.ts';
import { isWhole } from '../written-answers.ts';
import type { EngineFacts, RequestFacts } from './facts.ts';
import { newRequestFacts } from './facts.ts';
import type { Grammars } from './grammars.ts';
import { ChoosingTime } from './grammars.ts';
import type { AnswerRequest, EngineInput, LastMessage, Part, RequestHead, SentStep } from './messages.ts';
import { failure, sentStep } from './messages.ts';
import type { Turn } from './turns.ts';

/** Who waits for an answer. */
export interface Client<Request = AnswerRequest> extends Turn {
  readonly request: Request;
  /** When it was asked, milliseconds since 1970. */
  readonly since: number;
  send(message: { rows: number } | Part): void;
  /** The last message. */
  reply(message: LastMessage): void;
  /** What others see of the request. */
  note(facts: RequestFacts): void;
}

/** A token as going on after it needs it. */
function knownToken(id: number): GeneratedToken {
  return { id, logprob: null, logit: 0, topLogprobs: [] };
}

function promptOf(model: PromptModel, input: EngineInput, options: GenerateOptions): Prompt {
  if ('prompt' in input) return turnPrompt(model, input.prompt, options);
  if ('promptIds' in input) return { ids: [...input.promptIds], parts: () => null };
  const written = new Map(input.written);
  return chatPrompt(model, parseMessages(parseJson(input.messages)), options, (text) => written.get(text));
}

/** Null for null. */
function grammarOf(text: string | null): Grammar | null {
  return text === null ? null : (parseJson(text) as Grammar);
}

/** The options of a request, with what its answer has to be, be it said by a function, a session or the tools of a conversation. */
function constrainedOptions(
  used: UsedModel,
  { input }: AnswerRequest,
  options: GenerateOptions,
  promptIds: readonly number[],
): GenerateOptions {
  if ('promptIds' in input) return { ...options, constraint: grammarOf(input.constraint) };
  return 'messages' in input ? callingTools({ used, options }, 'chat', promptIds) : options;
}

/** Options as they come to with the limits of who asks. */
export function limitedOptions(
  { entry: { description, model } }: UsedModel,
  { limits }: RequestHead,
  given: Record<string, unknown>,
  grammar: Grammar | null,
): GenerateOptions {
  const options = parseOptions(given, description.defaultOptions, grammar);
  limitOptions(options, given, new Map(limits), contextLength(options, model.config.contextLength));
  return options;
}

/** What an answer begins with. */
export interface Begun {
  options: GenerateOptions;
  prompt: Prompt;
  /** What the prompts of its call have in common; null where it is the only one. */
  beginning: SharedBeginning | null;
}

/** Throws as a call would that is computed where it is made. */
function begunOf(used: UsedModel, request: AnswerRequest): Begun {
  const { description } = used.entry;
  const given = parseJson(request.options) as Record<string, unknown>;
  const options = limitedOptions(used, request, given, grammarOf(request.grammar));
  const prompt = promptOf({ description, tokenizer: used.tokenizer }, request.input, options);
  return { options, prompt, beginning: null };
}

export class Serving implements Job {
  readonly owner: string;
  readonly priority: number;
  /** What its answer is constrained by. */
  readonly automaton: Automaton | null;
  private readonly asked: GenerationRequest;
  private readonly prompt: Prompt;
  private readonly beginning: SharedBeginning | null;
  private readonly context: number;
  /** Ids that were written before, and steps that are wanted. */
  private readonly written: readonly number[];
  private readonly most: number;
  private readonly continuation: Continuation;
  private readonly choosing = new ChoosingTime();
  private taken = 0; // steps
  private readonly steps: SentStep[] = [];
  private reused: number | null = null;
  private readonly startedAt: number;
  private answeringSince: number;
  private readonly noted = newRequestFacts();

  /** Counts into `facts`. Throws as a call would that is computed where it is made. */
  constructor(
    private readonly used: UsedModel,
    private readonly facts: EngineFacts,
    private readonly client: Client,
    private readonly grammars: Grammars,
    { options, prompt, beginning }: Begun = begunOf(used, client.request),
  ) {
    const { request } = client;
    this.owner = String(client.role);
    this.priority = client.priority;
    const { model } = used.entry;
    [this.prompt, this.beginning] = [prompt, beginning];
    this.startedAt = beginning?.startedAt ?? Date.now();
    this.answeringSince = this.startedAt;
    // What is wrong with tools is said before what is wrong with the prompt, as in a session.
    const constrained = constrainedOptions(used, request, options, this.prompt.ids);
    this.context = contextLength(options, model.config.contextLength);
    checkPrompt(this.prompt.ids, this.context);
    if (options.numPredict !== 0) model.checkWrites();
    const hooks = { logprobs: request.logprobs };
    this.asked = { promptIds: this.prompt.ids, options: constrained, hooks };
    const { written, most } = 'promptIds' in request.input ? request.input : { written: [], most: Infinity };
    [this.written, this.most] = [written, most];
    const keeping = constrained.constraint === null ? {} : grammars.placeFor(this.owner);
    this.continuation = continuationOf(used, this.asked, this.context, keeping);
    this.continuation.replay(written.map(knownToken));
    this.automaton = this.continuation.automaton;
    if (this.isFresh) facts.promptTokens += this.prompt.ids.length;
    this.note({ promptTokens: this.prompt.ids.length, generatedTokens: written.length });
  }

  /** Whether nothing of its answer was written before. */
  private get isFresh(): boolean {
    return this.written.length === 0;
  }

  private note(changed: Partial<RequestFacts>): void {
    this.client.note(Object.assign(this.noted, changed));
  }

  get sharesBeginning(): boolean {
    return this.beginning === null && (this.asked.options.cache || !this.isFresh);
  }

  begin(): Task | null {
    if (this.asked.options.numPredict !== 0) return { continuation: this.continuation, intervention: undefined };
    this.end();
    return null;
  }

  get choosesSlowly(): boolean {
    return this.automaton !== null;
  }

  choose(work: () => Step): Step {
    if (this.automaton === null) return work();
    this.grammars.check(this.automaton);
    return this.choosing.choose(work);
  }

  openCache(ids: readonly number[]): KvCache {
    const { options } = this.asked;
    const wanted = cacheRequest(this.used.entry.model, this.owner, ids, options, this.context);
    const cache = this.beginning?.cacheFor(wanted, options.cache) ?? this.cacheFor(wanted);
    if (this.reused === null) {
      this.reused = cache.length - (this.beginning?.takeTokens() ?? 0);
      if (this.isFresh) this.facts.reusedTokens += this.reused;
    }
    this.note({ place: 1, reusedTokens: this.reused });
    return cache;
  }

  private cacheFor(wanted: CacheRequest): KvCache {
    // What a session computed may always be continued; `cache` is about what others left.
    const isKept = this.asked.options.cache || 'promptIds' in this.client.request.input;
    return isKept ? takeCache(wanted, this.sharesBeginning) : forkCache(wanted, false);
  }

  closeCache(cache: KvCache): void {
    releaseCache(cache);
    this.note({ place: 0 });
  }

  onRows(rows: number): void {
    this.facts.rows += rows;
    this.facts.sequences++;
    this.client.send({ rows });
  }

  onRead(): void {
    this.answeringSince = Date.now();
  }

  onStep(step: Step): void {
    this.taken++;
    if (step.token !== null) this.countToken();
    if (this.client.request.wantsSteps) this.steps.push(sentStep(step));
  }

  isEnough(): boolean {
    return this.taken >= this.most;
  }

  private countToken(): void {
    const { facts, noted } = this;
    facts.generatedTokens++;
    const generatedTokens = noted.generatedTokens + 1;
    if (noted.firstTokenAt > 0) {
      this.note({ generatedTokens });
      return;
    }
    const firstTokenAt = Date.now();
    if (this.isFresh) {
      facts.firstTokens++;
      facts.firstTokenMs += Math.max(0, firstTokenAt - this.client.since);
    }
    this.note({ generatedTokens, firstTokenAt });
  }

  end(): void {
    const { continuation } = this;
    const isSession = 'promptIds' in this.client.request.input;
    if (!isSession || continuation.doneReason !== null) this.facts.answers++;
    if (isSession) this.endSteps(continuation);
    else this.endAnswer(continuation);
  }

  private endSteps({ tokens, ended }: Continuation): void {
    const { startedAt, answeringSince, reused, written } = this;
    const steps = {
      tokens: tokens.slice(written.length),
      ended,
      reused: reused ?? 0,
      promptNs: nanoseconds(answeringSince - startedAt),
      evalNs: nanoseconds(Date.now() - answeringSince),
    };
    this.client.reply({ steps });
  }

  private endAnswer(continuation: Continuation): void {
    const { reused, used, prompt, startedAt, answeringSince } = this;
    const { request } = this.client;
    const whole = finishedGeneration(used, prompt.ids, { continuation, reused, startedAt, answeringSince });
    const tokens = whole.tokens.map((token) => ({ ...token, topLogprobs: [] })); // which neither rows nor recorded runs have
    const generation: Generation = { ...whole, tokens, calls: [] };
    const { tokenizer, loadNs } = used;
    const { stop, constraint } = this.asked.options;
    const texts = request.wantsRun ? runTexts(generation, stop, tokenizer) : null;
    const answer = {
      generation,
      calls: writeJson(whole.calls),
      constraint: constraint?.kind === 'tool_call' ? writeJson(constraint) : null,
      ignoredKeywords: continuation.ignoredKeywords,
      steps: this.steps,
      loadNs,
      heldAs: used.entry.model.precision,
      isWhole: isWhole({ text: generation.text, ids: tokens.map((token) => token.id) }, tokenizer),
      logprobs: request.showsLogprobs ? shownLogprobs(tokenizer, whole.tokens) : null,
      run: texts === null ? null : { parts: prompt.parts(), texts },
    };
    this.client.reply({ answer });
  }

  fail(error: unknown): void {
    this.client.reply(failure(error));
  }
}
