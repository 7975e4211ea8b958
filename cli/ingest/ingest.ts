/** Take a GGUF file into the database: committed in steps, invisible until complete, resumable, nothing stored twice. */
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import pg from 'pg';
import { ARCHITECTURE_NAMES } from '../../plv8/src/format/architecture-names.ts';
import { COMPUTABLE_TYPES } from '../../plv8/src/format/computable-types.ts';
import { CommandError } from '../errors.ts';
import type { GgufHeader, GgufValue } from '../sources/gguf.ts';
import { readGgufHeader } from '../sources/gguf.ts';
import { StringTable } from '../sources/string-table.ts';
import { hashFile, hashTensors } from './digests.ts';
import { ingestTensors } from './tensors.ts';
import { checkVocabulary, ingestVocabulary, vocabularySize } from './vocabulary.ts';

/** Key of the advisory lock that lets one ingest or removal at a time work in a database; remove_model takes it too. */
const INGEST_LOCK = 'hartonomous.ingest';
const MAX_NAME_LENGTH = 200;

export type Phase = 'hash' | 'vocabulary' | 'tensors' | 'embeddings';

export interface IngestOptions {
  name?: string;
  /** Put this model in the place of a ready one of the same name. */
  replace?: boolean;
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
}

function text(header: GgufHeader, key: string): string | null {
  const value = header.metadata.get(key);
  return typeof value === 'string' ? value : null;
}

function integer(header: GgufHeader, key: string): number | null {
  const value = header.metadata.get(key);
  if (typeof value !== 'number' && typeof value !== 'bigint') return null;
  const number = Number(value);
  return Number.isSafeInteger(number) && Math.abs(number) <= 2147483647 ? number : null;
}

/** JSON of a metadata value; integers beyond a double's reach as text. */
function jsonOf(value: GgufValue): unknown {
  if (value instanceof StringTable) return Array.from({ length: value.length }, (_, i) => value.at(i).toString());
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value.toString();
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (typeof value === 'object') return value.map(jsonOf);
  return typeof value === 'string' ? value.replaceAll('\0', '') : value;
}

const TOKENIZER = 'tokenizer.';
const LARGE_TOKENIZER_KEYS: ReadonlySet<string> = new Set([
  'tokenizer.ggml.tokens',
  'tokenizer.ggml.scores',
  'tokenizer.ggml.token_type',
  'tokenizer.ggml.merges',
  'tokenizer.chat_template',
]);

function checkComputable(header: GgufHeader): string {
  const architecture = text(header, 'general.architecture');
  if (architecture === null) throw new CommandError('file has no general.architecture');
  if (!ARCHITECTURE_NAMES.includes(architecture)) {
    throw new CommandError(`architecture ${architecture} is not supported, only ${ARCHITECTURE_NAMES.join(', ')}`);
  }
  for (const tensor of header.tensors) {
    if (!COMPUTABLE_TYPES.has(tensor.type.name)) {
      throw new CommandError(`tensor ${tensor.name} has type ${tensor.type.name}, which is not supported`, {
        hint: `supported: ${[...COMPUTABLE_TYPES].join(', ')}`,
      });
    }
  }
  return architecture;
}

/** Name of the model: as given, else the file's without its ending. */
function modelName(file: string, given: string | undefined): string {
  const name = (given ?? basename(file).replace(/\.gguf$/i, '')).trim();
  if (name === '' || name.length > MAX_NAME_LENGTH) {
    throw new CommandError(`model name must have 1 to ${MAX_NAME_LENGTH} characters, got ${name.length}`);
  }
  return name;
}

/** Ingest a file. Throws CommandError; what was committed before is picked up by the next run of the same file. */
export async function ingest(client: pg.Client, file: string, options: IngestOptions = {}): Promise<IngestResult> {
  let handle: FileHandle;
  try {
    handle = await open(file, 'r');
  } catch (cause) {
    throw new CommandError(`cannot read ${file}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  try {
    const locked = await client.query<{ got: boolean }>('select pg_try_advisory_lock(hashtext($1)) as got', [
      INGEST_LOCK,
    ]);
    if (locked.rows[0]?.got !== true) {
      options.onWait?.();
      await client.query('select pg_advisory_lock(hashtext($1))', [INGEST_LOCK]);
    }
    try {
      return await ingestLocked(client, handle, file, options);
    } finally {
      await client.query('select pg_advisory_unlock(hashtext($1))', [INGEST_LOCK]).catch(() => undefined);
    }
  } finally {
    await handle.close();
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

async function ingestLocked(
  client: pg.Client,
  handle: FileHandle,
  file: string,
  options: IngestOptions,
): Promise<IngestResult> {
  const progress = options.onProgress ?? (() => undefined);
  const header = readGgufHeader(handle.fd);
  const architecture = checkComputable(header);
  const name = modelName(file, options.name);
  const tokens = vocabularySize(header);
  checkVocabulary(header);
  const bytes = header.tensors.reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  const { ready, unfinished } = await rowsNamed(client, name);
  const hashing = {
    onBytes: (done: number) => progress('hash', done, header.fileSize),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
  const facts = { name, tensors: header.tensors.length, tokens, bytes };
  if (ready?.bytes === header.fileSize) {
    // Most likely the very file: one digest tells, where an ingest needs those of all tensors and tiles.
    const digest = (await hashFile(handle, header.fileSize, hashing)).toString('hex');
    if (ready.digest === digest) {
      return { ...facts, digest, modelId: Number(ready.id), alreadyThere: true, sentBytes: 0 };
    }
  }
  const digests = await hashTensors(handle, header, hashing);
  const digest = digests.file.toString('hex');
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
  modelId ??= await insertModel(client, header, architecture, name, file, digests.file);

  const have = await client.query<{ n: string }>('select count(*) as n from hartonomous.tokens where model_id = $1', [
    modelId,
  ]);
  progress('vocabulary', 0, tokens);
  if (Number(have.rows[0]?.n) !== tokens) await ingestVocabulary(client, modelId, header);
  await refuseUnusable(client, modelId, name, 'select hartonomous._check_tokenizer($1)');
  progress('vocabulary', tokens, tokens);
  const modified = (await handle.stat()).mtimeMs;
  const sentBytes = await ingestTensors(client, handle, modelId, header, digests.tensors, {
    onBytes: (done) => progress('tensors', done, bytes),
    ...(options.batchBytes === undefined ? {} : { batchBytes: options.batchBytes }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  if ((await handle.stat()).mtimeMs !== modified) {
    await client.query('select hartonomous._abandon_ingest($1)', [name]);
    throw new CommandError(`file ${file} was changed while it was read`, { hint: 'run the command again' });
  }
  await refuseUnusable(client, modelId, name, 'select hartonomous._check_model($1)');
  // The planner must know the new rows before anything joins them.
  await client.query('select hartonomous._analyze_models()');
  progress('embeddings', 0, tokens);
  await client.query('begin');
  try {
    await client.query('select hartonomous._index_embeddings($1)', [modelId]);
    await client.query('select hartonomous._publish_model($1)', [modelId]);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => undefined);
    throw error;
  }
  progress('embeddings', tokens, tokens);
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
  header: GgufHeader,
  architecture: string,
  name: string,
  file: string,
  digest: Buffer,
): Promise<string> {
  const hyperparameters: Record<string, unknown> = {};
  const tokenizer: Record<string, unknown> = {};
  for (const [key, value] of header.metadata) {
    if (LARGE_TOKENIZER_KEYS.has(key)) continue;
    (key.startsWith(TOKENIZER) ? tokenizer : hyperparameters)[key] = jsonOf(value);
  }
  const parameters = header.tensors.reduce(
    (sum, tensor) => sum + tensor.shape.reduce((product, size) => product * size, 1),
    0,
  );
  const { rows } = await client.query<{ id: string }>(
    `insert into hartonomous.models (name, state, architecture, hyperparameters, tokenizer, chat_template, source,
       source_format, source_digest, source_bytes, parameter_count, layer_count, context_length, embedding_length, vocabulary_size)
     values ($1, 'ingesting', $2, $3, $4, $5, $6, 'gguf', $7, $8, $9, $10, $11, $12, $13) returning id`,
    [
      name,
      architecture,
      JSON.stringify(hyperparameters),
      JSON.stringify(tokenizer),
      text(header, 'tokenizer.chat_template'),
      resolve(file),
      digest,
      header.fileSize,
      parameters,
      integer(header, `${architecture}.block_count`),
      integer(header, `${architecture}.context_length`),
      integer(header, `${architecture}.embedding_length`),
      vocabularySize(header),
    ],
  );
  return rows[0]!.id;
}
