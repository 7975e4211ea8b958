/** From what the user named to a model's files: a path, Ollama's store, a registry, a hub. */
import { brief, quoted } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import { statOf } from './model-source.ts';
import type { ModelSource } from './model-source.ts';
import { openModel } from './open-model.ts';
import { huggingFaceHub, ollamaRegistry } from './remote/addresses.ts';
import { parseHubName, pullFromHub } from './remote/hugging-face.ts';
import { openFromStore, parseOllamaName, pullFromRegistry, storeFolders } from './remote/ollama.ts';
import type { OllamaName, PullOptions } from './remote/ollama.ts';
import { HttpError } from './remote/request.ts';

export const SOURCES = ['auto', 'file', 'ollama', 'hf'] as const;
export type SourceKind = (typeof SOURCES)[number];

export interface FindOptions extends PullOptions {
  /** Called when a download begins. */
  onPull?(from: string): void;
}

/** What can only be meant as a path: owner/name:file.gguf is none. */
function isLikeAPath(what: string): boolean {
  return /^[./~]|\.(gguf|safetensors)$/i.test(what) && (parseHubName(what)?.file ?? null) === null;
}

async function fromStores(name: OllamaName, tried: string[]): Promise<ModelSource | null> {
  for (const store of storeFolders()) {
    const found = await openFromStore(store, name);
    if (found !== null) return found;
    tried.push(`Ollama store ${store}`);
  }
  return null;
}

/** What `pull` gives, or null with a note of why not when `goOn`. */
async function tryPull(
  from: string,
  pull: () => Promise<ModelSource>,
  tried: string[],
  options: FindOptions,
): Promise<ModelSource | null> {
  options.onPull?.(from);
  try {
    return await pull();
  } catch (error) {
    if (!(error instanceof HttpError) || ![401, 404].includes(error.status)) throw error;
    tried.push(`${from} (${error.status === 404 ? 'not there' : 'asks for a login'})`);
    return null;
  }
}

/** Find and open a model. Throws naming every place that was tried. */
export async function findModel(what: string, kind: SourceKind, options: FindOptions = {}): Promise<ModelSource> {
  const tried: string[] = [];
  if (kind === 'file' || (kind === 'auto' && (statOf(what) !== null || isLikeAPath(what)))) return openModel(what);
  if (kind === 'auto') tried.push(`file ${brief(what)}`);
  const named = (source: ModelSource): ModelSource => ({ ...source, name: what });
  const ollama = kind === 'hf' ? null : parseOllamaName(what);
  const hub = kind === 'ollama' ? null : parseHubName(what);
  if (ollama !== null) {
    const found =
      (await fromStores(ollama, tried)) ??
      (await tryPull(`registry ${ollamaRegistry()}`, () => pullFromRegistry(ollama, options), tried, options));
    if (found !== null) return named(found);
  } else if (kind === 'ollama') throw new CommandError(`${quoted(what)} is no name of a model, as qwen2.5:0.5b`);
  if (hub !== null) {
    const found = await tryPull(`hub ${huggingFaceHub()}`, () => pullFromHub(hub, options), tried, options);
    if (found !== null) return found;
  } else if (kind === 'hf')
    throw new CommandError(`${quoted(what)} is no name of a model, as owner/name or owner/name:file.gguf`);
  throw new CommandError(`no model ${brief(what)}: tried ${tried.join(', ')}`, {
    hint: 'name a file, or a model of the registry as qwen2.5:0.5b',
  });
}
