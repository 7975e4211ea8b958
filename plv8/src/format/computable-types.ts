/**
 * Storage types that the engine computes with. Every type of ggml-types.ts could be stored without loss; ingest refuses
 * the others, so that a model which is there also runs.
 */
export const COMPUTABLE_TYPES: ReadonlySet<string> = new Set([
  'F32',
  'F16',
  'BF16',
  'F64',
  'I8',
  'I16',
  'I32',
  'I64',
  'Q8_0',
  'Q4_0',
  'Q4_1',
  'Q5_0',
  'Q5_1',
  'Q2_K',
  'Q3_K',
  'Q4_K',
  'Q5_K',
  'Q6_K',
  'IQ4_NL',
  'IQ4_XS',
]);
