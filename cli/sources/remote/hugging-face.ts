/** Pulls a model from a hub that speaks Hugging Face's resolve protocol, into a folder of our own. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CommandError } from '../../errors.ts';
import { INDEX, shardsOf, SMALL_FILES, WEIGHTS } from '../hugging-face/open-folder.ts';
import type { ModelSource } from '../model-source.ts';
import { openModel } from '../open-model.ts';
import { parseObject } from '../safetensors.ts';
import { huggingFaceHub, huggingFaceToken } from './addresses.ts';
import { download } from './download.ts';
import { downloadFolder } from './ollama.ts';
import type { PullOptions } from './ollama.ts';
import { HttpError, requestText } from './request.ts';
import type { Headers } from './request.ts';

export interface HubName {
  owner: string;
  name: string;
  /** A file of the repository; null for the model of its SafeTensors. */
  file: string | null;
}

const PART = /^[A-Za-z0-9][\w.-]{0,95}$/;
const FILE = /^(?:[\w][\w.-]*\/){0,4}[\w][\w.-]*$/;

/** owner/name[:file], null for anything else. */
export function parseHubName(text: string): HubName | null {
  const [, owner, name, file] = /^([^/:]+)\/([^/:]+)(?::(.+))?$/.exec(text) ?? [];
  if (owner === undefined || name === undefined || !PART.test(owner) || !PART.test(name)) return null;
  if (file !== undefined && (!FILE.test(file) || file.includes('..'))) return null;
  return { owner, name, file: file ?? null };
}

function authorization(): Headers {
  const token = huggingFaceToken();
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/** GGUF files that a repository lists, for a name without a file. */
async function listedGgufs(repository: string, options: PullOptions): Promise<string[]> {
  const text = await requestText(`${huggingFaceHub()}/api/models/${repository}`, authorization(), options.signal);
  const { siblings } = parseObject(text, 'list of files');
  const names = (Array.isArray(siblings) ? (siblings as unknown[]) : []).map(
    (each) => (each as { rfilename?: unknown } | null)?.rfilename,
  );
  return names.filter((name): name is string => typeof name === 'string' && /\.gguf$/i.test(name));
}

/** Pull a model and open it. Throws HttpError with status 404 when the hub has none. */
export async function pullFromHub(wanted: HubName, options: PullOptions = {}): Promise<ModelSource> {
  const repository = `${wanted.owner}/${wanted.name}`;
  const folder = join(downloadFolder(), 'hf', wanted.owner, wanted.name);
  const fetched = async (name: string): Promise<string> => {
    const path = join(folder, name);
    if (!existsSync(path))
      await download(`${huggingFaceHub()}/${repository}/resolve/main/${name}`, path, {
        headers: authorization(),
        ...(options.onBytes === undefined ? {} : { onBytes: options.onBytes }),
        ...(options.onCheck === undefined ? {} : { onCheck: options.onCheck }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        ...(options.partBytes === undefined ? {} : { partBytes: options.partBytes }),
      });
    return path;
  };
  const optional = async (name: string): Promise<string | null> => {
    try {
      return await fetched(name);
    } catch (error) {
      if (error instanceof HttpError && error.status === 404) return null;
      throw error;
    }
  };
  if (wanted.file !== null) {
    const [, stem, count] = /^(.+)-\d{5}-of-(\d{5})\.gguf$/.exec(wanted.file) ?? [];
    if (stem !== undefined)
      for (let i = 1; i <= Math.min(Number(count), 1024); i++)
        await fetched(`${stem}-${String(i).padStart(5, '0')}-of-${count}.gguf`);
    if (/\.safetensors$/.test(wanted.file)) for (const name of SMALL_FILES) await optional(name);
    return openModel(await fetched(wanted.file));
  }
  if ((await optional('config.json')) === null) {
    const names = await listedGgufs(repository, options);
    if (names.length === 1 && FILE.test(names[0]!)) return openModel(await fetched(names[0]!));
    throw new CommandError(
      `${repository} has no config.json${names.length === 0 ? ' and no GGUF file' : `, and ${names.length} GGUF files`}`,
      names.length === 0 ? {} : { hint: `name one: ${repository}:${names[0]}` },
    );
  }
  for (const name of SMALL_FILES) await optional(name);
  const index = await optional(INDEX);
  const weights = index === null ? [WEIGHTS] : shardsOf(parseObject(await readFile(index, 'utf8'), INDEX));
  for (const name of weights) await fetched(name);
  return openModel(folder);
}
