/** Answers over HTTP: whole ones, and streams that end with the client. */
import type { Context } from 'hono';
import type { AnswerFacts, AnswerRequest, AnswerToken } from '../answer/backend.ts';
import type { Backends, Lease } from './backends.ts';
import type { HttpError } from './errors.ts';
import { asHttpError, isBroken } from './errors.ts';
import { NOTICE_HEADER } from './fields.ts';
import type { AnswerTimer } from './metrics.ts';
import { requestText } from './request.ts';

/** Milliseconds that a client may take to read what was sent before it counts as gone. */
const SLOW_READER_MS = 60_000;

export interface WholeAnswer {
  tokens: AnswerToken[];
  facts: AnswerFacts;
}

/** An answer that has begun: the backend has accepted the request and written the first token. */
interface BegunAnswer {
  tokens: AsyncGenerator<AnswerToken, AnswerFacts>;
  first: IteratorResult<AnswerToken, AnswerFacts>;
  lease: Lease;
  timer: AnswerTimer;
}

async function begin(c: Context, pool: Backends, request: AnswerRequest, signal: AbortSignal): Promise<BegunAnswer> {
  const timer = pool.metrics.startAnswer();
  const lease = await pool.lease(requestText(request), signal);
  try {
    const tokens = lease.backend.answer(request, signal);
    const first = await tokens.next();
    if (first.done !== true) timer.firstToken();
    for (const notice of lease.backend.notices) c.header(NOTICE_HEADER, headerText(notice), { append: true });
    return { tokens, first, lease, timer };
  } catch (error) {
    if (isBroken(error)) lease.broken();
    lease.release();
    throw error;
  }
}

/** As a header can hold it. */
function headerText(text: string): string {
  return text.replace(/[^ -~]/gu, encodeURIComponent);
}

/** The whole answer to a request. */
export async function wholeAnswer(c: Context, pool: Backends, request: AnswerRequest): Promise<WholeAnswer> {
  const { tokens, first, lease, timer } = await begin(c, pool, request, c.req.raw.signal);
  const written: AnswerToken[] = [];
  try {
    let next = first;
    while (next.done !== true) {
      written.push(next.value);
      next = await tokens.next();
    }
    timer.done(next.value);
    return { tokens: written, facts: next.value };
  } catch (error) {
    if (isBroken(error)) lease.broken();
    throw error;
  } finally {
    lease.release();
  }
}

/** How an answer is put on the wire. */
export interface Wire {
  contentType: string;
  /** Before the first token. */
  begin(): string;
  /** For a token; empty when it has nothing to say. */
  token(token: AnswerToken): string;
  end(facts: AnswerFacts): string;
  /** In place of the rest, when something fails after the beginning was sent. */
  error(error: HttpError): string;
}

/**
 * A response that is written while the model writes. What is wrong with the request is known before the first byte
 * goes out, and is thrown. When the client leaves, the statement that works for it is cancelled.
 */
export async function streamedAnswer(
  c: Context,
  pool: Backends,
  request: AnswerRequest,
  wire: Wire,
): Promise<Response> {
  const gone = new AbortController();
  const { signal } = c.req.raw;
  if (signal.aborted) gone.abort();
  signal.addEventListener('abort', () => gone.abort(), { once: true });
  const { tokens, first, lease, timer } = await begin(c, pool, request, gone.signal);
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const encoder = new TextEncoder();
  const left = aborted(gone.signal);
  left.catch(() => undefined);
  const send = async (text: string): Promise<void> => {
    if (text === '') return;
    const timer = setTimeout(() => gone.abort(), SLOW_READER_MS);
    try {
      await Promise.race([writer.write(encoder.encode(text)), left]);
    } finally {
      clearTimeout(timer);
    }
  };
  const write = async (): Promise<void> => {
    try {
      await send(wire.begin());
      let next = first;
      while (next.done !== true) {
        await send(wire.token(next.value));
        next = await tokens.next();
      }
      timer.done(next.value);
      await send(wire.end(next.value));
    } catch (error) {
      if (isBroken(error) && !gone.signal.aborted) lease.broken();
      await send(wire.error(asHttpError(error))).catch(() => undefined);
    } finally {
      // A reader that left keeps the answer from its end: it is closed in the database as well.
      await tokens.return(undefined as never).catch(() => lease.broken());
      lease.release();
      await writer.close().catch(() => undefined);
    }
  };
  // When the reader cancels, the writer's promises fail.
  writer.closed.catch(() => gone.abort());
  void write();
  return c.body(readable, 200, { 'Content-Type': wire.contentType, 'Cache-Control': 'no-cache' });
}

/** Rejects when the signal aborts. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const fail = (): void => reject(new Error('the client left'));
    if (signal.aborted) fail();
    else signal.addEventListener('abort', fail, { once: true });
  });
}
