/** Take a GGUF file into the database: committed in steps, invisible until complete, resumable, nothing stored twice. */
import { closeSync, openSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import type pg from 'pg';
import { COMPUTABLE_TYPES } from '../../plv8/src/format/computable-types.ts';
import { CommandError } from '../errors.ts';
import type { GgufHeader, GgufValue } from '../sources/gguf.ts';
import { readGgufHeader } from '../sources/gguf.ts';
import { StringTable } from '../sources/string-table.ts';
import { hashFile } from './digests.ts';
import { ingestTensors } from './tensors.ts';
import { ingestVocabulary, vocabularySize } from './vocabulary.ts';

/** Key of the advisory lock that lets one ingest or removal at a time work in a database; remove_model takes it too. */
const INGEST_LOCK = 'hartonomous.ingest';
/** Architectures whose forward pass is implemented. */
const ARCHITECTURES: ReadonlySet<string> = new Set(['llama', 'qwen2']);
const MAX_NAME_LENGTH = 200;

export type Phase = 'hash' | 'vocabulary' | 'tensors' | 'embeddings';

export interface IngestOptions {
  name?: string;
  /** Put this model in the place of a ready one of the same name. */
  replace?: boolean;
  onProgress?(phase: Phase, done: number, total: number): void;
  /** Called when another ingest has to be waited for. */
  onWait?(): void;
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
  if (!ARCHITECTURES.has(architecture)) {
    throw new CommandError(`architecture ${architecture} is not supported, only ${[...ARCHITECTURES].join(', ')}`);
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
  let fd: number;
  try {
    fd = openSync(file, 'r');
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
      return await ingestLocked(client, fd, file, options);
    } finally {
      await client.query('select pg_advisory_unlock(hashtext($1))', [INGEST_LOCK]).catch(() => undefined);
    }
  } finally {
    closeSync(fd);
  }
}

async function ingestLocked(
  client: pg.Client,
  fd: number,
  file: string,
  options: IngestOptions,
): Promise<IngestResult> {
  const progress = options.onProgress ?? (() => undefined);
  const header = readGgufHeader(fd);
  const architecture = checkComputable(header);
  const name = modelName(file, options.name);
  const tokens = vocabularySize(header);
  const digests = hashFile(fd, header, (done) => progress('hash', done, header.fileSize));
  const digest = digests.file.toString('hex');
  const bytes = header.tensors.reduce((sum, tensor) => sum + tensor.sizeBytes, 0);
  const facts = { name, digest, tensors: header.tensors.length, tokens, bytes };

  const same = await client.query<{ id: string; state: string; digest: string }>(
    `select id, state, encode(source_digest, 'hex') as digest from hartonomous.models where name = $1`,
    [name],
  );
  const ready = same.rows.find((row) => row.state === 'ready');
  if (ready?.digest === digest) return { ...facts, modelId: Number(ready.id), alreadyThere: true, sentBytes: 0 };
  if (ready !== undefined && options.replace !== true) {
    throw new CommandError(
      `model ${name} exists with digest ${ready.digest.slice(0, 12)}, the file has ${digest.slice(0, 12)}`,
      {
        hint: 'use --replace to put this file in its place, or --name to keep both',
      },
    );
  }
  const unfinished = same.rows.find((row) => row.state === 'ingesting');
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
  progress('vocabulary', tokens, tokens);
  const sentBytes = await ingestTensors(client, fd, modelId, header, digests.tensors, (done) =>
    progress('tensors', done, bytes),
  );
  // The planner must know the new rows before anything joins them.
  await client
    .query('analyze hartonomous.atoms, hartonomous.compositions, hartonomous.tokens, hartonomous.weight_matrices')
    .catch(() => undefined);
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
  return { ...facts, modelId: Number(modelId), alreadyThere: false, sentBytes };
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
