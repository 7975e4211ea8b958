import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { download } from '../../cli/sources/remote/download.ts';
import { parseHubName } from '../../cli/sources/remote/hugging-face.ts';
import { parseOllamaName } from '../../cli/sources/remote/ollama.ts';
import { createDatabase } from '../db/harness.ts';
import type { TestDatabase } from '../db/harness.ts';
import { modelPath } from '../golden/model-files.ts';
import { FileFolder } from '../unit/gguf-writer.ts';
import { ModelServer } from '../unit/model-server.ts';
import { hartonomous } from './program.ts';
import type { ProgramResult } from './program.ts';

const MODEL = readFileSync(modelPath('llama-260k/llama-260k-q8_0.gguf'));
const TINY = fileURLToPath(new URL('../../models/tiny', import.meta.url));
const folder = new FileFolder();
let server: ModelServer;
let cache: string;
let count = 0;

beforeEach(async () => {
  server = new ModelServer();
  await server.start();
  cache = join(folder.path, `cache-${count++}`);
});
afterEach(() => server.stop());
afterAll(() => folder.remove());

function content(bytes: number): Buffer {
  return Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >> 8)) & 255));
}

describe('a download', () => {
  const bytes = content(100_000);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  beforeEach(() => {
    server.files.set('/file', bytes);
  });

  test('comes in ranges, and goes on where a connection broke', async () => {
    server.cuts = 3;
    const path = join(cache, 'file');
    await download(`${server.url}/file`, path, { sha256, partBytes: 30_000 });
    expect(readFileSync(path).equals(bytes)).toBe(true);
    expect(readdirSync(cache)).toEqual(['file']);
    expect(server.log).toContain('first /file bytes=1000-29999');
  });

  test('that broke off for good is taken up by the next call', async () => {
    server.cuts = 1000;
    server.cutAt = 0;
    server.files.set('/late', bytes);
    const path = join(cache, 'late');
    const stop = new AbortController();
    server.cutAt = 20_000;
    const broken = download(`${server.url}/late`, path, {
      sha256,
      partBytes: 50_000,
      signal: stop.signal,
      onBytes: (done) => {
        if (done > 15_000) stop.abort();
      },
    });
    await expect(broken).rejects.toThrow();
    expect(existsSync(path)).toBe(false);
    server.cuts = 0;
    server.log.length = 0;
    await download(`${server.url}/late`, path, { sha256, partBytes: 50_000 });
    expect(readFileSync(path).equals(bytes)).toBe(true);
    const first = server.log.map((line) => /bytes=(\d+)-49999/.exec(line)?.[1]).find((from) => from !== undefined);
    expect(Number(first)).toBeGreaterThan(0);
  });

  test('from a server without ranges comes whole', async () => {
    server.ranges = false;
    server.cuts = 1;
    await download(`${server.url}/file`, join(cache, 'file'), { sha256 });
    expect(readFileSync(join(cache, 'file')).equals(bytes)).toBe(true);
  });

  test('with a wrong digest leaves nothing', async () => {
    const wrong = download(`${server.url}/file`, join(cache, 'file'), { sha256: sha256.replace(/./g, '0') });
    await expect(wrong).rejects.toThrow(/has SHA-256 [0-9a-f]{64}, expected 0{64}/);
    expect(readdirSync(cache)).toEqual([]);
  });

  test('that breaks at every attempt says where', async () => {
    server.ranges = false;
    server.cuts = 1000;
    await expect(download(`${server.url}/file`, join(cache, 'file'), {})).rejects.toThrow(/broke off at byte/);
  });

  test('that stalls goes on from where it stood', async () => {
    process.env.HARTONOMOUS_STALL_SECONDS = '0.1';
    try {
      server.stalls = 3;
      server.cutAt = 20_000;
      await download(`${server.url}/file`, join(cache, 'file'), { sha256, partBytes: 50_000 });
      expect(readFileSync(join(cache, 'file')).equals(bytes)).toBe(true);
      expect(server.log).toContain('first /file bytes=20000-49999');
    } finally {
      delete process.env.HARTONOMOUS_STALL_SECONDS;
    }
  });

  test.each([
    ['more than is expected', 60_000, /sends more than \d+ bytes, expected/],
    ['less than is expected', 200_000, /has 100000 bytes, expected 200000/],
  ])('of %s is refused, and nothing of it is kept', async (_what, size, message) => {
    server.ranges = size > bytes.length;
    server.surplus = server.ranges ? null : 0;
    server.files.set('/blobs/file', bytes);
    await expect(download(`${server.url}/blobs/file`, join(cache, 'file'), { size })).rejects.toThrow(message);
    expect(existsSync(cache) ? readdirSync(cache) : []).toEqual([]);
  });

  test('of a size that nobody states is bounded', async () => {
    server.surplus = 1 << 30;
    server.files.set('/blobs/file', bytes);
    await expect(download(`${server.url}/blobs/file`, join(cache, 'file'))).rejects.toThrow(
      /sends more than 67108864 bytes/,
    );
    expect(readdirSync(cache)).toEqual([]);
  });

  test('of an empty file gives one', async () => {
    server.files.set('/empty', Buffer.alloc(0));
    await download(`${server.url}/empty`, join(cache, 'empty'), {});
    expect(readFileSync(join(cache, 'empty'))).toHaveLength(0);
  });

  test('from a server that is not there is refused in one line', async () => {
    await expect(download('http://127.0.0.1:1/x', join(cache, 'x'), {})).rejects.toThrow(
      /http:\/\/127.0.0.1:1 cannot be reached/,
    );
  });
});

test.each([
  ['qwen2.5:0.5b', { host: 'registry.ollama.ai', namespace: 'library', model: 'qwen2.5', tag: '0.5b' }],
  ['me/tiny', { host: 'registry.ollama.ai', namespace: 'me', model: 'tiny', tag: 'latest' }],
  ['localhost:5000/a/b:c', { host: 'localhost:5000', namespace: 'a', model: 'b', tag: 'c' }],
  ['../x', null],
  ['a/../b', null],
  ['a b', null],
  ['', null],
  ['x:', null],
])('%j as a name of Ollama', (text, expected) => expect(parseOllamaName(text)).toEqual(expected));

test.each([
  ['a/b', { owner: 'a', name: 'b', file: null }],
  ['a/b:c/d.gguf', { owner: 'a', name: 'b', file: 'c/d.gguf' }],
  ['a/b:../c', null],
  ['a', null],
  ['../b', null],
])('%j as a name of a hub', (text, expected) => expect(parseHubName(text)).toEqual(expected));

describe('ingest by name', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  function ingest(args: string[], env: Record<string, string> = {}): Promise<ProgramResult> {
    return hartonomous(['ingest', ...args], {
      url: database.url,
      env: {
        OLLAMA_REGISTRY: server.url,
        HF_ENDPOINT: server.url,
        HARTONOMOUS_MODELS: cache,
        OLLAMA_MODELS: join(cache, 'no-store'),
        HF_TOKEN: '',
        ...env,
      },
    });
  }

  const layers = [
    { kind: 'model', bytes: MODEL },
    { kind: 'template', bytes: Buffer.from('{{ .Prompt }}') },
    { kind: 'params', bytes: Buffer.from('{"stop": ["<end>"], "temperature": 0.5}') },
    { kind: 'system', bytes: Buffer.from('You tell stories.') },
  ];

  test('pulls from the registry over redirects, with a token that stays with it', async () => {
    server.addOllama('library/stories', '260k', layers);
    server.token = 'anybody';
    const result = await ingest(['stories:260k']);
    expect(result).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ingested stories:260k: 47 tensors/) });
    expect(server.leaked).toEqual([]);
    const { rows } = await database.pool.query(
      `select name, default_options, system_prompt, hyperparameters->>'ollama.template' as template from hartonomous.models`,
    );
    expect(rows).toEqual([
      {
        name: 'stories:260k',
        default_options: { stop: ['<end>'], temperature: 0.5 },
        system_prompt: 'You tell stories.',
        template: '{{ .Prompt }}',
      },
    ]);
    // Again, with --model and --source: the store of what was pulled answers without the registry.
    server.log.length = 0;
    const again = await ingest(['--model', 'stories:260k', '--source', 'ollama']);
    expect(again.stdout).toMatch(/^stories:260k is already there/);
    expect(server.log).toEqual([]);
  });

  test('reads the store of Ollama on this machine', async () => {
    const store = join(folder.path, 'ollama-store');
    const digest = createHash('sha256').update(MODEL).digest('hex');
    const manifest = join(store, 'manifests/registry.ollama.ai/library/local');
    mkdirSync(manifest, { recursive: true });
    mkdirSync(join(store, 'blobs'));
    writeFileSync(join(store, 'blobs', `sha256-${digest}`), MODEL);
    const layer = { mediaType: 'application/vnd.ollama.image.model', digest: `sha256:${digest}`, size: MODEL.length };
    writeFileSync(join(manifest, 'latest'), JSON.stringify({ layers: [layer] }));
    const result = await ingest(['local'], { OLLAMA_MODELS: store });
    expect(result).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ingested local: 47 tensors/) });
    expect(server.log).toEqual([]);
    writeFileSync(join(store, 'blobs', `sha256-${digest}`), Buffer.concat([MODEL, Buffer.from('x')]));
    const damaged = await ingest(['local', '--name', 'damaged'], { OLLAMA_MODELS: store });
    expect(damaged.code).toBe(1);
    expect(damaged.stderr).toMatch(/its manifest says/);
    rmSync(store, { recursive: true });
  });

  test('refuses a blob of another digest, and keeps nothing of it', async () => {
    server.addOllama('library/bad', 'latest', layers, true);
    const result = await ingest(['bad']);
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/has SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}/);
    expect(readdirSync(join(cache, 'ollama/blobs'))).toEqual([]);
  });

  test('takes no more of a blob than its manifest says, where the server states no length', async () => {
    server.addOllama('library/endless', 'latest', layers);
    for (const [path, target] of server.redirects) server.files.set(path, server.files.get(target)!);
    server.redirects.clear();
    server.surplus = 1 << 30;
    const result = await ingest(['endless']);
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(new RegExp(`sends more than ${MODEL.length} bytes, expected ${MODEL.length}`));
    expect(readdirSync(join(cache, 'ollama/blobs'))).toEqual([]);
    expect(server.sent).toBeLessThan(64 << 20); // what the connection's buffers take
    server.surplus = 0;
    expect((await ingest(['endless'])).stdout).toMatch(/^ingested endless: 47 tensors/);
  });

  test('gives up a blob that stalls, and the same command goes on with it', async () => {
    server.addOllama('library/slow', 'latest', layers);
    server.stalls = 1000;
    server.cutAt = 100; // too little to count
    const env = { HARTONOMOUS_STALL_SECONDS: '0.1' };
    const result = await ingest(['slow'], env);
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(
      /broke off at byte \d+: fewer than 1024 bytes came in 0.1 s\nthe same command goes on/,
    );
    server.stalls = 0;
    server.log.length = 0;
    expect((await ingest(['slow'], env)).stdout).toMatch(/^ingested slow: 47 tensors/);
    expect(Number(/bytes=([1-9]\d*)-/.exec(server.log.join())?.[1])).toBe(500);
  });

  test('a time that is no number is wrong use', async () => {
    server.addOllama('library/late', 'latest', layers);
    const result = await ingest(['late'], { HARTONOMOUS_STALL_SECONDS: 'soon' });
    expect(result).toMatchObject({ code: 2, stderr: expect.stringContaining('got "soon"') as string });
  });

  test('pulls a folder from a hub that asks for a token', async () => {
    for (const name of [
      'config.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'generation_config.json',
      'model.safetensors',
    ]) {
      server.files.set(`/cdn/${name}`, readFileSync(join(TINY, name)));
      server.redirects.set(`/someone/tiny/resolve/main/${name}`, `/cdn/${name}`);
    }
    server.linkedDigests = true;
    server.token = 'mine';
    const result = await ingest(['someone/tiny', '--source', 'hf'], { HF_TOKEN: 'mine' });
    expect(result).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ingested tiny: \d+ tensors/) });
    expect(server.leaked).toEqual([]);
  });

  test('pulls one file of a repository, and the only GGUF file of another', async () => {
    server.files.set('/a/b/resolve/main/x.gguf', MODEL);
    server.files.set('/api/models/a/b', Buffer.from(JSON.stringify({ siblings: [{ rfilename: 'x.gguf' }] })));
    expect((await ingest(['a/b:x.gguf', '--name', 'one'])).stdout).toMatch(/^ingested one/);
    expect((await ingest(['a/b', '--source', 'hf', '--name', 'two'])).stdout).toMatch(/^ingested two/);
  });

  test('that nobody knows says what was tried', async () => {
    const result = await ingest(['nobody/nothing']);
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(
      /no model nobody\/nothing: tried file nobody\/nothing, Ollama store .*, registry http.* \(not there\)/,
    );
  });

  test.each([
    ['a manifest that is no JSON', 'oops', /manifest is no JSON/],
    ['a manifest without layers', '{}', /manifest has no list/],
    ['a layer without a digest', '{"layers": [{"mediaType": "x", "size": 1}]}', /layer without/],
    [
      'a digest that leads elsewhere',
      '{"layers": [{"mediaType": "x", "size": 1, "digest": "sha256:../../x"}]}',
      /layer without/,
    ],
    ['no weights', '{"layers": []}', /0 layers of weights/],
  ])('refuses %s in one line', async (_title, manifest, message) => {
    server.files.set('/v2/library/odd/manifests/latest', Buffer.from(manifest));
    const result = await ingest(['odd']);
    expect(result.code).toBe(1);
    expect(result.stderr.split('\n').find((line) => line.startsWith('error') || message.test(line))).toMatch(message);
  });

  test('an unknown source is wrong use', async () => {
    expect((await ingest(['x', '--source', 'floppy'])).code).toBe(2);
  });
});
