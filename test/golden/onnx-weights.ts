/** Float tensors of an ONNX file of BERT under the names of its PyTorch module: the few fields of the format that hold them. */
import { readFileSync } from 'node:fs';

export interface NamedTensor {
  name: string;
  /** As PyTorch has it: (rows, cols) of a matrix. */
  shape: number[];
  data: Float32Array;
}

/** A field of a protobuf message: its number, and its value or the bytes of it. */
type Field = [field: number, value: number, bytes: Buffer];

const VARINT = 0;
const LENGTH_DELIMITED = 2;
const FIXED_SIZES: Readonly<Record<number, number>> = { 1: 8, 5: 4 };
const FLOAT = 1;

function varint(bytes: Buffer, at: number): [value: number, next: number] {
  let value = 0;
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[at++]!;
    value += (byte & 127) * scale;
    if (byte < 128) return [value, at];
  }
}

function* fieldsOf(bytes: Buffer): Generator<Field> {
  for (let at = 0; at < bytes.length;) {
    const [tag, afterTag] = varint(bytes, at);
    const kind = tag & 7;
    if (kind === VARINT) {
      const [value, next] = varint(bytes, afterTag);
      yield [tag >>> 3, value, bytes.subarray(0, 0)];
      at = next;
      continue;
    }
    const [size, from] = kind === LENGTH_DELIMITED ? varint(bytes, afterTag) : [FIXED_SIZES[kind]!, afterTag];
    yield [tag >>> 3, 0, bytes.subarray(from, from + size)];
    at = from + size;
  }
}

const texts = (fields: readonly Field[], number: number): string[] =>
  fields.filter(([field]) => field === number).map(([, , bytes]) => bytes.toString());

/** TensorProto: dims 1, data_type 2, name 8, raw_data 9; null for what are no floats. */
function tensorOf(bytes: Buffer): NamedTensor | null {
  const fields = [...fieldsOf(bytes)];
  if (fields.find(([field]) => field === 2)?.[1] !== FLOAT) return null;
  const shape = fields.filter(([field]) => field === 1).map(([, value]) => value);
  const raw = Uint8Array.from(fields.find(([field]) => field === 9)![2]);
  return { name: texts(fields, 8)[0]!, shape, data: new Float32Array(raw.buffer) };
}

function transposed({ shape, data }: NamedTensor): Pick<NamedTensor, 'shape' | 'data'> {
  const [rows, cols] = shape as [number, number];
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[c * rows + r] = data[r * cols + c]!;
  return { shape: [cols, rows], data: out };
}

/** ModelProto: graph 7; GraphProto: node 1, initializer 5; NodeProto: input 1, name 3, op_type 4. */
export function onnxTensors(path: string): NamedTensor[] {
  const graph = [...fieldsOf(readFileSync(path))].find(([field]) => field === 7)![2];
  const parts = [...fieldsOf(graph)];
  /** Nameless matrix -> what it is, by the node that multiplies with it. */
  const moduleOf = new Map<string, string>();
  for (const [field, , bytes] of parts) {
    if (field !== 1) continue;
    const node = [...fieldsOf(bytes)];
    const [name] = texts(node, 3);
    if (texts(node, 4)[0] !== 'MatMul' || name === undefined) continue;
    const module = /^\/(.+)\/MatMul$/.exec(name)?.[1];
    if (module !== undefined) moduleOf.set(texts(node, 1)[1]!, `${module.replaceAll('/', '.')}.weight`);
  }
  return parts.flatMap(([field, , bytes]) => {
    const tensor = field === 5 ? tensorOf(bytes) : null;
    if (tensor === null) return [];
    const name = moduleOf.get(tensor.name);
    if (name !== undefined) return [{ name, ...transposed(tensor) }];
    return /^(embeddings|encoder)\./.test(tensor.name) ? [tensor] : [];
  });
}
