/** A local server that speaks what registries and hubs speak: manifests, blobs, redirects, tokens, ranges, breaks. */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export class ModelServer {
  /** What is served, by path. */
  readonly files = new Map<string, Buffer>();
  /** Path -> path on the second server, which is another origin. */
  readonly redirects = new Map<string, string>();
  /** Requests as they came: method, path, range. */
  readonly log: string[] = [];
  /** Authorization headers that the second server saw; there should be none. */
  readonly leaked: string[] = [];
  /** Cut this many answers after `cutAt` bytes. */
  cuts = 0;
  cutAt = 1000;
  /** Leave this many answers with files open after `cutAt` bytes, as if nothing more came. */
  stalls = 0;
  /** Blobs come without their length, and so many bytes after their end. */
  surplus: number | null = null;
  ranges = true;
  /** Bytes of the surplus that were sent. */
  sent = 0;
  /** Ask for this bearer token; clients get it from /token. */
  token: string | null = null;
  /** Name git's or LFS's digest as hubs do. */
  linkedDigests = false;
  private servers: Server[] = [];
  private urls: string[] = [];

  async start(): Promise<void> {
    for (const second of [false, true]) {
      const server = createServer((request, response) => this.answer(request, response, second));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      this.servers.push(server);
      this.urls.push(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    }
  }

  get url(): string {
    return this.urls[0]!;
  }

  async stop(): Promise<void> {
    for (const server of this.servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** A model as a registry has it; the digest of its manifest's layers. */
  addOllama(path: string, tag: string, layers: { kind: string; bytes: Buffer }[], corrupt = false): void {
    const listed = layers.map(({ kind, bytes }) => {
      const digest = createHash('sha256').update(bytes).digest('hex');
      const served = Buffer.from(bytes);
      if (corrupt) served[served.length - 1]! ^= 1;
      this.files.set(`/cdn/${digest}`, served);
      this.redirects.set(`/v2/${path}/blobs/sha256:${digest}`, `/cdn/${digest}`);
      return { mediaType: `application/vnd.ollama.image.${kind}`, digest: `sha256:${digest}`, size: bytes.length };
    });
    this.files.set(`/v2/${path}/manifests/${tag}`, Buffer.from(JSON.stringify({ schemaVersion: 2, layers: listed })));
  }

  private answerWithoutLength(response: ServerResponse, body: Buffer, surplus: number): void {
    response.writeHead(200);
    const more = (left: number): void => {
      const piece = Buffer.alloc(Math.min(left, 1 << 16));
      this.sent += piece.length;
      if (left === 0 || response.destroyed) return void response.end();
      response.write(piece, () => more(left - piece.length));
    };
    response.write(body, () => more(surplus));
  }

  private answer(request: IncomingMessage, response: ServerResponse, second: boolean): void {
    const path = request.url ?? '/';
    const { authorization, range } = request.headers;
    this.log.push(`${second ? 'second' : 'first'} ${path}${range === undefined ? '' : ` ${range}`}`);
    if (second && authorization !== undefined) this.leaked.push(authorization);
    if (path.startsWith('/token')) return void response.end(JSON.stringify({ token: this.token }));
    if (!second && this.token !== null && authorization !== `Bearer ${this.token}`) {
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${this.url}/token",service="models",scope="pull"` });
      return void response.end();
    }
    const target = this.redirects.get(path);
    const body = this.files.get(target ?? path);
    if (body === undefined) {
      response.writeHead(404);
      return void response.end('no such thing');
    }
    const linked = createHash('sha256').update(body).digest('hex');
    if (!second && target !== undefined) {
      response.writeHead(307, {
        location: `${this.urls[1]}${target}`,
        ...(this.linkedDigests ? { 'x-linked-etag': `"${linked}"` } : {}),
      });
      return void response.end();
    }
    if (this.surplus !== null && path.includes('/blobs/'))
      return this.answerWithoutLength(response, body, this.surplus);
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
    const partial = this.ranges && from !== undefined;
    const start = partial ? Number(from) : 0;
    const end = partial ? Math.min(Number(to) + 1, body.length) : body.length;
    response.writeHead(partial ? 206 : 200, {
      'content-length': end - start,
      ...(partial ? { 'content-range': `bytes ${start}-${end - 1}/${body.length}` } : {}),
    });
    const part = body.subarray(start, end);
    if (this.stalls > 0 && part.length > this.cutAt && !path.includes('/manifests/')) {
      this.stalls--;
      return void response.write(part.subarray(0, this.cutAt));
    }
    if (this.cuts > 0 && part.length > this.cutAt) {
      this.cuts--;
      response.write(part.subarray(0, this.cutAt), () => response.destroy());
      return;
    }
    response.end(part);
  }
}
