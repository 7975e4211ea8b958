/** Take a model's files into the database: committed in steps, invisible until complete, resumable, nothing stored twice. */
import { setTimeout } from 'node:timers/promises';
import pg from 'pg';
import { ARCHITECTURE_NAMES, isArchitectureName, isEncoder } from '../../plv8/src/format/architecture-names.ts';
import { OTHER_PARTS } from '../../plv8/src/format/tensor-names.ts';
import { brief, hasControls, quoted } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import type { GgufValue } from '../sources/gguf.ts';
import type { ModelSource } from '../sources/model-source.ts';
import { openModel } from '../sources/open-model.ts';
import { StringTable } from '../sources/string-table.ts';
import { hashFiles, hashModel } from './digests.ts';
import type { Digests } from './digests.ts';
import { checkFrames, readFrame } from './frame.ts';
import { ingestTensors } from './tensors.ts';
import { checkVocabulary, ingestVocabulary, vocabularyBytes, vocabularySize } from './vocabulary.ts';

/** One ingest, removal or copy at a time works in a database: plv8/sql/change-turns.sql. */
const TURN = 'models';
/** Milliseconds until a session that waits for its turn asks again. */
const ASK_AGAIN_MS = 200;
const MAX_NAME_LENGTH = 200;

export type Phase = 'hash' | 'vocabulary' | 'tensors' | 'embeddings';

export interface IngestOptions {
  name?: string;
  /** Put this model in the place of a ready one of the same name. */
  replace?: boolean;
  /** Bytes of a phase that are done, of how many. */
  onProgress?(phase: Phase, done: number, total: number): void;
  /** Called when another ingest has to be waited for. */
  onWait?(): void;
  /** Stops reading and sending when it is aborted; what was committed stays for the next run. */
  signal?: AbortSignal;
  /** Bytes of tiles in one transaction; 16 MiB by default. */
  batchBytes?: number;
}

export interface IngestResult {
  name: string;
  modelId: number;
  digest: string;
  /** Whether the very file was there already, so that nothing was done. */
  alreadyThere: boolean;
  tensors: number;
  tokens: number;
  bytes: number;
  /** Bytes of tiles that had to be sent; the rest was shared or already there. */
  sentBytes: number;
  /** As the file names it, or the first line of its text; null where nothing is known. */
  license: string | null;
  /** What its user should know of a model that is taken all the same, a line each. */
  notes: string[];
}

function text(source: ModelSource, key: string): string | null {
  const value = source.metadata.get(key);
  return typeof value === 'string' ? storable(value) : null;
}

function integer(source: ModelSource, key: string): number | null {
  const value = source.metadata.get(key);
  if (typeof value !== 'number' && typeof value !== 'bigint') return null;
  const number = Number(value);
  return Number.isSafeInteger(number) && Math.abs(number) <= 2147483647 ? number : null;
}

/** Text as PostgreSQL can hold it, which has no NUL and no half of a surrogate pair; the file's own bytes stand in its frame. */
function storable(value: string): string {
  return value.replace(/[\0\ud800-\udfff]/gu, '\ufffd');
}

/** JSON of a metadata value; integers beyond a double's reach as text. */
function jsonOf(value: GgufValue): unknown {
  if (value instanceof StringTable) return Array.from({ length: value.length }, (_, i) => value.at(i).toString());
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (typeof value === 'object') return value.map(jsonOf);
  return typeof value === 'string' ? storable(value) : value;
}

const TOKENIZER = 'tokenizer.';
const LARGE_TOKENIZER_KEYS: ReadonlySet<string> = new Set([
  'tokenizer.ggml.tokens',
  'tokenizer.ggml.scores',
  'tokenizer.ggml.token_type',
  'tokenizer.ggml.merges',
  'tokenizer.chat_template',
]);

function checkComputable(source: ModelSource): string {
  const architecture = text(source, 'general.architecture');
  if (architecture === null) throw new CommandError('file has no general.architecture');
  if (!isArchitectureName(architecture)) {
    throw new CommandError(
      `architecture ${brief(architecture)} is not supported, only ${ARCHITECTURE_NAMES.join(', ')}`,
    );
  }
  return architecture;
}

/** Names that people and terminals are shown, or that files are written under. */
function checkNames(source: ModelSource): void {
  const names = [
    ...source.files.map(({ name }) => ['file', name] as const),
    ...source.tensors.flatMap(({ name, sourceName }) =>
      [name, sourceName ?? name].map((each) => ['tensor', each] as const),
    ),
  ];
  for (const [what, name] of names)
    if (hasControls(name)) throw new CommandError(`name of ${what} ${quoted(name)} has control characters`);
}

function licenseOf(source: ModelSource): string | null {
  return text(source, 'general.license') ?? text(source, 'ollama.license')?.trim().split('\n')[0] ?? null;
}

function notesOn(source: ModelSource, architecture: string): string[] {
  const notes = [...(source.notes ?? [])];
  const others = source.tensors.filter(({ name }) => new RegExp(OTHER_PARTS).test(name)).length;
  if (others > 0) notes.push(`${others} tensors of vision are kept and not computed with: it reads text only`);
  const writes = !isEncoder(architecture) && !source.metadata.has(`${architecture}.pooling_type`);
  if (writes && text(source, 'tokenizer.chat_template') === null)
    notes.push('it has no chat template: it continues a text and does not answer');
  return notes;
}

/** Name of the model: as given, else the source's. */
function modelName(source: ModelSource, given: string | undefined): string {
  const name = (given ?? source.name).trim();
  if (name === '' || name.length > MAX_NAME_LENGTH) {
    throw new CommandError(`model name must have 1 to ${MAX_NAME_LENGTH} characters, got ${name.length}`);
  }
  if (hasControls(name))
    throw new CommandError(`model name ${quoted(name)} has control characters`, { hint: 'choose another with --name' });
  return name;
}

/** Ingest a file or folder. Throws CommandError; what was committed before is picked up by the next run. */
export async function ingest(client: pg.Client, path: string, options: IngestOptions = {}): Promise<IngestResult> {
  return ingestModel(client, await openModel(path), options);
}

/** Ingest an opened model, and close it. */
export async function ingestModel(
  client: pg.Client,
  source: ModelSource,
  options: IngestOptions = {},
): Promise<IngestResult> {
  try {
    await takeTurn(client, options);
    try {
      return await ingestLocked(client, source, options);
    } finally {
      await client.query('select hartonomous._end_turn($1)', [TURN]).catch(() => undefined);
    }
  } finally {
    await source.close();
  }
}

async function takeTurn(client: pg.Client, { onWait, signal }: IngestOptions): Promise<void> {
  for (let told = false; ; told = true) {
    const { rows } = await client.query<{ got: boolean }>('select hartonomous._take_turn($1) as got', [TURN]);
    if (rows[0]!.got) return;
    if (!told) onWait?.();
    await setTimeout(ASK_AGAIN_MS, undefined, signal === undefined ? {} : { signal });
  }
}

/** A model's rows by its name: the one users see, and one that an ingest left behind. */
async function rowsNamed(client: pg.Client, name: string): Promise<{ ready?: ModelRow; unfinished?: ModelRow }> {
  const { rows } = await client.query<ModelRow>(
    `select id, state, encode(source_digest, 'hex') as digest, source_bytes::float8 as bytes
     from hartonomous.models where name = $1`,
    [name],
  );
  const found: { ready?: ModelRow; unfinished?: ModelRow } = {};
  for (const row of rows) found[row.state === 'ready' ? 'ready' : 'unfinished'] = row;
  return found;
}

interface ModelRow {
  id: string;
  state: string;
  digest: string;
  bytes: number;
}

async function ingestLocked(client: pg.Client, source: ModelSource, options: IngestOptions): Promise<IngestResult> {
  const progress = options.onProgress ?? (() => undefined);
  const architecture = checkComputable(source);
  const name = modelName(source, options.name);
  checkNames(source);
  const tokens = vocabularySize(source);
  checkVocabulary(source);
  checkFrames(source);
  const fileBytes = source.files.reduce((sum, file) => sum + file.size, 0);
  const bytes = source.tensors.reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  const { ready, unfinished } = await rowsNamed(client, name);
  const hashing = {
    onBytes: (done: number) => progress('hash', done, fileBytes),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
  progress('hash', 0, fileBytes);
  const license = licenseOf(source);
  const facts = { name, tensors: source.tensors.length, tokens, bytes, license, notes: notesOn(source, architecture) };
  if (ready?.bytes === fileBytes) {
    // Most likely the very files: one digest tells, where an ingest needs those of all tensors and tiles.
    const digest = (await hashFiles(source, hashing)).toString('hex');
    if (ready.digest === digest) {
      return { ...facts, digest, modelId: Number(ready.id), alreadyThere: true, sentBytes: 0 };
    }
  }
  const digests = await hashModel(source, { ...hashing, finite: true });
  const digest = digests.model.toString('hex');
  if (source.expectedDigest !== undefined && source.expectedDigest !== digest) {
    throw new CommandError(`${source.location} has SHA-256 ${digest}, its manifest says ${source.expectedDigest}`);
  }
  if (ready !== undefined && options.replace !== true) {
    throw new CommandError(
      `model ${name} exists with digest ${ready.digest.slice(0, 12)}, the file has ${digest.slice(0, 12)}`,
      {
        hint: 'use --replace to put this file in its place, or --name to keep both',
      },
    );
  }
  let modelId = unfinished?.id;
  if (unfinished !== undefined && unfinished.digest !== digest) {
    await client.query('select hartonomous._abandon_ingest($1)', [name]);
    modelId = undefined;
  }
  modelId ??= await insertModel(client, source, architecture, name, digests);

  const have = await client.query<{ n: string }>('select count(*) as n from hartonomous.tokens where model_id = $1', [
    modelId,
  ]);
  const vocabulary = vocabularyBytes(source);
  progress('vocabulary', 0, vocabulary);
  if (Number(have.rows[0]?.n) !== tokens) {
    await ingestVocabulary(client, modelId, source, (done) => progress('vocabulary', done, vocabulary));
  }
  // The planner must know the new rows before anything joins them: after a removal it takes the tables for empty.
  await client.query('select hartonomous._analyze_models()');
  await refuseUnusable(client, modelId, name, 'select hartonomous._check_tokenizer($1)');
  progress('vocabulary', vocabulary, vocabulary);
  const sentBytes = await ingestTensors(client, source, modelId, digests.tensors, {
    onBytes: (done) => progress('tensors', done, bytes),
    ...(options.batchBytes === undefined ? {} : { batchBytes: options.batchBytes }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  for (const file of source.files) {
    if ((await file.handle.stat()).mtimeMs === file.modified) continue;
    await client.query('select hartonomous._abandon_ingest($1)', [name]);
    throw new CommandError(`file ${file.path} was changed while it was read`, { hint: 'run the command again' });
  }
  await refuseUnusable(client, modelId, name, 'select hartonomous._check_model($1)');
  await client.query('select hartonomous._analyze_models()');
  const onNotice = ({ message = '' }: { message?: string | undefined }): void => {
    const [, done, all] = /^embeddings: (\d+) of (\d+) bytes$/.exec(message) ?? [];
    if (all !== undefined) progress('embeddings', Number(done), Number(all));
  };
  client.on('notice', onNotice);
  await client.query('begin');
  try {
    await client.query('select hartonomous._index_embeddings($1)', [modelId]);
    await client.query('select hartonomous._publish_model($1)', [modelId]);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  } finally {
    client.off('notice', onNotice);
  }
  return { ...facts, digest, modelId: Number(modelId), alreadyThere: false, sentBytes };
}

/** SQLSTATEs with which the engine says that it cannot run a model: that will be so at the next try as well. */
const UNUSABLE: ReadonlySet<string> = new Set(['0A000', '54000', '22023', 'XX001']);

/** Ask the engine about what is stored; a model that it refuses is removed again, and the refusal is the error. */
async function refuseUnusable(client: pg.Client, modelId: string, name: string, check: string): Promise<void> {
  try {
    await client.query(check, [modelId]);
  } catch (cause) {
    if (!(cause instanceof pg.DatabaseError) || !UNUSABLE.has(cause.code ?? '')) throw cause;
    await client.query('select hartonomous._abandon_ingest($1)', [name]);
    throw new CommandError(cause.message, { ...(cause.hint === undefined ? {} : { hint: cause.hint }), cause });
  }
}

async function insertModel(
  client: pg.Client,
  source: ModelSource,
  architecture: string,
  name: string,
  digests: Digests,
): Promise<string> {
  const hyperparameters: Record<string, unknown> = {};
  const tokenizer: Record<string, unknown> = {};
  for (const [key, value] of source.metadata) {
    if (LARGE_TOKENIZER_KEYS.has(key)) continue;
    (key.startsWith(TOKENIZER) ? tokenizer : hyperparameters)[storable(key)] = jsonOf(value);
  }
  const parameters = source.tensors.reduce(
    (sum, tensor) => sum + tensor.shape.reduce((product, size) => product * size, 1),
    0,
  );
  await client.query('begin');
  try {
    const { rows } = await client.query<{ id: string }>(
      `insert into hartonomous.models (name, state, architecture, hyperparameters, tokenizer, chat_template, source,
         source_format, source_digest, source_bytes, parameter_count, layer_count, context_length, embedding_length, vocabulary_size,
         default_options, system_prompt)
       values ($1, 'ingesting', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) returning id`,
      [
        name,
        architecture,
        JSON.stringify(hyperparameters),
        JSON.stringify(tokenizer),
        text(source, 'tokenizer.chat_template'),
        storable(source.location),
        source.format,
        digests.model,
        source.files.reduce((sum, file) => sum + file.size, 0),
        parameters,
        integer(source, `${architecture}.block_count`),
        integer(source, `${architecture}.context_length`),
        integer(source, `${architecture}.embedding_length`),
        vocabularySize(source),
        JSON.stringify(source.defaultOptions),
        source.systemPrompt,
      ],
    );
    const id = rows[0]!.id;
    for (const [i, file] of source.files.entries()) {
      await client.query(
        `insert into hartonomous.source_files (model_id, ordinal, name, size_bytes, digest, frame) values ($1, $2, $3, $4, $5, $6)`,
        [id, i, storable(file.name), file.size, digests.files[i], await readFrame(source, i)],
      );
    }
    await client.query('commit');
    return id;
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
}
