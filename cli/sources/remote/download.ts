/** Downloads of one file: in parallel ranges, resumed after a break, moved to its place once its digest is right. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommandError } from '../../errors.ts';
import { reasonOf, request } from './request.ts';
import type { Headers } from './request.ts';

const PART_BYTES = 64 << 20;
const CONNECTIONS = 4;
/** Attempts in a row that bring nothing before a download is given up. */
const ATTEMPTS = 5;
const PAUSE_MS = 200;
/** What a part has is noted after this many bytes. */
const NOTE_BYTES = 8 << 20;
const READ_BYTES = 4 << 20;

export interface DownloadOptions {
  headers?: Headers;
  /** Hex digest that the file must have: SHA-256, or git's SHA-1 of a blob. Taken from the server where it states one. */
  sha256?: string;
  onBytes?(done: number, total: number): void;
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

interface Remote {
  url: string;
  headers: Headers;
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
  const etag = (seen.get('x-linked-etag') ?? seen.get('etag') ?? '').replace(/^W\//, '').replaceAll('"', '');
  return {
    url: answer.url,
    headers,
    size: size === undefined || size === null ? null : Number(size),
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
  if (remote.ranges && response.status !== 206)
    throw new CommandError(
      `${remote.url} answers ${response.status} to a request for bytes ${from} to ${part.end - 1}`,
    );
  for await (const chunk of response.body ?? []) {
    const bytes = chunk as Uint8Array;
    if (part.start + part.done + bytes.length > part.end)
      throw new CommandError(`${remote.url} sends more than the ${part.end - from} bytes it announced`);
    await file.write(bytes, 0, bytes.length, part.start + part.done);
    part.done += bytes.length;
    await onBytes(bytes.length);
  }
  if (Number.isFinite(part.end) && part.start + part.done < part.end) throw new Error('connection closed early');
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
      failures = part.done > before && remote.ranges ? 1 : failures + 1;
      if (failures >= ATTEMPTS)
        throw new CommandError(`${remote.url} broke off at byte ${part.start + part.done}: ${reasonOf(cause)}`, {
          hint: 'the same command goes on from here',
          cause,
        });
      if (!remote.ranges) part.done = 0;
      await sleep(PAUSE_MS * failures);
    }
  }
}

/** SHA-256 of a file, and git's SHA-1 of it as a blob. */
async function digestsOf(path: string, size: number): Promise<{ sha256: string; git: string }> {
  const sha256 = createHash('sha256');
  const git = createHash('sha1').update(`blob ${size}\0`);
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, null);
      if (bytesRead === 0) break;
      sha256.update(buffer.subarray(0, bytesRead));
      git.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
  return { sha256: sha256.digest('hex'), git: git.digest('hex') };
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
    options.onBytes?.(done, remote.size ?? done);
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
  } finally {
    await note();
    await file.sync();
    await file.close();
  }
  const size = parts.reduce((sum, part) => sum + part.done, 0);
  const found = await digestsOf(partial, size);
  const stated = options.sha256 ?? (/^[0-9a-f]{64}$|^[0-9a-f]{40}$/.test(remote.etag ?? '') ? remote.etag : null);
  if (stated !== null && stated !== found.sha256 && stated !== found.git) {
    await rm(partial, { force: true });
    await rm(`${partial}.json`, { force: true });
    throw new CommandError(`${url} has SHA-256 ${found.sha256}, expected ${stated}`, {
      hint: 'what was downloaded is removed; run the command again',
    });
  }
  await rename(partial, path);
  await rm(`${partial}.json`, { force: true });
}
