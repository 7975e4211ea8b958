/**
 * Many prompts of one call. First all of them are cut into tokens, and what they begin with is read, in pieces between the passes
 * of answers; then each is answered as a request of its own would be, a few at a time, so that others of the role come between.
 */
import type { UsedModel } from '../../backend/registry.ts';
import { placed } from '../../backend/on-error.ts';
import { within } from '../../db.ts';
import { parseJson } from '../../format/ordered-json.ts';
import type { Model } from '../../model/model.ts';
import { MAX_SEQUENCES } from '../../model/model.ts';
import type { Pause } from '../../model/pause.ts';
import type { GenerateOptions } from '../../sampling/options.ts';
import type { Automaton } from '../../sampling/constraint/automaton.ts';
import { checkPrompt, contextLength } from '../generate.ts';
import type { Prompt } from '../prompt-parts.ts';
import type { Scheduler } from '../scheduler.ts';
import { SharedBeginning } from '../shared-beginning.ts';
import { turnPrompt } from '../templated-prompt.ts';
import type { EngineFacts, RequestFacts } from './facts.ts';
import { newRequestFacts } from './facts.ts';
import type { Grammars } from './grammars.ts';
import type { LastMessage, ManyRequest } from './messages.ts';
import { failure, lengthOfTexts, receivedError } from './messages.ts';
import { PieceJob } from './piece-job.ts';
import type { Client } from './serving.ts';
import { limitedOptions, Serving } from './serving.ts';

/** Milliseconds in which one prompt has to be cut into tokens; else the caller computes all of them. */
const CUT_MS = 200;

/** Prompts that are cut into tokens one after the other before it is somebody else's turn. */
const CUT_TOGETHER = 16;

/** A prompt that waits to be answered. */
interface Cut {
  place: number;
  prompt: Prompt;
}

/** One that is being answered. */
interface Answering {
  serving: Serving;
  scheduler: Scheduler;
}

export class Many {
  readonly options: GenerateOptions;
  private waiting: Cut[] = [];
  private readonly answering = new Map<number, Answering>(); // by place
  private beginning: SharedBeginning | null = null;
  private isOver = false;
  private readonly noted = new Map<number, RequestFacts>(); // by place
  private readonly sum = newRequestFacts();

  /** Throws where the call is wrong, whatever the prompts are. */
  constructor(
    private readonly used: UsedModel,
    private readonly facts: EngineFacts,
    readonly client: Client<ManyRequest>,
    private readonly grammars: Grammars,
  ) {
    const { request } = client;
    this.options = limitedOptions(used, request, parseJson(request.options) as Record<string, unknown>, null);
  }

  get model(): Model {
    return this.used.entry.model;
  }

  get automata(): Automaton[] {
    return [...this.answering.values()].flatMap(({ serving }) => serving.automaton ?? []);
  }

  /** Whether there is a prompt that may be answered now. */
  get hasNext(): boolean {
    return this.waiting.length > 0 && this.answering.size < MAX_SEQUENCES;
  }

  /**
   * Make the prompts ready, then call `ready`, after which they may be answered. The last message where there are none. Throws
   * what is wrong with one of them, the first in the order in which a session would find it.
   */
  *prepare(ready: () => void): Generator<Pause, LastMessage | null> {
    const { used, client, options, model } = this;
    const { description } = used.entry;
    const cut: Cut[] = [];
    let tried = 0;
    for (const [place, text] of client.request.prompts.entries()) {
      if (text === null) continue;
      const make = (): Prompt => turnPrompt({ description, tokenizer: used.tokenizer }, text, options);
      this.trying(place, () => cut.push({ place, prompt: within(CUT_MS, make) }));
      yield ++tried % CUT_TOGETHER === 0 ? 'between' : 'within';
    }
    const context = contextLength(options, model.config.contextLength);
    for (const each of cut) {
      this.trying(each.place, () => {
        checkPrompt(each.prompt.ids, context);
        this.waiting.push(each);
      });
      yield 'within';
    }
    if (this.waiting.length === 0) return { answered: true };
    if (options.numPredict !== 0) model.checkWrites();
    if (cut.length > 1) {
      const prompts = this.waiting.map(({ prompt }) => prompt.ids);
      this.beginning = yield* SharedBeginning.read(model, String(client.role), prompts, options.cache);
    }
    ready();
    return null;
  }

  /** Begin to answer the next prompt. */
  beginNext(scheduler: Scheduler): void {
    const { place, prompt } = this.waiting.shift()!;
    const { used, facts, client, grammars, options, beginning } = this;
    const { prompts, seeds, wantsRun } = client.request;
    const request = {
      ...client.request,
      grammar: null,
      input: { prompt: prompts[place]! },
      logprobs: wantsRun,
      wantsSteps: false,
      showsLogprobs: false,
    };
    const own = { ...options, sampler: { ...options.sampler, seed: seeds[place]! } };
    try {
      const told: Client = {
        ...client,
        request,
        since: Date.now(), // it waits for those before it by the caller's own doing
        reply: (message) => this.hear(place, message),
        note: (noted) => this.note(place, noted),
      };
      const serving = new Serving(used, facts, told, grammars, { options: own, prompt, beginning });
      this.answering.set(place, { serving, scheduler });
      scheduler.add(serving);
    } catch (error) {
      this.hear(place, failure(error));
    }
  }

  /** Nobody waits for it any more. */
  leave(): void {
    this.isOver = true;
    this.waiting = [];
    for (const { serving, scheduler } of this.answering.values()) scheduler.remove(serving);
    this.answering.clear();
    this.beginning?.close();
    this.beginning = null;
  }

  /** Do what may be wrong with the prompt at this place. */
  private trying(place: number, work: () => void): void {
    try {
      work();
    } catch (error) {
      const message = failure(error);
      if (!('error' in message)) throw error;
      this.refuse(place, message);
    }
  }

  /** Tell of a prompt that cannot be answered. Throws where that is to end the call. */
  private refuse(place: number, { error }: Extract<LastMessage, { error: unknown }>): void {
    const { client } = this;
    if (client.request.onError === 'error') throw placed('prompt', place, receivedError(error));
    client.send({ place, answer: null });
  }

  /** How the answer to a prompt came to its end. */
  private hear(place: number, message: LastMessage): void {
    if (this.isOver) return;
    this.answering.delete(place);
    this.noted.delete(place);
    try {
      if ('error' in message) this.refuse(place, message);
      else if ('answer' in message) this.client.send({ place, answer: message.answer });
      else this.end(message);
    } catch (error) {
      this.end(failure(error));
    }
    if (!this.isOver && this.waiting.length + this.answering.size === 0) this.end({ answered: true });
  }

  private end(message: LastMessage): void {
    this.leave();
    this.client.reply(message);
  }

  /** Others see of the request what its prompts come to together. */
  private note(place: number, noted: RequestFacts): void {
    const { sum } = this;
    const before = this.noted.get(place) ?? newRequestFacts();
    for (const name of ['place', 'promptTokens', 'reusedTokens', 'generatedTokens'] as const)
      sum[name] += noted[name] - before[name];
    if (sum.firstTokenAt === 0) sum.firstTokenAt = noted.firstTokenAt;
    this.noted.set(place, { ...noted });
    this.client.note({ ...sum, place: Math.min(1, sum.place) });
  }
}

/** Prompts that are being made ready. */
export class ManyJob extends PieceJob {
  protected readonly pieces: Generator<Pause, LastMessage | null>;

  constructor(id: number, client: Client<ManyRequest>, used: UsedModel, many: Many, ready: () => void) {
    super(id, client, used, lengthOfTexts(client.request.prompts));
    this.pieces = many.prepare(ready);
  }
}
