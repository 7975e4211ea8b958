/** A Hugging Face model: config.json, tokenizer files and SafeTensors in one folder. */
import { readdirSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { brief, quoted } from '../../../plv8/src/format/visible-text.ts';
import { CommandError } from '../../errors.ts';
import type { GgufValue } from '../gguf.ts';
import { OpenFiles, openGguf, statOf } from '../model-source.ts';
import type { ModelSource, SourceFile, SourceTensor } from '../model-source.ts';
import { readSafetensorsHeader } from '../safetensors.ts';
import type { SafetensorsTensor } from '../safetensors.ts';
import { StringTable } from '../string-table.ts';
import { familyOf, ggufTensorName } from './architectures.ts';
import { configMetadata, embeddingMetadata } from './config.ts';
import type { Json } from './json-files.ts';
import { list, object, readJson, readJsonValue, readSmallFile } from './json-files.ts';
import { readSentencePieceModel } from './sentencepiece-model.ts';
import type { Vocabulary } from './tokenizer-json.ts';
import { readTokenizerJson, TYPE } from './tokenizer-json.ts';

/** Files beside the weights that belong to a model, in the order in which they are stored. */
export const SMALL_FILES: readonly string[] = [
  'config.json',
  'generation_config.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'tokenizer.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
  'vocab.txt',
  'chat_template.jinja',
  'modules.json',
  'sentence_bert_config.json',
  'config_sentence_transformers.json',
  '1_Pooling/config.json',
];
export const WEIGHTS = 'model.safetensors';
export const INDEX = 'model.safetensors.index.json';
const MAX_SHARDS = 1024;

/** Names of the files that hold the tensors, by an index. */
export function shardsOf(index: Json): string[] {
  const map = object(index.weight_map);
  if (map === null) throw new CommandError(`${INDEX} has no weight_map`);
  const names = [...new Set(Object.values(map))].sort();
  for (const name of names)
    if (typeof name !== 'string' || !/^[\w.-]{1,200}\.safetensors$/.test(name))
      throw new CommandError(`${INDEX} names the file ${quoted(name, 80)}`);
  if (names.length === 0 || names.length > MAX_SHARDS)
    throw new CommandError(`${INDEX} names ${names.length} files, 1 to ${MAX_SHARDS} are read`);
  return names as string[];
}

type SmallFiles = ReadonlyMap<string, SourceFile>;

async function json(files: SmallFiles, name: string): Promise<Json> {
  const file = files.get(name);
  return file === undefined ? {} : readJson(file);
}

/** vocab.json and merges.txt are what tokenizer.json has in one file, without the way of splitting words. */
async function fromVocabAndMerges(files: SmallFiles, added: Json): Promise<Json | null> {
  const merges = files.get('merges.txt');
  if (!files.has('vocab.json') || merges === undefined) return null;
  const lines = (await readSmallFile(merges)).toString('utf8').split('\n');
  return {
    model: {
      type: 'BPE',
      vocab: await json(files, 'vocab.json'),
      merges: lines.filter((line) => line !== '' && !line.startsWith('#version')),
    },
    pre_tokenizer: { type: 'ByteLevel' },
    added_tokens: Object.entries(added).map(([content, id]) => ({ content, id, special: true })),
  };
}

const SPECIAL_WORDS: ReadonlySet<string> = new Set(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']);

/** vocab.txt is WordPiece's vocabulary alone, a piece a line. */
function fromVocabTxt(text: string, settings: Json, rows: number): Vocabulary {
  const pieces = text.replace(/\n$/, '').split('\n');
  return readTokenizerJson(
    {
      model: {
        type: 'WordPiece',
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        unk_token: '[UNK]',
      },
      normalizer: {
        type: 'BertNormalizer',
        lowercase: settings.do_lower_case ?? true,
        strip_accents: settings.strip_accents ?? null,
      },
      added_tokens: pieces.flatMap((content, id) =>
        SPECIAL_WORDS.has(content) ? [{ content, id, special: true }] : [],
      ),
    },
    rows,
  );
}

async function readVocabulary(files: SmallFiles, rows: number, architecture: string): Promise<Vocabulary> {
  const whole = files.get('tokenizer.json');
  const tokenizer = whole === undefined ? null : await readJson(whole);
  const fromJson = tokenizer === null ? null : readTokenizerJson(tokenizer, rows);
  const pieces = files.get('tokenizer.model');
  if (pieces !== undefined && fromJson?.model !== 'gpt2') {
    const model = readSentencePieceModel(await readSmallFile(pieces));
    const tokens = model.pieces.map((piece) => piece.text);
    const types = model.pieces.map((piece) => piece.type);
    const scores = model.pieces.map((piece) => piece.score);
    const added = Object.entries(await json(files, 'added_tokens.json')).sort((a, b) => Number(a[1]) - Number(b[1]));
    for (const [text, id] of added) {
      if (id !== tokens.length) continue;
      tokens.push(text);
      types.push(TYPE.control);
      scores.push(0);
    }
    for (let id = tokens.length; id < rows; id++) {
      tokens.push(fromJson?.tokens[id] ?? `[PAD${id}]`);
      types.push(fromJson?.types[id] ?? TYPE.unused);
      scores.push(0);
    }
    return {
      model: model.kind === 'bpe' ? 'llama' : 't5',
      pre: 'default',
      tokens,
      types,
      scores,
      merges: null,
      addSpacePrefix: model.addSpacePrefix,
      unknown: model.pieces.find((piece) => piece.type === TYPE.unknown)?.text ?? null,
      addBos: fromJson?.addBos ?? null,
      settings: {
        ...(model.characterMap === null ? {} : { 'tokenizer.ggml.precompiled_charsmap': [...model.characterMap] }),
        'tokenizer.ggml.remove_extra_whitespaces': model.removeExtraSpaces,
        ...fromJson?.settings,
      },
    };
  }
  if (fromJson !== null) return fromJson;
  const parts = await fromVocabAndMerges(files, await json(files, 'added_tokens.json'));
  const words = files.get('vocab.txt');
  if (parts === null && words !== undefined)
    return fromVocabTxt(
      (await readSmallFile(words)).toString('utf8'),
      await json(files, 'tokenizer_config.json'),
      rows,
    );
  if (parts === null)
    throw new CommandError(
      'model has no tokenizer.json, no tokenizer.model, no vocab.json with merges.txt, and no vocab.txt',
    );
  const vocabulary = readTokenizerJson(parts, rows);
  return { ...vocabulary, pre: architecture === 'qwen2' || architecture === 'qwen3' ? 'qwen2' : 'gpt-2' };
}

/** A token of tokenizer_config.json, which is a text or an object with one. */
function tokenText(value: unknown): string | null {
  const text = object(value)?.content ?? value;
  return typeof text === 'string' ? text : null;
}

/** Chat template, special tokens and flags. */
async function tokenizerSettings(
  files: SmallFiles,
  vocabulary: Vocabulary,
  config: Json,
  generation: Json,
): Promise<Map<string, GgufValue>> {
  const settings = new Map<string, GgufValue>();
  const stated = { ...(await json(files, 'special_tokens_map.json')), ...(await json(files, 'tokenizer_config.json')) };
  const idOf = new Map(vocabulary.tokens.map((text, id) => [text, id]));
  const ids = (value: unknown): number[] =>
    (list(value) ?? [value]).filter((id): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0);
  for (const [name, key] of [
    ['bos_token', 'bos_token_id'],
    ['cls_token', 'cls_token_id'],
    ['sep_token', 'seperator_token_id'], // as GGUF spells it
    ['eos_token', 'eos_token_id'],
    ['unk_token', 'unknown_token_id'],
    ['pad_token', 'padding_token_id'],
  ] as const) {
    const text = tokenText(stated[name]) ?? (name === 'unk_token' ? vocabulary.unknown : null);
    const id = (text === null ? undefined : idOf.get(text)) ?? ids(config[key])[0] ?? ids(generation[key])[0];
    if (id !== undefined) settings.set(`tokenizer.ggml.${key}`, id);
  }
  // Further ends of an answer; GGUF has two more keys for them.
  const end = settings.get('tokenizer.ggml.eos_token_id');
  const others = [...new Set([...ids(generation.eos_token_id), ...ids(config.eos_token_id)])].filter(
    (id) => id !== end,
  );
  for (const [i, key] of ['eot_token_id', 'eom_token_id'].entries())
    if (others[i] !== undefined) settings.set(`tokenizer.ggml.${key}`, others[i]);
  const addBos = typeof stated.add_bos_token === 'boolean' ? stated.add_bos_token : vocabulary.addBos;
  if (addBos !== null) settings.set('tokenizer.ggml.add_bos_token', addBos);
  if (typeof stated.add_eos_token === 'boolean') settings.set('tokenizer.ggml.add_eos_token', stated.add_eos_token);
  const separate = files.get('chat_template.jinja');
  const named = list(stated.chat_template)?.map((each) => object(each) ?? {});
  const template =
    separate !== undefined
      ? (await readSmallFile(separate)).toString('utf8')
      : named !== undefined
        ? (named.find((each) => each.name === 'default') ?? named[0])?.template
        : stated.chat_template;
  if (typeof template === 'string') settings.set('tokenizer.chat_template', template);
  return settings;
}

/** Options of generation_config.json under our names. */
const OPTION_NAMES: Readonly<Record<string, string>> = {
  temperature: 'temperature',
  top_k: 'top_k',
  top_p: 'top_p',
  min_p: 'min_p',
  repetition_penalty: 'repeat_penalty',
};

function defaultOptions(generation: Json): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const [theirs, ours] of Object.entries(OPTION_NAMES))
    if (typeof generation[theirs] === 'number') options[ours] = generation[theirs];
  return options;
}

function sourceTensor(tensor: SafetensorsTensor, name: string, file: number): SourceTensor {
  const { type } = tensor;
  if (type === null)
    throw new CommandError(`tensor ${quoted(tensor.name)} has type ${tensor.typeName}, which is not supported`);
  const shape = tensor.shape.length === 0 ? [1] : [...tensor.shape].reverse();
  if (shape.some((extent) => extent < 1))
    throw new CommandError(`tensor ${quoted(tensor.name)} has shape ${tensor.shape.join(' x ')}`);
  const rowCount = shape.slice(1).reduce((product, extent) => product * extent, 1);
  const rowBytes = shape[0]! * type.blockBytes;
  const { offset, sizeBytes } = tensor;
  return { name, type, shape, rowCount, rowBytes, sizeBytes, offset, file, sourceName: tensor.name };
}

function readTensors(files: readonly SourceFile[], firstShard: number, config: Json): SourceTensor[] {
  const family = familyOf(config);
  const headers = files.slice(firstShard).map((file) => readSafetensorsHeader(file.handle.fd));
  const all = headers.flat();
  // Files of tied weights may hold the output alone.
  const tied = !all.some((tensor) => ggufTensorName(family, tensor.name, false) === 'token_embd.weight');
  const names = new Set<string>();
  return headers.flatMap((header, shard) =>
    header.flatMap((tensor) => {
      const name = ggufTensorName(family, tensor.name, tied);
      if (name === null) return [];
      if (names.has(name)) throw new CommandError(`tensor ${quoted(tensor.name)} occurs twice`);
      names.add(name);
      return [sourceTensor(tensor, name, firstShard + shard)];
    }),
  );
}

/** Open a folder, or the folder of one SafeTensors file. */
export async function openHuggingFace(path: string): Promise<ModelSource> {
  const single = /\.safetensors$/i.test(path);
  const folder = single ? dirname(path) : path;
  if (!single && statOf(join(folder, 'config.json')) === null) {
    const ggufs = readdirSync(folder).filter((name) => /\.gguf$/i.test(name) && !/-0000[2-9]-of-/.test(name));
    if (ggufs.length === 1) return openGguf(join(folder, ggufs[0]!));
    throw new CommandError(
      `folder ${brief(folder)} has no config.json${ggufs.length > 1 ? `, and ${ggufs.length} GGUF files` : ''}`,
    );
  }
  const open = new OpenFiles();
  try {
    const files = new Map<string, SourceFile>();
    for (const name of SMALL_FILES)
      if (statOf(join(folder, name))?.isFile() === true) files.set(name, await open.add(join(folder, name), name));
    if (!files.has('config.json')) throw new CommandError(`folder ${brief(folder)} has no config.json`);
    let shards = [single ? basename(path) : WEIGHTS];
    if (statOf(join(folder, shards[0]!)) === null || single) {
      const index = statOf(join(folder, INDEX))?.isFile() === true ? await open.add(join(folder, INDEX), INDEX) : null;
      const named = index === null ? [] : shardsOf(await readJson(index));
      if (named.includes(shards[0]!) || !single) shards = named;
      if (shards.length === 0) throw new CommandError(`folder ${brief(folder)} has no ${WEIGHTS} and no ${INDEX}`);
    }
    const firstShard = open.files.length;
    for (const name of shards) await open.add(join(folder, name), name);
    const config = await readJson(files.get('config.json')!);
    const generation = await json(files, 'generation_config.json');
    const family = familyOf(config);
    const metadata = configMetadata(family, config);
    const embedding = embeddingMetadata(family, {
      modules: files.has('modules.json') ? await readJsonValue(files.get('modules.json')!) : null,
      pooling: await json(files, '1_Pooling/config.json'),
      limits: await json(files, 'sentence_bert_config.json'),
      prompts: await json(files, 'config_sentence_transformers.json'),
    });
    for (const [key, value] of embedding) metadata.set(key, value);
    const tensors = readTensors(open.files, firstShard, config);
    const rows = tensors.find((tensor) => tensor.name === 'token_embd.weight')?.rowCount;
    if (rows === undefined) throw new CommandError('model has no tensor of token embeddings and no lm_head.weight');
    const vocabulary = await readVocabulary(files, rows, family.name);
    metadata.set('tokenizer.ggml.model', vocabulary.model);
    if (vocabulary.pre !== null) metadata.set('tokenizer.ggml.pre', vocabulary.pre);
    metadata.set('tokenizer.ggml.tokens', StringTable.of(vocabulary.tokens));
    metadata.set('tokenizer.ggml.token_type', vocabulary.types);
    if (vocabulary.scores !== null) metadata.set('tokenizer.ggml.scores', vocabulary.scores);
    if (vocabulary.merges !== null) metadata.set('tokenizer.ggml.merges', StringTable.of(vocabulary.merges));
    if (vocabulary.addSpacePrefix !== null) metadata.set('tokenizer.ggml.add_space_prefix', vocabulary.addSpacePrefix);
    for (const [key, value] of Object.entries(vocabulary.settings)) metadata.set(key, value);
    for (const [key, value] of await tokenizerSettings(files, vocabulary, config, generation)) metadata.set(key, value);
    return {
      format: 'safetensors',
      name: basename(resolve(folder)),
      location: resolve(path),
      files: open.files,
      metadata,
      tensors,
      defaultOptions: defaultOptions(generation),
      systemPrompt: null,
      close: () => open.close(),
    };
  } catch (error) {
    await open.close();
    throw error;
  }
}
