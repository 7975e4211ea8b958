/**
 * Texts that an engine reads and does not answer: embeddings, scores by a classifier, and how likely labels are. They are computed in pieces between the
 * passes of answers, one request after the other, those of different roles by turns.
 */
import type { UsedModel } from '../../backend/registry.ts';
import { evaluatedTokens } from '../../backend/registry.ts';
import type { EngineHost } from '../../db.ts';
import { TookTooLong, within } from '../../db.ts';
import type { Scores } from '../../embed/cross-encoder.ts';
import { classifyInPieces, scoreInPieces } from '../../embed/cross-encoder.ts';
import { embedInPieces } from '../../embed/embedding.ts';
import type { EmbeddingOptions } from '../../embed/embedding-options.ts';
import { parseEmbeddingOptions } from '../../embed/embedding-options.ts';
import { rankedKinds } from '../../embed/prefixes.ts';
import { encodeBase64 } from '../../format/base64.ts';
import { parseJson } from '../../format/ordered-json.ts';
import type { Model } from '../../model/model.ts';
import type { Pause } from '../../model/pause.ts';
import type { Question } from '../classify.ts';
import { scoreLabels } from '../classify.ts';
import type { EngineFacts } from './facts.ts';
import { newRequestFacts } from './facts.ts';
import type { LastMessage, Reading, ReadingRequest } from './messages.ts';
import { failure, readingLength } from './messages.ts';
import type { Client } from './serving.ts';
import { limitedOptions } from './serving.ts';
import { Turns } from './turns.ts';

/** Milliseconds in which one text has to be cut into tokens; else its caller does it all. */
const CUT_MS = 200;

/** Tokens of short texts that go together, so that another's turn comes soon. */
const TOGETHER = 512;

/** Characters of all texts that wait or are read. */
const MAX_LENGTH = 4_000_000;

function cut<Result>(work: () => Result): Result {
  return within(CUT_MS, work);
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array | Float64Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** 0 for those that mean nothing. */
function sentScores(scores: readonly (number | null)[]): string {
  return encodeBase64(bytesOf(Float64Array.from(scores, (score) => score ?? 0)));
}

/** One request. */
class ReadingJob {
  private readonly pieces: Generator<Pause, LastMessage>;
  readonly length: number;
  /** Tokens that were evaluated so far. */
  private rows = 0;

  constructor(
    readonly id: number,
    readonly client: Client<ReadingRequest>,
    readonly used: UsedModel,
    private readonly facts: EngineFacts,
  ) {
    const { reading, options } = client.request;
    this.length = readingLength(reading);
    this.pieces = this.piecesOf(reading, parseJson(options) as Record<string, unknown>);
  }

  /** What it reads of the tables it reads at once, while the engine waits for no lock. */
  private piecesOf(reading: Reading, given: Record<string, unknown>): Generator<Pause, LastMessage> {
    if ('asked' in reading) return this.label(reading.asked, reading.wantsRun, given);
    const options = parseEmbeddingOptions(given);
    if ('embed' in reading) return this.embed(reading.embed, reading.ranked, options);
    const ranker = { used: this.used, options };
    const more = { together: TOGETHER, cut };
    return this.scored(
      'documents' in reading
        ? scoreInPieces(ranker, reading.query, reading.documents, more)
        : classifyInPieces(ranker, reading.text, reading.labels, reading.question, more),
    );
  }

  /** Compute a piece; its last message, or how it pauses. */
  next(): LastMessage | Pause {
    const before = evaluatedTokens();
    const { value } = this.pieces.next();
    const rows = evaluatedTokens() - before;
    if (rows > 0) {
      this.rows += rows;
      this.client.send({ rows });
      this.client.note(Object.assign(newRequestFacts(), { place: 1, promptTokens: this.rows }));
    }
    return value;
  }

  close(): void {
    this.pieces.return({ unseen: true });
  }

  private *embed(
    texts: readonly (string | null)[],
    ranked: boolean,
    options: EmbeddingOptions,
  ): Generator<Pause, LastMessage> {
    const { client, used, facts } = this;
    const kinds = ranked ? rankedKinds : undefined;
    const task = { texts, options, kinds, owner: String(client.role), together: TOGETHER, cut };
    const embedded = yield* embedInPieces(used, task, (places, came) => {
      if (typeof came === 'string') client.send({ places, failed: came });
      else {
        const { tokens, length } = came;
        client.send({ places, vector: encodeBase64(bytesOf(Float32Array.from(came.embedding))), tokens, length });
      }
    });
    facts.promptTokens += embedded.reused + embedded.computed;
    facts.reusedTokens += embedded.reused;
    return { embedded };
  }

  private *scored(pieces: Generator<Pause, Scores>): Generator<Pause, LastMessage> {
    const { facts } = this;
    const { scores, texts, tokens } = yield* pieces;
    facts.promptTokens += tokens;
    const failed = [...scores.keys()].filter((i) => scores[i] === null);
    return { scored: { scores: sentScores(scores), failed, texts, tokens } };
  }

  private *label(question: Question, wantsRun: boolean, given: Record<string, unknown>): Generator<Pause, LastMessage> {
    const { client, used, facts } = this;
    const options = limitedOptions(used, client.request, given, null);
    const how = { wantsRun, turn: TOGETHER, cut };
    const { scores, run } = yield* scoreLabels(used, String(client.role), question, options, how);
    facts.promptTokens += this.rows;
    const { model } = used.entry;
    return { labelled: { scores: sentScores(scores), run, heldAs: model.precision, loadNs: used.loadNs } };
  }
}

/** The requests of an engine that are read. */
export class Readings {
  /** Whose turn is next first; the first one may stand within its texts. */
  private waiting: ReadingJob[] = [];
  private isWithin = false;
  private readonly turns = new Turns();

  constructor(private readonly facts: EngineFacts) {}

  get size(): number {
    return this.waiting.length;
  }

  uses(model: Model): boolean {
    return this.waiting.some(({ used }) => used.entry.model === model);
  }

  /** Throws TookTooLong where there is so much that its turn would come late. */
  add(id: number, client: Client<ReadingRequest>, used: UsedModel): void {
    const job = new ReadingJob(id, client, used, this.facts);
    const length = this.waiting.reduce((sum, other) => sum + other.length, job.length);
    if (length > MAX_LENGTH) throw new TookTooLong('too many texts wait');
    this.waiting.push(job);
  }

  /** Let go of requests that nobody waits for any more; those are told nothing. */
  letGo(host: EngineHost): void {
    for (const job of this.waiting.filter(({ id }) => host.gone(id))) {
      this.leave(job);
      host.finish(job.id);
    }
  }

  /** Compute pieces until this time, one at least where there is any. */
  run(until: number): void {
    do {
      if (this.waiting.length === 0) return;
      if (!this.isWithin) this.turn();
      this.step(this.waiting[0]!);
    } while (Date.now() < until);
  }

  /** Bring the one whose turn it is to the front. */
  private turn(): void {
    this.waiting.unshift(this.turns.take(this.waiting, ({ client }) => client));
  }

  private step(job: ReadingJob): void {
    const { client } = job;
    try {
      const came = job.next();
      if (typeof came !== 'string') {
        this.leave(job);
        this.facts.answers++;
        client.reply(came);
        return;
      }
      this.isWithin = came === 'within';
      if (!this.isWithin && this.waiting.length > 1) this.waiting.push(this.waiting.shift()!);
    } catch (error) {
      this.leave(job);
      client.reply(failure(error));
    }
  }

  private leave(job: ReadingJob): void {
    if (this.waiting[0] === job) this.isWithin = false;
    this.waiting = this.waiting.filter((other) => other !== job);
    job.close();
  }
}
