/**
 * Models of Ollama: its store of manifests and blobs on this machine, and registries that speak its protocol, from which
 * a model is pulled into a store of our own.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import envPaths from 'env-paths';
import { brief, quoted } from '../../../plv8/src/format/visible-text.ts';
import { CommandError } from '../../errors.ts';
import { openGguf, statOf } from '../model-source.ts';
import type { ModelSource } from '../model-source.ts';
import { parseObject } from '../safetensors.ts';
import { OLLAMA_HOST, ollamaRegistry } from './addresses.ts';
import { download } from './download.ts';
import { HttpError, requestText } from './request.ts';

const MEDIA = 'application/vnd.ollama.image.';
const MANIFEST_TYPE = 'application/vnd.docker.distribution.manifest.v2+json';
const MAX_MANIFEST_BYTES = 4 << 20;
const MAX_LAYERS = 64;
/** Layers other than the weights: a template, a system message, options. */
const MAX_SMALL_LAYER_BYTES = 4 << 20;

export interface OllamaName {
  host: string;
  namespace: string;
  model: string;
  tag: string;
}

export interface PullOptions {
  onBytes?(done: number, total: number): void;
  /** Called while the digest of a long file is taken. */
  onCheck?(done: number, total: number): void;
  signal?: AbortSignal;
  partBytes?: number;
}

interface Layer {
  kind: string;
  /** SHA-256, hex. */
  digest: string;
  size: number;
}

const PART = /^[A-Za-z0-9_][\w.-]{0,79}$/;

/** [host/][namespace/]model[:tag], null for anything else. */
export function parseOllamaName(text: string): OllamaName | null {
  const at = text.lastIndexOf(':');
  const [path, tag] = at > text.lastIndexOf('/') ? [text.slice(0, at), text.slice(at + 1)] : [text, 'latest'];
  const parts = path.split('/');
  if (parts.length > 3) return null;
  const [model, namespace = 'library', host = OLLAMA_HOST] = parts.reverse();
  if (![model, namespace, tag].every((part) => part !== undefined && PART.test(part))) return null;
  if (!/^[\w.-]+(:\d{1,5})?$/.test(host) || host.startsWith('.')) return null;
  return { host, namespace, model: model!, tag };
}

/** Folder of what this program downloads. */
export function downloadFolder(): string {
  return process.env.HARTONOMOUS_MODELS ?? join(envPaths('hartonomous', { suffix: '' }).cache, 'models');
}

function ownStore(): string {
  return join(downloadFolder(), 'ollama');
}

/** Stores on this machine in the order in which they are looked into. */
export function storeFolders(): string[] {
  const given = process.env.OLLAMA_MODELS;
  const theirs =
    given !== undefined && given !== ''
      ? [given]
      : [
          join(homedir(), '.ollama', 'models'),
          '/usr/share/ollama/.ollama/models',
          '/var/lib/ollama/.ollama/models',
          '/var/lib/ollama/models',
        ];
  return [...theirs, ownStore()];
}

function manifestPath(store: string, name: OllamaName): string {
  return join(store, 'manifests', name.host.replace(':', '_'), name.namespace, name.model, name.tag);
}

function blobPath(store: string, digest: string): string {
  const old = join(store, 'blobs', `sha256:${digest}`);
  return existsSync(old) ? old : join(store, 'blobs', `sha256-${digest}`);
}

function readLayer(value: unknown): Layer {
  const { mediaType, digest, size } = (typeof value === 'object' && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const hex = typeof digest === 'string' ? /^sha256[:-]([0-9a-f]{64})$/.exec(digest)?.[1] : undefined;
  if (typeof mediaType !== 'string' || hex === undefined || !Number.isSafeInteger(size) || (size as number) < 0)
    throw new CommandError(`manifest has a layer without mediaType, SHA-256 digest and size: ${quoted(value, 80)}`);
  return {
    kind: mediaType.startsWith(MEDIA) ? mediaType.slice(MEDIA.length) : mediaType,
    digest: hex,
    size: size as number,
  };
}

function readManifest(text: string): { layers: Layer[]; config: Layer | null } {
  const manifest = parseObject(text, 'manifest');
  const { layers, config } = manifest;
  if (!Array.isArray(layers) || layers.length > MAX_LAYERS)
    throw new CommandError(`manifest has no list of up to ${MAX_LAYERS} layers`);
  return { layers: layers.map(readLayer), config: config === undefined || config === null ? null : readLayer(config) };
}

/** Open a model of a store; null when it is not there. */
export async function openFromStore(store: string, name: OllamaName): Promise<ModelSource | null> {
  const path = manifestPath(store, name);
  const stat = statOf(path);
  if (stat?.isFile() !== true) return null;
  if (stat.size > MAX_MANIFEST_BYTES) throw new CommandError(`manifest ${path} has ${stat.size} bytes`);
  const { layers } = readManifest(await readFile(path, 'utf8'));
  const texts = async (kind: string): Promise<string[]> => {
    const found = layers.filter((each) => each.kind === kind);
    return Promise.all(found.map((layer) => readSmallBlob(blobPath(store, layer.digest), layer, path)));
  };
  const small = async (kind: string): Promise<string | null> => (await texts(kind))[0] ?? null;
  const models = layers.filter((layer) => layer.kind === 'model');
  if (layers.some((layer) => layer.kind === 'adapter'))
    throw new CommandError(`model ${path} has an adapter, which is not supported`);
  if (models.length !== 1)
    throw new CommandError(`manifest ${path} has ${models.length} layers of weights, expected 1`);
  const blob = blobPath(store, models[0]!.digest);
  if (statOf(blob) === null) throw new CommandError(`blob ${blob} of manifest ${path} is missing`);
  const options = await small('params');
  const template = await small('template');
  const system = await small('system');
  const licenses = await texts('license');
  const source = await openGguf(blob);
  if (licenses.length > 0) source.metadata.set('ollama.license', licenses.join('\n\n'));
  if (template !== null) source.metadata.set('ollama.template', template);
  return {
    ...source,
    expectedDigest: models[0]!.digest,
    defaultOptions: options === null ? {} : parseObject(options, 'params layer'),
    systemPrompt: system,
    notes: unreadNotes(layers),
  };
}

/** A layer other than the weights. Throws where its blob is not what the manifest says. */
async function readSmallBlob(blob: string, { kind, size }: Layer, manifest: string): Promise<string> {
  const found = statOf(blob)?.size;
  if (found !== size || size > MAX_SMALL_LAYER_BYTES)
    throw new CommandError(
      `blob ${blob} of manifest ${manifest}, its ${brief(kind)}, has ${found ?? 'no'} bytes, expected ${size} and at most ${MAX_SMALL_LAYER_BYTES}`,
    );
  return readFile(blob, 'utf8');
}

/** Kinds of layers that are read. */
const READ_LAYERS: ReadonlySet<string> = new Set(['model', 'params', 'template', 'system', 'license']);

function unreadNotes(layers: readonly Layer[]): string[] {
  const unread = [...new Set(layers.map(({ kind }) => kind).filter((kind) => !READ_LAYERS.has(kind)))];
  return unread.length === 0 ? [] : [`layers of its manifest that are not read: ${brief(unread.join(', '))}`];
}

/** Pull a model into our own store, and open it. Throws HttpError with status 404 when the registry has none. */
export async function pullFromRegistry(name: OllamaName, options: PullOptions = {}): Promise<ModelSource> {
  const registry = name.host === OLLAMA_HOST ? ollamaRegistry() : `https://${name.host}`;
  const base = `${registry}/v2/${name.namespace}/${name.model}`;
  const text = await requestText(`${base}/manifests/${name.tag}`, { accept: MANIFEST_TYPE }, options.signal);
  const { layers, config } = readManifest(text);
  const wanted = config === null ? layers : [...layers, config];
  const total = wanted.reduce((sum, layer) => sum + layer.size, 0);
  const store = ownStore();
  let before = 0;
  for (const layer of wanted) {
    const path = join(store, 'blobs', `sha256-${layer.digest}`);
    const start = before;
    if (statOf(path)?.size !== layer.size)
      await download(`${base}/blobs/sha256:${layer.digest}`, path, {
        sha256: layer.digest,
        size: layer.size,
        onBytes: (done) => options.onBytes?.(start + done, total),
        ...(options.onCheck === undefined ? {} : { onCheck: options.onCheck }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        ...(options.partBytes === undefined ? {} : { partBytes: options.partBytes }),
      });
    before += layer.size;
    options.onBytes?.(before, total);
  }
  const path = manifestPath(store, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.partial`, text);
  await rename(`${path}.partial`, path);
  const source = await openFromStore(store, name);
  if (source === null) throw new HttpError(404, `manifest ${path} is missing`);
  return source;
}
