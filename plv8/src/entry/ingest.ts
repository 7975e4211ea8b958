/** What ingest asks of the engine. */
import { checkModel as checkModelTables, checkTokenizer as checkTokenizerTables } from '../backend/usability.ts';
import { indexModelEmbeddings } from '../model/embedding-index.ts';

/** `_check_tokenizer`: refuse a vocabulary that cannot be used. */
export function checkTokenizer(modelId: bigint | number): number {
  return checkTokenizerTables(Number(modelId));
}

/** `_check_model`: refuse a model whose hyper-parameters or tensors cannot be computed with. */
export function checkModel(modelId: bigint | number): void {
  checkModelTables(Number(modelId));
}

export function indexEmbeddings(modelId: number | bigint): number {
  return indexModelEmbeddings(Number(modelId));
}
