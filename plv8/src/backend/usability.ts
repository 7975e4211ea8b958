/** Whether a model that is being ingested can be used, asked before it becomes visible. */
import { query } from '../db.ts';
import { raise, SQLSTATE } from '../errors.ts';
import { TILE_TARGET_BYTES } from '../format/tiles.ts';
import { MAX_MEMORY_BYTES } from '../model/arena.ts';
import { checkVocabularySize, readConfig } from '../model/config.ts';
import { planMemories } from '../model/memories.ts';
import { inModelForm } from '../model/model-form.ts';
import { dbWeightSource } from '../model/source-db.ts';
import { checkWeights, planWeights } from '../model/weights.ts';
import { readVocabulary } from '../tokenizer/source-db.ts';
import { createTokenizer } from '../tokenizer/tokenizer.ts';

/** Build the tokenizer of a model; throws as its first use would. Returns the size of the vocabulary. */
export function checkTokenizer(modelId: number): number {
  return createTokenizer(readVocabulary(modelId)).vocabSize;
}

/** Check hyper-parameters, tensor names, shapes and types of a model; throws as loading it would. */
export function checkModel(modelId: number): void {
  const row = query(
    `select name, architecture, hyperparameters::json as hyperparameters, vocabulary_size
     from hartonomous.models where id = $1::bigint`,
    [modelId],
  )[0];
  if (row === undefined) raise(SQLSTATE.undefinedObject, `model with id ${modelId} does not exist`);
  const hyperparameters = (row.hyperparameters ?? {}) as Record<string, unknown>;
  const tensors = inModelForm(dbWeightSource(modelId), hyperparameters).tensors();
  const config = readConfig(String(row.architecture), hyperparameters, tensors);
  checkWeights(config, tensors);
  const plan = planWeights(tensors, 'auto', TILE_TARGET_BYTES);
  planMemories(String(row.name), config, tensors, plan, MAX_MEMORY_BYTES);
  checkVocabularySize(String(row.name), config, Number(row.vocabulary_size));
}
