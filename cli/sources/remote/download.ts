/** Downloads of one file: in parallel ranges, resumed after a break, moved to its place once its digest is right. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { brief } from '../../../plv8/src/format/visible-text.ts';
import { CommandError } from '../../errors.ts';
import { chunksOf, LEAST_BYTES } from './chunks.ts';
import { reasonOf, request } from './request.ts';
import type { Headers } from './request.ts';

const PART_BYTES = 64 << 20;
const CONNECTIONS = 4;
/** Attempts in a row that bring nothing before a download is given up. */
const ATTEMPTS = 5;
/** Most of a file whose size nobody states. */
const MAX_UNSTATED_BYTES = 64 << 20;
const PAUSE_MS = 200;
/** What a part has is noted after this many bytes. */
const NOTE_BYTES = 8 << 20;
const READ_BYTES = 4 << 20;

export interface DownloadOptions {
  headers?: Headers;
  /** Hex digest that the file must have: SHA-256, or git's SHA-1 of a blob. Taken from the server where it states one. */
  sha256?: string;
  /** Bytes that the file must have. Taken from the server where it states them. */
  size?: number;
  onBytes?(done: number, total: number): void;
  /** Called while the digest of a file of several parts is taken. */
  onCheck?(done: number, total: number): void;
  signal?: AbortSignal;
  partBytes?: number;
}

interface Part {
  start: number;
  end: number;
  done: number;
}

interface Progress {
  size: number;
  /** What tells whether the server's file is still the same. */
  identity: string;
  parts: Part[];
}

/** A server that sends something else than was asked for: nothing of it is kept. */
class WrongContent extends CommandError {}

interface Remote {
  url: string;
  headers: Headers;
  /** Null where nobody states it. */
  size: number | null;
  ranges: boolean;
  etag: string | null;
}

/** Ask for the first byte: that tells size, digest, and whether ranges are served. */
async function inspect(url: string, options: DownloadOptions): Promise<Remote> {
  const answer = await request(
    url,
    { ...options.headers, range: 'bytes=0-0', 'accept-encoding': 'identity' },
    options.signal,
  );
  const { response, seen } = answer;
  const total = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
  const length = response.headers.get('content-length');
  const size = response.status === 206 || response.status === 416 ? total : length;
  await response.body?.cancel();
  const headers = Object.fromEntries(Object.entries(answer.headers).filter(([name]) => name !== 'range'));
  const stated = options.size ?? Number(seen.get('x-linked-size') ?? NaN);
  const served = size === undefined || size === null ? NaN : Number(size);
  if (!Number.isNaN(stated) && !Number.isNaN(served) && stated !== served)
    throw new WrongContent(`${brief(url)} has ${served} bytes, expected ${stated}`);
  const known = Number.isNaN(stated) ? served : stated;
  const etag = (seen.get('x-linked-etag') ?? seen.get('etag') ?? '').replace(/^W\//, '').replaceAll('"', '');
  return {
    url: answer.url,
    headers,
    size: Number.isNaN(known) ? null : known,
    ranges: response.status === 206,
    etag: etag === '' ? null : etag,
  };
}

async function readProgress(path: string, remote: Remote, identity: string): Promise<Progress | null> {
  if (!remote.ranges || remote.size === null || !existsSync(path)) return null;
  try {
    const noted = JSON.parse(await readFile(`${path}.json`, 'utf8')) as Progress;
    const whole = noted.parts.every(
      (part, i) =>
        part.start === (noted.parts[i - 1]?.end ?? 0) && part.done >= 0 && part.start + part.done <= part.end,
    );
    const usable = noted.size === remote.size && noted.identity === identity && whole;
    return usable && noted.parts.at(-1)?.end === remote.size ? noted : null;
  } catch {
    return null;
  }
}

function cut(size: number, partBytes: number): Part[] {
  const parts: Part[] = [];
  for (let start = 0; start < size; start += partBytes)
    parts.push({ start, end: Math.min(size, start + partBytes), done: 0 });
  return parts;
}

/** Fetch what a part lacks; throws where the connection breaks. */
async function fetchPart(
  remote: Remote,
  part: Part,
  file: FileHandle,
  signal: AbortSignal,
  onBytes: (bytes: number) => Promise<void>,
): Promise<void> {
  const from = part.start + part.done;
  const range = remote.ranges ? { range: `bytes=${from}-${part.end - 1}` } : {};
  const { response } = await request(
    remote.url,
    { ...remote.headers, ...range, 'accept-encoding': 'identity' },
    signal,
  );
  if (remote.ranges && response.status !== 206) {
    await response.body?.cancel();
    throw new CommandError(
      `${brief(remote.url)} answers ${response.status} to a request for bytes ${from} to ${part.end - 1}`,
    );
  }
  const most = Math.min(part.end, remote.size ?? MAX_UNSTATED_BYTES);
  for await (const bytes of chunksOf(response)) {
    if (part.start + part.done + bytes.length > most)
      throw new WrongContent(
        `${brief(remote.url)} sends more than ${most - from} bytes${remote.size === null ? ' and does not state how many' : `, expected ${most - from}`}`,
      );
    await file.write(bytes, 0, bytes.length, part.start + part.done);
    part.done += bytes.length;
    await onBytes(bytes.length);
  }
  if (Number.isFinite(part.end) && part.start + part.done < part.end)
    throw new Error(`it ended after ${part.done} of ${part.end - part.start} bytes`);
}

/** Fetch a part, again and again while every attempt brings something. */
async function completePart(
  remote: Remote,
  part: Part,
  file: FileHandle,
  signal: AbortSignal,
  onBytes: (bytes: number) => Promise<void>,
): Promise<void> {
  for (let failures = 0; ;) {
    const before = part.done;
    try {
      return await fetchPart(remote, part, file, signal, onBytes);
    } catch (cause) {
      if (signal.aborted || cause instanceof CommandError) throw cause;
      failures = part.done >= before + LEAST_BYTES && remote.ranges ? 1 : failures + 1;
      if (failures >= ATTEMPTS)
        throw new CommandError(`${brief(remote.url)} broke off at byte ${part.start + part.done}: ${reasonOf(cause)}`, {
          hint: 'the same command goes on from here',
          cause,
        });
      if (!remote.ranges) part.done = 0;
      await sleep(PAUSE_MS * failures);
    }
  }
}

/** SHA-256 of a file, and git's SHA-1 of it as a blob. */
async function digestsOf(
  path: string,
  size: number,
  onCheck: (done: number) => void,
): Promise<{ sha256: string; git: string }> {
  const sha256 = createHash('sha256');
  const git = createHash('sha1').update(`blob ${size}\0`);
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (let done = 0; ;) {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, null);
      if (bytesRead === 0) break;
      sha256.update(buffer.subarray(0, bytesRead));
      git.update(buffer.subarray(0, bytesRead));
      onCheck((done += bytesRead));
    }
  } finally {
    await file.close();
  }
  return { sha256: sha256.digest('hex'), git: git.digest('hex') };
}

async function discard(partial: string): Promise<void> {
  await rm(partial, { force: true });
  await rm(`${partial}.json`, { force: true });
}

/** Download to `path`. A digest that is wrong removes what was fetched; a break keeps it for the next call. */
export async function download(url: string, path: string, options: DownloadOptions = {}): Promise<void> {
  const remote = await inspect(url, options);
  const partial = `${path}.partial`;
  const identity = options.sha256 ?? remote.etag ?? '';
  await mkdir(dirname(path), { recursive: true });
  const noted = await readProgress(partial, remote, identity);
  const parts =
    noted?.parts ??
    (remote.ranges && remote.size !== null
      ? cut(remote.size, options.partBytes ?? PART_BYTES)
      : [{ start: 0, end: remote.size ?? Infinity, done: 0 }]);
  const file = await open(partial, noted === null ? 'w' : 'r+');
  let done = parts.reduce((sum, part) => sum + part.done, 0);
  let unnoted = 0;
  let noting = Promise.resolve();
  let wrong = false;
  const note = (): Promise<void> => {
    unnoted = 0;
    return (noting = noting.then(write));
  };
  const write = async (): Promise<void> => {
    if (remote.ranges && remote.size !== null)
      await writeFile(`${partial}.json`, JSON.stringify({ size: remote.size, identity, parts } satisfies Progress));
  };
  const onBytes = async (bytes: number): Promise<void> => {
    done += bytes;
    if (remote.size !== null) options.onBytes?.(done, remote.size);
    unnoted += bytes;
    if (unnoted >= NOTE_BYTES) await note();
  };
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([stop.signal, options.signal]);
  const queue = parts.filter((part) => part.start + part.done < part.end);
  const work = async (): Promise<void> => {
    for (let part = queue.shift(); part !== undefined; part = queue.shift())
      await completePart(remote, part, file, signal, onBytes);
  };
  try {
    const workers = Array.from({ length: Math.min(CONNECTIONS, queue.length) }, () =>
      work().catch((error: unknown) => {
        stop.abort(error);
        throw error;
      }),
    );
    const ended = await Promise.allSettled(workers);
    const failed = ended.filter((each) => each.status === 'rejected').map((each) => each.reason as unknown);
    if (failed.length > 0) throw failed.find((each) => each instanceof CommandError) ?? failed[0];
  } catch (error) {
    if (error instanceof WrongContent) wrong = true;
    throw error;
  } finally {
    await note();
    await file.sync();
    await file.close();
    if (wrong) await discard(partial);
  }
  const size = parts.reduce((sum, part) => sum + part.done, 0);
  const found = await digestsOf(partial, size, (checked) => {
    if (parts.length > 1) options.onCheck?.(checked, size);
  });
  const stated = options.sha256 ?? (/^[0-9a-f]{64}$|^[0-9a-f]{40}$/.test(remote.etag ?? '') ? remote.etag : null);
  if (stated !== null && stated !== found.sha256 && stated !== found.git) {
    await discard(partial);
    throw new CommandError(`${brief(url)} has SHA-256 ${found.sha256}, expected ${stated}`, {
      hint: 'what was downloaded is removed; run the command again',
    });
  }
  await rename(partial, path);
  await rm(`${partial}.json`, { force: true });
}
