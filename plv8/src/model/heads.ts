/**
 * What stands behind the layers of models that embed or classify: matrices that an embedding goes through, and a
 * classifier of one token's state. They see one vector a text, so they are computed here, in double precision.
 */
import { raise, SQLSTATE } from '../errors.ts';
import type { ModelConfig } from './config.ts';
import type { Matrix } from './matrix.ts';

/** Rows of a head, at most, for each element of the residual stream: its rows must fit where one is read. */
const MAX_WIDENING = 16;

export interface Linear {
  weight: Matrix;
  bias: Matrix | null;
}

export interface Heads {
  /** What an embedding goes through, in this order. */
  dense: readonly Linear[];
  classifier: Classifier | null;
}

export interface Classifier {
  /** (dim, dim), followed by tanh */
  hidden: Linear | null;
  /** (dim, labels) */
  output: Linear | null;
}

/** Finds a tensor by name and checks its shape; null where the model has none. */
type Take = (name: string, cols: number, rows: number) => Matrix | null;

/** The heads of an architecture, of those that the file has. `rowsOf` is the height of a tensor, 0 where there is none. */
export function bindHeads(config: ModelConfig, rowsOf: (name: string) => number, take: Take): Heads {
  const { architecture, dim, pooling } = config;
  const linear = (name: string, cols: number): Linear | null => {
    const rows = rowsOf(`${name}.weight`);
    if (rows > MAX_WIDENING * dim)
      raise(
        SQLSTATE.featureNotSupported,
        `tensor ${name}.weight has ${rows} rows, at most ${MAX_WIDENING * dim} are computed`,
      );
    const weight = rows === 0 ? null : take(`${name}.weight`, cols, rows);
    return weight === null ? null : { weight, bias: take(`${name}.bias`, rows, 1) };
  };
  const dense: Linear[] = [];
  for (const name of architecture.denseHeads === true ? ['dense_2', 'dense_3'] : []) {
    const head = linear(name, dense.at(-1)?.weight.rows ?? dim);
    if (head !== null) dense.push(head);
  }
  if (architecture.classifier === undefined) return { dense, classifier: null };
  const hidden = linear('cls', dim);
  const output = linear('cls.output', hidden?.weight.rows ?? dim);
  const classifier = hidden === null && output === null ? null : { hidden, output };
  if (pooling === 'rank' && classifier === null)
    raise(
      SQLSTATE.dataCorrupted,
      'model is a reranker (pooling_type 4) and has no tensor cls.weight or cls.output.weight',
    );
  return { dense, classifier };
}

/** weight (rows, cols) times a vector (cols), and the bias (rows). `readRow` gives a row of a matrix as floats. */
export function applyLinear(
  { weight, bias }: Linear,
  vector: ArrayLike<number>,
  readRow: (matrix: Matrix, index: number, out: Float32Array) => void,
): Float64Array {
  const out = new Float64Array(weight.rows);
  if (bias !== null) {
    const added = new Float32Array(bias.cols);
    readRow(bias, 0, added);
    out.set(added);
  }
  const row = new Float32Array(weight.cols);
  for (let r = 0; r < weight.rows; r++) {
    readRow(weight, r, row);
    let sum = 0;
    for (let c = 0; c < row.length; c++) sum += row[c]! * vector[c]!;
    out[r]! += sum;
  }
  return out;
}
