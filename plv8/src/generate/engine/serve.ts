/**
 * What an engine does: it takes requests that callers left, and computes all of a model together. Each of its turns is a
 * transaction of its own, so that it holds no snapshot for long. Nothing of a role's reaches another: caches are taken by the
 * role's oid, and an answer goes to who asked.
 */
import { forkCache, releaseCache, takeCache } from '../../backend/caches.ts';
import type { Catalog } from '../../backend/catalog.ts';
import { limitOptions } from '../../backend/limits.ts';
import type { UsedModel } from '../../backend/registry.ts';
import { engineCatalog, fits, heldBytes, useDescription, useModel } from '../../backend/registry.ts';
import type { EngineHost } from '../../db.ts';
import { poll, query, servedEngine } from '../../db.ts';
import { raise, SQLSTATE } from '../../errors.ts';
import { parseJson } from '../../format/ordered-json.ts';
import type { KvCache, Model } from '../../model/model.ts';
import { CHUNK_TOKENS, MAX_SEQUENCES } from '../../model/model.ts';
import type { Continuation, Step } from '../../sampling/continuation.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import { parseOptions } from '../../sampling/options.ts';
import { parseMessages } from '../../tokenizer/messages.ts';
import type { Generation, GenerationRequest } from '../generate.ts';
import { cacheRequest, checkPrompt, contextLength, continuationOf, finishedGeneration } from '../generate.ts';
import type { Prompt } from '../prompt-parts.ts';
import { buildIdOf, runTexts } from '../record.ts';
import type { Job, Task } from '../scheduler.ts';
import { Scheduler } from '../scheduler.ts';
import { shownLogprobs } from '../request.ts';
import type { PromptModel } from '../templated-prompt.ts';
import { chatPrompt, turnPrompt } from '../templated-prompt.ts';
import { isWhole } from '../written-answers.ts';
import type { RequestFacts } from './facts.ts';
import { engineNumbers, newEngineFacts, newRequestFacts, requestNumbers } from './facts.ts';
import type { EngineInput, EngineMessage, EngineRequest, SentStep } from './messages.ts';
import { failure, sentStep, storedOf } from './messages.ts';

/** Milliseconds of a turn after which no further pass begins. */
const TURN_MS = 20;

interface Left {
  id: number;
  role: number;
  request: EngineRequest;
  since: number; // milliseconds since 1970
}

/** One that is being computed. */
interface Open {
  job: Job;
  scheduler: Scheduler;
}

/** Of a statement, in the transaction of a turn. */
const LOCK_WAIT = '200ms';

/** By model. */
const schedulers = new Map<Model, Scheduler>();
const open = new Map<number, Open>();
/** What others see of this engine. */
const facts = newEngineFacts();

function isUsed(model: Model): boolean {
  return (schedulers.get(model)?.size ?? 0) > 0;
}

function isBusy(): boolean {
  return open.size > 0;
}

/**
 * Do some of the work that there is; whether there is more. Throws in a process that is no engine, and in an engine to which the
 * settings of its database leave no requests to take: it ends then, and nobody waits for it.
 */
export function turn(): boolean {
  const host = servedEngine();
  if (host === null) raise(SQLSTATE.objectNotInPrerequisiteState, 'this process can serve no requests of an engine');
  refuseForeign();
  takeRequests(host);
  const until = Date.now() + TURN_MS;
  do {
    letGo(host);
    for (const scheduler of schedulers.values()) if (scheduler.size > 0) pass(scheduler);
  } while (isBusy() && Date.now() < until);
  show(host);
  return isBusy();
}

function show(host: EngineHost): void {
  host.show?.(engineNumbers(Object.assign(facts, heldBytes())));
}

function pass(scheduler: Scheduler): void {
  const [since, before] = [Date.now(), facts.sequences];
  scheduler.pass();
  if (facts.sequences === before) return;
  facts.passes++;
  facts.latest = facts.sequences - before;
  facts.busyMs += Date.now() - since;
}

/**
 * Throws where functions of another build served here before: they know of requests, and hold models, that these do not. The engine
 * ends then, and who waited computes itself.
 */
function refuseForeign(): void {
  const shared = globalThis as { hartonomousEngine?: object };
  shared.hartonomousEngine ??= open;
  if (shared.hartonomousEngine === open) return;
  raise(SQLSTATE.objectNotInPrerequisiteState, 'functions of another build were installed, so this engine ends');
}

function takeRequests(host: EngineHost): void {
  const taken = host.take().map(([id, role, text, since = Date.now()]): Left => {
    return { id, role, request: JSON.parse(text) as EngineRequest, since };
  });
  if (taken.length === 0) return;
  const catalog = readTables();
  for (const [model, scheduler] of schedulers) if (scheduler.size === 0) schedulers.delete(model);
  for (const each of taken) {
    if (host.gone(each.id)) host.finish(each.id);
    else if (catalog === null) reply(host, each.id, { unseen: true });
    else begin(host, catalog, each);
  }
}

/** Null where somebody holds a lock on the tables: maybe a caller, who waits for the engine, so the engine does not wait for long. */
function readTables(): Catalog | null {
  try {
    query(`select set_config('lock_timeout', $1::text, true)`, [LOCK_WAIT]);
    return engineCatalog(isUsed);
  } catch {
    return null;
  }
}

/** Let go of requests that nobody waits for any more. */
function letGo(host: EngineHost): void {
  for (const [id, { job, scheduler }] of open) {
    if (!host.gone(id)) continue;
    scheduler.remove(job);
    open.delete(id);
    host.finish(id);
  }
}

/** The last that a caller hears. */
function reply(host: EngineHost, id: number, message: EngineMessage): void {
  if ('error' in message) facts.failures++;
  if ('answer' in message) facts.answers++;
  show(host); // before its caller goes on, who may look
  open.delete(id);
  host.send(id, JSON.stringify(message));
  host.finish(id);
}

/** Whether the engine sees the model and the functions that the caller sees, and has room for the model while it computes with others. */
function canTake(catalog: Catalog, { model, stored, precision, build }: EngineRequest): boolean {
  const row = catalog.models.find(({ id }) => id === model.id);
  return (
    row?.digest === model.digest &&
    row.unloadGeneration === model.unloadGeneration &&
    row.name === model.name &&
    storedOf(useDescription(catalog, row.name)) === stored &&
    buildIdOf(catalog) === build &&
    (!isBusy() || fits(catalog, row, precision))
  );
}

function begin(host: EngineHost, catalog: Catalog, left: Left): void {
  const { id, request } = left;
  try {
    if (!canTake(catalog, request)) {
      reply(host, id, { unseen: true });
      return;
    }
    const used = useModel(catalog, request.model.name, request.precision, { admitted: true });
    const { model } = used.entry;
    const serving = new Serving(host, left, used);
    const scheduler = schedulers.get(model) ?? new Scheduler(model, MAX_SEQUENCES, CHUNK_TOKENS, poll);
    schedulers.set(model, scheduler);
    open.set(id, { job: serving, scheduler });
    scheduler.add(serving);
  } catch (error) {
    reply(host, id, failure(error));
  }
}

function promptOf(model: PromptModel, input: EngineInput, options: GenerateOptions): Prompt {
  if ('prompt' in input) return turnPrompt(model, input.prompt, options);
  const written = new Map(input.written);
  return chatPrompt(model, parseMessages(parseJson(input.messages)), options, (text) => written.get(text));
}

class Serving implements Job {
  private readonly asked: GenerationRequest;
  private readonly prompt: Prompt;
  private readonly context: number;
  private continuation: Continuation | null = null;
  private readonly steps: SentStep[] = [];
  private reused: number | null = null;
  private readonly startedAt = Date.now();
  private answeringSince = this.startedAt;
  private readonly id: number;
  private readonly request: EngineRequest;
  /** What others see of it. */
  private readonly facts = newRequestFacts();

  /** Throws as a call would that is computed where it is made. */
  constructor(
    private readonly host: EngineHost,
    private readonly left: Left,
    private readonly used: UsedModel,
  ) {
    const { id, request } = left;
    [this.id, this.request] = [id, request];
    const { description, model } = used.entry;
    const given = parseJson(request.options) as Record<string, unknown>;
    const options = parseOptions(given, description.defaultOptions);
    const trained = model.config.contextLength;
    limitOptions(options, given, new Map(request.limits), contextLength(options, trained));
    this.prompt = promptOf({ description, tokenizer: used.tokenizer }, request.input, options);
    this.context = contextLength(options, trained);
    checkPrompt(this.prompt.ids, this.context);
    if (options.numPredict !== 0) model.checkWrites();
    const hooks = { logprobs: request.logprobs };
    this.asked = { promptIds: this.prompt.ids, options, hooks };
    facts.promptTokens += this.prompt.ids.length;
    this.note({ promptTokens: this.prompt.ids.length });
  }

  private note(changed: Partial<RequestFacts>): void {
    this.host.note?.(this.id, requestNumbers(Object.assign(this.facts, changed)));
  }

  begin(): Task | null {
    this.continuation = continuationOf(this.used, this.asked, this.context);
    if (this.asked.options.numPredict !== 0) return { continuation: this.continuation, intervention: undefined };
    this.end();
    return null;
  }

  openCache(ids: readonly number[]): KvCache {
    const { options } = this.asked;
    const caller = String(this.left.role);
    const wanted = cacheRequest(this.used.entry.model, caller, ids, options, this.context);
    const cache = options.cache ? takeCache(wanted, true) : forkCache(wanted, false);
    if (this.reused === null) {
      this.reused = cache.length;
      facts.reusedTokens += cache.length;
    }
    this.note({ place: 1, reusedTokens: this.reused });
    return cache;
  }

  closeCache(cache: KvCache): void {
    releaseCache(cache);
    this.note({ place: 0 });
  }

  onRows(rows: number): void {
    facts.rows += rows;
    facts.sequences++;
    this.host.send(this.id, JSON.stringify({ rows } satisfies EngineMessage));
  }

  onRead(): void {
    this.answeringSince = Date.now();
  }

  onStep(step: Step): void {
    if (step.token !== null) this.countToken();
    if (this.request.wantsSteps) this.steps.push(sentStep(step));
  }

  private countToken(): void {
    facts.generatedTokens++;
    const generatedTokens = this.facts.generatedTokens + 1;
    if (generatedTokens > 1) return this.note({ generatedTokens });
    const firstTokenAt = Date.now();
    facts.firstTokens++;
    facts.firstTokenMs += Math.max(0, firstTokenAt - this.left.since);
    this.note({ generatedTokens, firstTokenAt });
  }

  end(): void {
    const { continuation, reused, used, prompt, request, startedAt, answeringSince } = this;
    const { model } = used.entry;
    const whole = finishedGeneration(used, prompt.ids, {
      continuation: continuation!,
      reused,
      startedAt,
      answeringSince,
    });
    const tokens = whole.tokens.map((token) => ({ ...token, topLogprobs: [] })); // which neither rows nor recorded runs have
    const generation: Generation = { ...whole, tokens };
    const { tokenizer, loadNs } = used;
    const texts = request.wantsRun ? runTexts(generation, this.asked.options.stop, tokenizer) : null;
    const answer = {
      generation,
      steps: this.steps,
      loadNs,
      heldAs: model.precision,
      isWhole: isWhole({ text: generation.text, ids: tokens.map((token) => token.id) }, tokenizer),
      logprobs: request.showsLogprobs ? shownLogprobs(tokenizer, whole.tokens) : null,
      run: texts === null ? null : { parts: prompt.parts(), texts },
    };
    reply(this.host, this.id, { answer });
  }

  fail(error: unknown): void {
    reply(this.host, this.id, failure(error));
  }
}
