// llama.cpp compiled to WebAssembly (@wllama/wllama, single thread) in this process:
// node wllama.mjs MODEL REPEATS -> one JSON line, prefill and decode as llama-node.mjs has them.
// The build's own benchmark action times llama_decode alone; its decode starts from an empty context.
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [file, repeats = '1'] = process.argv.slice(2);
const PREFILL = 128;
const DECODE = 64;
const CONTEXT = 512;
const READ_BYTES = 1 << 24;
const PACKAGE = join(dirname(fileURLToPath(import.meta.url)), 'node_modules/@wllama/wllama');
const BUILD = join(PACKAGE, 'src/single-thread');

// The messages' fields stand as a literal in the package's TypeScript.
const source = readFileSync(join(PACKAGE, 'src/glue/messages.ts'), 'utf8');
const literal = source.slice(source.indexOf('= {', source.indexOf('GLUE_MESSAGE_PROTOTYPES')) + 2);
const MESSAGES = new Function(`return ${literal.slice(0, literal.indexOf('\n};') + 2)}`)();
const VERSION = Number(/GLUE_VERSION = (\d+)/.exec(source)[1]);
const TYPES = {
  bool: 1,
  int: 2,
  float: 3,
  str: 4,
  raw: 5,
  arr_bool: 6,
  arr_int: 7,
  arr_float: 8,
  arr_str: 9,
  arr_raw: 10,
};

function encode(message) {
  const parts = [];
  const integer = (value) => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value | 0);
    parts.push(bytes);
  };
  const float = (value) => {
    const bytes = Buffer.alloc(4);
    bytes.writeFloatLE(value);
    parts.push(bytes);
  };
  const bytes = (value) => {
    integer(value.length);
    parts.push(value);
  };
  const write = {
    int: integer,
    float,
    bool: (value) => integer(value ? 1 : 0),
    str: (value) => bytes(Buffer.from(value)),
    raw: bytes,
  };
  parts.push(Buffer.from('GLUE'));
  integer(VERSION);
  parts.push(Buffer.from(message._name));
  for (const { name, type } of MESSAGES[message._name].fields) {
    const value = message[name];
    if (value === undefined || value === null) {
      integer(0);
      continue;
    }
    integer(TYPES[type]);
    if (type.startsWith('arr_')) {
      integer(value.length);
      for (const element of value) write[type.slice(4)](element);
    } else write[type](value);
  }
  return Buffer.concat(parts);
}

function decode(buffer) {
  let at = 4;
  const integer = () => {
    at += 4;
    return buffer.readInt32LE(at - 4);
  };
  const bytes = (length) => {
    at += length;
    return buffer.subarray(at - length, at);
  };
  const read = {
    int: integer,
    bool: () => integer() !== 0,
    float: () => {
      at += 4;
      return buffer.readFloatLE(at - 4);
    },
    str: () => bytes(integer()).toString(),
    raw: () => bytes(integer()),
  };
  integer(); // version
  const name = bytes(8).toString();
  const message = { _name: name };
  for (const field of MESSAGES[name].fields) {
    if (integer() === 0) continue;
    message[field.name] = field.type.startsWith('arr_')
      ? Array.from({ length: integer() }, read[field.type.slice(4)])
      : read[field.type]();
  }
  return message;
}

const log = [];
const Module = {
  noInitialRun: true,
  print: (text) => log.push(text),
  printErr: (text) => log.push(text),
  locateFile: (name) => join(BUILD, name),
  wasmBinary: readFileSync(join(BUILD, 'wllama.wasm')),
};
const ready = new Promise((resolve, reject) => {
  Module.onRuntimeInitialized = resolve;
  Module.onAbort = (reason) => reject(new Error(`abort ${reason}`));
});
const script = readFileSync(join(BUILD, 'wllama.js'), 'utf8').replace('var Module=', 'var unused=');
new Function('given', 'require', '__dirname', '__filename', `var Module = given;${script}`)(
  Module,
  createRequire(import.meta.url),
  BUILD,
  join(BUILD, 'wllama.js'),
);
await ready;

// As wllama's worker does it: the file lies in the WebAssembly heap, and mapping it returns a pointer into it.
const NAME = 'model.gguf';
const size = statSync(file).size;
let heap = 0;
const operations = Module.MEMFS.stream_ops;
const original = { read: operations.read, llseek: operations.llseek, mmap: operations.mmap };
const isModel = (stream) => heap !== 0 && stream.node.name === NAME;
const patch = (stream) => {
  if (!isModel(stream)) return;
  stream.node.contents = Module.HEAPU8.subarray(heap, heap + size);
  stream.node.usedBytes = size;
};
operations.read = (stream, ...rest) => {
  patch(stream);
  return original.read(stream, ...rest);
};
operations.llseek = (stream, ...rest) => {
  patch(stream);
  return original.llseek(stream, ...rest);
};
operations.mmap = (stream, length, position, ...rest) =>
  isModel(stream) ? { ptr: heap + position, allocated: false } : original.mmap(stream, length, position, ...rest);
Module.MEMFS.ops_table.file.stream.read = operations.read;
Module.MEMFS.ops_table.file.stream.llseek = operations.llseek;
Module.FS.mkdir('/models');
Module.FS.mount(Module.MEMFS, { root: '.' }, '/models');
Module.FS_createDataFile('/models', NAME, new Uint8Array(0), true, true, true);
heap = Module.mmapAlloc(size) >>> 0;
if (heap === 0) throw new Error(`no room for ${size} bytes`);
const descriptor = openSync(file);
for (let at = 0; at < size;) at += readSync(descriptor, Module.HEAPU8, heap + at, Math.min(size - at, READ_BYTES), at);
closeSync(descriptor);

const allocate = Module.cwrap('wllama_malloc', 'number', ['number', 'number']);
const action = Module.cwrap('wllama_action', 'number', ['string', 'number']);
function act(name, message) {
  const bytes = encode(message);
  const at = allocate(bytes.length, 0) >>> 0;
  Module.HEAPU8.set(bytes, at);
  const answer = action(name, at) >>> 0;
  if (answer === 0) throw new Error(`${name} failed: ${log.slice(-3).join(' | ')}`);
  const length = new DataView(Module.HEAPU8.buffer).getUint32(at, true);
  return decode(Buffer.from(Module.HEAPU8.slice(answer, answer + length)));
}
Module.cwrap('wllama_start', 'string', [])();
const loaded = act('load', {
  _name: 'load_req',
  model_paths: [`/models/${NAME}`],
  n_ctx_auto: false,
  use_mmap: true,
  use_mlock: false,
  n_gpu_layers: 0,
  seed: 42,
  n_ctx: CONTEXT,
  n_threads: 1,
  n_batch: CONTEXT,
});
if (!loaded.success) throw new Error(`wllama did not load ${file}`);

/** Tokens per second. */
function rate(type, tokens) {
  const answer = act('test_benchmark', { _name: 'tben_req', type, n_samples: tokens });
  if (!answer.success) throw new Error(answer.message);
  return (tokens / answer.t_ms) * 1000;
}
rate('pp', 16); // warm-up: V8 compiles what is hot
rate('tg', 4);
const prefill = [];
const decoded = [];
for (let i = 0; i < Number(repeats); i++) {
  prefill.push(rate('pp', PREFILL));
  decoded.push(rate('tg', DECODE));
}
console.log(JSON.stringify({ prefill, decode: decoded }));
process.exit(0);
