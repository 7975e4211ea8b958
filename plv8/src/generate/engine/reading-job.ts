/** Texts of a request that an engine reads and does not answer: embeddings, scores by a classifier, and how likely labels are. */
import type { UsedModel } from '../../backend/registry.ts';
import { within } from '../../db.ts';
import type { Scores } from '../../embed/cross-encoder.ts';
import { classifyInPieces, scoreInPieces } from '../../embed/cross-encoder.ts';
import { embedInPieces } from '../../embed/embedding.ts';
import type { EmbeddingOptions } from '../../embed/embedding-options.ts';
import { parseEmbeddingOptions } from '../../embed/embedding-options.ts';
import { rankedKinds } from '../../embed/prefixes.ts';
import { encodeBase64 } from '../../format/base64.ts';
import { parseJson } from '../../format/ordered-json.ts';
import type { Pause } from '../../model/pause.ts';
import type { Question } from '../classify.ts';
import { scoreLabels } from '../classify.ts';
import type { EngineFacts } from './facts.ts';
import type { LastMessage, Reading, ReadingRequest } from './messages.ts';
import { readingLength } from './messages.ts';
import { PieceJob } from './piece-job.ts';
import type { Client } from './serving.ts';
import { limitedOptions } from './serving.ts';

/** Milliseconds in which one text has to be cut into tokens; else its caller does it all. */
const CUT_MS = 200;

/** Tokens of short texts that go together, so that another's turn comes soon. */
const TOGETHER = 512;

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
export class ReadingJob extends PieceJob {
  protected readonly pieces: Generator<Pause, LastMessage>;

  constructor(
    id: number,
    private readonly asked: Client<ReadingRequest>,
    used: UsedModel,
    private readonly facts: EngineFacts,
  ) {
    const { reading, options } = asked.request;
    super(id, asked, used, readingLength(reading));
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
    const options = limitedOptions(used, this.asked.request, given, null);
    const how = { wantsRun, turn: TOGETHER, cut };
    const { scores, run } = yield* scoreLabels(used, String(client.role), question, options, how);
    facts.promptTokens += this.rows;
    const { model } = used.entry;
    return { labelled: { scores: sentScores(scores), run, heldAs: model.precision, loadNs: used.loadNs } };
  }
}
