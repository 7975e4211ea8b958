/** HTTP requests of downloads: redirects followed by hand, tokens fetched when a server asks for one. */
import { brief, quoted } from '../../../plv8/src/format/visible-text.ts';
import { CommandError } from '../../errors.ts';
import { chunksOf } from './chunks.ts';

const MAX_REDIRECTS = 10;
/** Answers of servers other than the files themselves: manifests and lists. */
const MAX_TEXT_BYTES = 4 << 20;
/** A server has to begin its answer within this. */
const ANSWER_MS = 30_000;

export type Headers = Record<string, string>;

/** The server's answer to a request that ended with an error status. */
export class HttpError extends CommandError {
  constructor(
    readonly status: number,
    message: string,
    hint?: string,
  ) {
    super(message, hint === undefined ? {} : { hint });
  }
}

export function reasonOf(error: unknown): string {
  const cause = (error as { cause?: { code?: string; message?: string } }).cause;
  return cause?.code ?? cause?.message ?? (error instanceof Error ? error.message : String(error));
}

async function send(url: string, headers: Headers, signal: AbortSignal | undefined): Promise<Response> {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(new Error(`no answer in ${ANSWER_MS / 1000} s`)), ANSWER_MS);
  try {
    const signals = signal === undefined ? [timeout.signal] : [timeout.signal, signal];
    return await fetch(url, { headers, redirect: 'manual', signal: AbortSignal.any(signals) });
  } catch (cause) {
    if (signal?.aborted === true) throw cause;
    throw new CommandError(`${new URL(url).origin} cannot be reached: ${reasonOf(cause)}`, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** Bearer token that a `WWW-Authenticate: Bearer realm=...` challenge offers to anybody; null when it is no such one. */
async function tokenOf(
  challenge: string | null,
  from: string,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  const fields = new Map([...(challenge ?? '').matchAll(/(\w+)="([^"]*)"/g)].map((match) => [match[1], match[2]]));
  const realm = fields.get('realm');
  if (!/^bearer /i.test(challenge ?? '') || realm === undefined || !URL.canParse(realm, from)) return null;
  const url = new URL(realm, from);
  for (const name of ['service', 'scope']) {
    const value = fields.get(name);
    if (value !== undefined) url.searchParams.set(name, value);
  }
  const response = await send(url.toString(), {}, signal);
  if (!response.ok) return null;
  let answer: { token?: unknown; access_token?: unknown } | null;
  try {
    answer = JSON.parse(await readText(response, url.toString(), signal)) as typeof answer;
  } catch {
    return null;
  }
  const token = answer?.token ?? answer?.access_token;
  return typeof token === 'string' ? token : null;
}

export interface Answer {
  response: Response;
  /** Where the redirects led. */
  url: string;
  /** Headers that this address may be asked with again; a token stays with the server it is for. */
  headers: Headers;
  /** Headers of all answers on the way, the first to name one wins. */
  seen: Map<string, string>;
}

/** GET with redirects and at most one token; throws HttpError for an error status. */
export async function request(start: string, given: Headers = {}, signal?: AbortSignal): Promise<Answer> {
  let url = start;
  let headers = given;
  const seen = new Map<string, string>();
  let asked = false;
  for (let step = 0; step <= MAX_REDIRECTS; step++) {
    const response = await send(url, headers, signal);
    response.headers.forEach((value, name) => {
      if (!seen.has(name)) seen.set(name, value);
    });
    const location = response.headers.get('location');
    if (response.status >= 300 && response.status < 400 && location !== null) {
      await response.body?.cancel();
      if (!URL.canParse(location, url)) throw new CommandError(`${brief(url)} redirects to ${quoted(location)}`);
      const next = new URL(location, url);
      if (next.protocol !== 'https:' && next.protocol !== new URL(start).protocol)
        throw new CommandError(`${brief(url)} redirects to ${next.protocol}//${brief(next.host)}`);
      if (next.origin !== new URL(url).origin)
        headers = Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'authorization'));
      url = next.toString();
      continue;
    }
    if (response.status === 401 && !asked) {
      asked = true;
      await response.body?.cancel();
      const token = await tokenOf(response.headers.get('www-authenticate'), url, signal);
      if (token !== null) {
        headers = { ...headers, authorization: `Bearer ${token}` };
        continue;
      }
    }
    if (response.status >= 400 && response.status !== 416) {
      await response.body?.cancel();
      const refused = response.status === 401 || response.status === 403;
      throw new HttpError(
        response.status,
        `${brief(start)} answers ${response.status}${response.statusText === '' ? '' : ` ${brief(response.statusText)}`}`,
        refused ? 'a model that asks for a login needs a token: set HF_TOKEN' : undefined,
      );
    }
    return { response, url, headers, seen };
  }
  throw new CommandError(`${brief(start)} redirects more than ${MAX_REDIRECTS} times`);
}

async function readText(response: Response, url: string, signal: AbortSignal | undefined): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const part of chunksOf(response)) {
      bytes += part.length;
      if (bytes > MAX_TEXT_BYTES) throw new CommandError(`${brief(url)} answers more than ${MAX_TEXT_BYTES} bytes`);
      parts.push(part);
    }
  } catch (cause) {
    if (cause instanceof CommandError || signal?.aborted === true) throw cause;
    throw new CommandError(`${brief(url)} broke off: ${reasonOf(cause)}`, { cause });
  }
  return Buffer.concat(parts).toString('utf8');
}

/** A small answer as text. */
export async function requestText(url: string, headers: Headers = {}, signal?: AbortSignal): Promise<string> {
  const { response } = await request(url, headers, signal);
  return readText(response, url, signal);
}
