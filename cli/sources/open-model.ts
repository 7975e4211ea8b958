/** Which reader takes which path. */
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import { openHuggingFace } from './hugging-face/open-folder.ts';
import { openGguf, statOf } from './model-source.ts';
import type { ModelSource } from './model-source.ts';

/** Open the model at a path: a GGUF file, one part of a split one, a SafeTensors file or a Hugging Face folder. */
export async function openModel(path: string): Promise<ModelSource> {
  const stat = statOf(path);
  if (stat === null) throw new CommandError(`cannot read ${brief(path)}: no such file or folder`);
  if (stat.isDirectory()) return openHuggingFace(path);
  if (!stat.isFile()) throw new CommandError(`cannot read ${path}: it is no file`);
  return /\.safetensors$/i.test(path) ? openHuggingFace(path) : openGguf(path);
}
