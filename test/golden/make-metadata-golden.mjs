// What llama.cpp makes of one metadata key more, and of one less: the JSON files of metadata-keys.test.ts.
//   npm i node-llama-cpp@3.22.1 somewhere; NODE_PATH is not read by modules, so run a copy of this script from that folder:
//   node make-metadata-golden.mjs MODELS_FOLDER plain metadata-keys.json
//   node make-metadata-golden.mjs MODELS_FOLDER embedding metadata-keys-embedding.json
// A file that aborts llama.cpp takes its process along: files are read by a child, which is started again.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const CASES = 2000;
const SEED = 25;
const SHOWN = [3, 17, 64, 111, 222, 333, 444, 500]; // logits that are kept
const IDS = [1, 5, 9, 20, 31, 300, 301, 17, 44, 260, 270, 12, 88, 90, 99, 140, 201, 333, 345, 402, 411, 7, 68, 39];
const CONTEXT = 128;

/** Decoders and BERT, each with keys that it gets beforehand. */
const PLAIN = [
  ['llama-untied-gqa', []],
  ['llama32-ropefreqs', []],
  ['qwen2-tiny', []],
  ['qwen3-tiny', []],
  ['phi3-tiny', []],
  ['gemma2-tiny', []],
  ['gemma3-tiny', []],
  ['gpt2-tiny', []],
  ['bert-tiny', []],
  [
    'llama-untied-gqa',
    [
      ['rope.scaling.type', 'str', 'yarn'],
      ['rope.scaling.factor', 'f32', 4],
      ['rope.scaling.original_context_length', 'u32', 128],
    ],
  ],
  [
    'qwen2-tiny',
    [
      ['rope.scaling.type', 'str', 'yarn'],
      ['rope.scaling.factor', 'f32', 8],
      ['rope.scaling.original_context_length', 'u32', 64],
    ],
  ],
  [
    'qwen3-tiny',
    [
      ['rope.scaling.type', 'str', 'linear'],
      ['rope.scaling.factor', 'f32', 2],
    ],
  ],
  [
    'gemma3-tiny',
    [
      ['rope.scaling.type', 'str', 'linear'],
      ['rope.scaling.factor', 'f32', 8],
    ],
  ],
];
/** What else embeds or ranks. */
const EMBEDDING = [
  'roberta-bpe',
  'xlm-roberta',
  'nomic-bert',
  'nomic-bert-moe',
  'gemma-embedding',
  'qwen3-embedding',
  'bert-reranker',
  'xlm-roberta-reranker',
  'qwen3-reranker',
].map((name) => [name, []]);

const NUMBERS = [0, 0.25, 0.5, 1, 1.3, 2, 4, 8, 30, 1e4, 1e6];
const SIZES = [0, 1, 2, 3, 4, 8, 16, 24, 32, 64, 512, 4096];
/** Keys of a decoder with what their values may be; those in front are drawn four times as often. */
const OFTEN = [
  ['attention.causal', 'bool', [true, false]],
  ['attention.scale', 'f32', [...NUMBERS, 0.125, 0.2]],
  ['attention.sliding_window', 'u32', SIZES],
  ['attention.sliding_window_pattern', 'u32', [0, 1, 2, 3, 6]],
  ['attention.value_length', 'u32', SIZES],
  ['attention.key_length', 'u32', SIZES],
  ['attn_logit_softcapping', 'f32', NUMBERS],
  ['final_logit_softcapping', 'f32', NUMBERS],
  ['attention.layer_norm_epsilon', 'f32', [1e-6, 1e-5, 0.1]],
  ['attention.layer_norm_rms_epsilon', 'f32', [1e-6, 1e-5, 0.1]],
  ['rope.dimension_count', 'u32', SIZES],
  ['rope.freq_base', 'f32', [1e3, 1e4, 1e5, 1e6]],
  ['rope.freq_base_swa', 'f32', [1e3, 1e4, 1e5, 1e6]],
  ['rope.scale_linear', 'f32', NUMBERS],
  ['rope.scaling.factor', 'f32', NUMBERS],
  ['rope.scaling.type', 'str', ['none', 'linear', 'yarn', 'longrope', 'su', 'dynamic', 'llama3', '']],
  ['rope.scaling.attn_factor', 'f32', NUMBERS],
  ['rope.scaling.original_context_length', 'u32', [0, 16, 64, 512, 4096]],
  ['rope.scaling.yarn_ext_factor', 'f32', [0, 0.5, 1, 2]],
  ['rope.scaling.yarn_attn_factor', 'f32', [0.5, 1, 1.5]],
  ['rope.scaling.yarn_beta_fast', 'f32', [1, 8, 32, 64]],
  ['rope.scaling.yarn_beta_slow', 'f32', [0.5, 1, 2]],
  ['rope.scaling.yarn_log_multiplier', 'f32', [0, 0.1, 0.5, 1]],
  ['rope.scaling.finetuned', 'bool', [true, false]],
  ['embedding_scale', 'f32', NUMBERS],
  ['residual_scale', 'f32', NUMBERS],
  ['logit_scale', 'f32', NUMBERS],
  ['expert_count', 'u32', [0, 1, 2, 8]],
  ['expert_used_count', 'u32', [0, 1, 2]],
  ['pooling_type', 'u32', [0, 1, 2, 3]],
  ['vocab_size', 'u32', [0, 100, 512, 513]],
  ['use_parallel_residual', 'bool', [true, false]],
];
const SELDOM = [
  ...'attention.clamp_kqv attention.group_norm_epsilon attention.max_alibi_bias attention.output_scale attention.temperature_scale attention.value_scale expert_group_scale expert_weights_scale hyper_connection.epsilon rope.scaling.alpha router_logit_softcapping activation.situ_beta attention.compress_rope_freq_base xielu.alpha_p'
    .split(' ')
    .map((key) => [key, 'f32', NUMBERS]),
  ...'attention.group_norm_groups attention.indexer.head_count attention.indexer.top_k attention.key_length_mla attention.key_length_swa attention.kv_lora_rank attention.q_lora_rank attention.relative_buckets_count attention.shared_kv_layers attention.temperature_length attention.value_length_mla attention.value_length_swa convnext.block_count decoder_block_count decoder_start_token_id dense_2_feat_in dense_2_feat_out dense_3_feat_in dense_3_feat_out embedding_length_out embedding_length_per_layer_input expert_feed_forward_length expert_gating_func expert_group_count expert_group_used_count expert_shared_count expert_shared_feed_forward_length features_length full_attention_interval interleave_moe_layer_step leading_dense_block_count moe_every_n_layers n_deepstack_layers nextn_predict_layers num_loops posnet.block_count rescale_every_n_layers rope.dimension_count_swa shortconv.l_cache ssm.conv_kernel ssm.state_size token_shift_count wkv.head_size mm.tokens_per_image vision.block_count embedding_length_audio'
    .split(' ')
    .map((key) => [key, 'u32', SIZES]),
  ...'expert_weights_norm swin_norm ssm.dt_b_c_rms norm_before_fc norm_before_residual hrm.prefix_lm normalize_embeddings'
    .split(' ')
    .map((key) => [key, 'bool', [true, false]]),
  ['tensor_data_layout', 'str', ['Meta AI original pth', 'row', '']],
  ['hidden_activation', 'str', ['gelu', 'silu', 'gelu_pytorch_tanh']],
  ['rope.dimension_sections', 'i32s', [[16, 24, 24, 0]]],
  [
    'attention.sliding_window_pattern',
    'bools',
    [
      [true, false, true, false],
      [false, true],
    ],
  ],
  ['classifier.output_labels', 'strs', [['yes', 'no']]],
  ['rope.global.freq_base', 'f32', [1e4, 1e6]],
  ['rope.local.freq_base', 'f32', [1e4, 1e6]],
  ['my.own.note', 'str', ['hello']],
  ['a_new_thing', 'f32', [0.5]],
];

function random(seed) {
  let a = seed | 0;
  return (n) => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((((t ^ (t >>> 14)) >>> 0) / 4294967296) * n) | 0;
  };
}

const u32 = (v) => Buffer.from(Uint32Array.of(v).buffer);
const u64 = (v) => Buffer.from(BigUint64Array.of(BigInt(v)).buffer);
const str = (s) => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);
const list = (type, values) => [u32(9), u32(type), u64(values.length), ...values];
const PAIRS = {
  str: (v) => [u32(8), str(v)],
  u32: (v) => [u32(4), u32(v)],
  f32: (v) => [u32(6), Buffer.from(Float32Array.of(v).buffer)],
  bool: (v) => [u32(7), Buffer.of(v ? 1 : 0)],
  strs: (v) => list(8, v.map(str)),
  i32s: (v) => list(5, v.map(u32)),
  bools: (v) =>
    list(
      7,
      v.map((x) => Buffer.of(x ? 1 : 0)),
    ),
};

const SIZE_OF = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
/** Where a file's header ends, and its keys with the first byte and the one after the last. */
function header(bytes) {
  let at = 8;
  let architecture = '';
  let tokens = 0;
  const marks = {};
  const long = () => ((at += 8), Number(bytes.readBigUInt64LE(at - 8)));
  const int = () => ((at += 4), bytes.readUInt32LE(at - 4));
  const text = () => {
    const n = long();
    at += n;
    return bytes.toString('utf8', at - n, at);
  };
  const skip = (type) => {
    if (type === 8) text();
    else if (type === 9) {
      const element = int();
      for (let n = long(); n > 0; n--) skip(element);
    } else at += SIZE_OF[type];
  };
  const tensors = long();
  const keys = new Map();
  for (let n = long(); n > 0; n--) {
    const from = at;
    const key = text();
    const value = at + 4;
    skip(int());
    keys.set(key, [from, at]);
    if (key === 'general.architecture') architecture = bytes.toString('utf8', value + 8, at);
    if (key === 'tokenizer.ggml.tokens') tokens = Number(bytes.readBigUInt64LE(value + 4));
    if (/^tokenizer\.ggml\.\w+_token_id$/.test(key)) marks[key.split('.')[2]] = bytes.readUInt32LE(value);
  }
  for (let i = 0; i < tensors; i++) {
    text();
    const dims = int();
    at += dims * 8 + 12;
  }
  return { architecture, tokens, marks, keys, end: at, data: Math.ceil(at / 32) * 32 };
}

/** A file with keys more, or with one less. */
function withKeys(bytes, more, less) {
  const { keys, end, data } = header(bytes);
  const count = keys.size + more.length - (less === undefined ? 0 : 1);
  const pairs = more.map(([key, type, value]) => Buffer.concat([str(key), ...PAIRS[type](value)]));
  const [from, to] = less === undefined ? [24, 24] : keys.get(less);
  const rest = [bytes.subarray(24, from), bytes.subarray(to, end)];
  const head = Buffer.concat([bytes.subarray(0, 16), u64(count), ...pairs, ...rest]);
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32), bytes.subarray(data)]);
}

async function work() {
  const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: LlamaLogLevel.disabled });
  for await (const line of createInterface({ input: process.stdin })) {
    const { file, ids, mode } = JSON.parse(line);
    let out;
    try {
      const model = await llama.loadModel({ modelPath: file, useMmap: false, defaultContextFlashAttention: false });
      if (mode === 'rank') {
        const context = await model.createRankingContext({ contextSize: CONTEXT, batchSize: CONTEXT, threads: 1 });
        // What takes ids answers with a probability: the logit is the classifier's, or how far yes is above no.
        const p = await context._evaluateRankingForInput(ids);
        out = [Math.log(p / (1 - p))];
        await context.dispose();
      } else if (mode === 'embed') {
        const context = await model.createEmbeddingContext({ contextSize: CONTEXT, batchSize: CONTEXT, threads: 1 });
        out = [...(await context.getEmbeddingFor(ids)).vector].slice(0, SHOWN.length);
        await context.dispose();
      } else {
        const exact = { flashAttention: false, experimentalKvCacheKeyType: 'F32', experimentalKvCacheValueType: 'F32' };
        const context = await model.createContext({
          contextSize: CONTEXT,
          batchSize: CONTEXT,
          sequences: 1,
          threads: { ideal: 1, min: 1 },
          ...exact,
        });
        const result = await context
          .getSequence()
          .controlledEvaluate([...ids.slice(0, -1), [ids.at(-1), { generateNext: { logits: true } }]]);
        const logits = new Map(result.at(-1).next.logits);
        out = SHOWN.map((id) => logits.get(id));
        await context.dispose();
      }
      await model.dispose();
    } catch {
      out = null;
    }
    process.stdout.write(`${JSON.stringify(out)}\n`);
  }
  process.exit(0);
}

/** llama.cpp's numbers of each file; null where it refuses, or where its process ends. */
class Llama {
  child = null;
  ask(job) {
    if (this.child === null) {
      this.child = spawn(process.execPath, [fileURLToPath(import.meta.url), '--work'], {
        stdio: ['pipe', 'pipe', 'ignore'],
      });
      this.child.stdin.on('error', () => undefined);
      this.lines = createInterface({ input: this.child.stdout });
    }
    const { child, lines } = this;
    return new Promise((resolve) => {
      const line = (text) => (child.off('exit', exit), resolve(JSON.parse(text)));
      const exit = () => (lines.off('line', line), (this.child = null), resolve(null));
      lines.once('line', line);
      child.once('exit', exit);
      child.stdin.write(`${JSON.stringify(job)}\n`);
    });
  }
  end() {
    this.child?.stdin.end();
  }
}

/** Rounded; null where one of them is not finite, which JSON does not hold. */
const numbers = (values) =>
  values === null || values.includes(null) ? null : values.map((x) => Number(x.toPrecision(7)));

/** Ids that the vocabulary has; of an encoder between the marks that node-llama-cpp would put around them. */
function idsOf(mode, { tokens, marks }) {
  if (mode === 'logits') return IDS;
  const ids = tokens > 500 ? IDS : IDS.map((id) => 5 + (id % (tokens - 10)));
  const first = marks.cls_token_id ?? marks.bos_token_id;
  const last = marks.seperator_token_id ?? marks.eos_token_id;
  return [first, ...ids, last].filter((id) => id !== undefined);
}

async function main([folder, kind, out]) {
  const pick = random(SEED);
  const kept = mkdtempSync(join(tmpdir(), 'metadata-'));
  const llama = new Llama();
  const file = join(kept, 'case.gguf');
  const ask = async ({ mode, ids }, bytes) => {
    writeFileSync(file, bytes);
    return numbers(await llama.ask({ file, ids, mode }));
  };
  const bases = [];
  for (const [name, more] of kind === 'embedding' ? EMBEDDING : PLAIN) {
    const original = readFileSync(join(folder, 'zoo', `${name}-f32.gguf`));
    const head = header(original);
    const { architecture } = head;
    const mode = name.includes('reranker')
      ? 'rank'
      : kind === 'embedding' || architecture === 'bert'
        ? 'embed'
        : 'logits';
    const named = more.map(([key, ...rest]) => [`${architecture}.${key}`, ...rest]);
    const base = { name, architecture, mode, ids: idsOf(mode, head), bytes: withKeys(original, named) };
    const given = Object.fromEntries(more.map(([key, , value]) => [key, value]));
    bases.push({ ...base, more: given, plain: await ask(base, base.bytes), keys: header(base.bytes).keys });
  }
  const judged = async (base, bytes) => {
    const given = await ask(base, bytes);
    if (given === null) return 'refused';
    return given.every((x, i) => Math.abs(x - base.plain[i]) < 1e-5) ? 'same' : given;
  };
  const cases = [];
  const seen = new Set();
  while (cases.length < CASES) {
    const at = pick(bases.length);
    const base = bases[at];
    const place = pick(OFTEN.length * 4 + SELDOM.length);
    const [key, type, values] = place < OFTEN.length * 4 ? OFTEN[place >> 2] : SELDOM[place - OFTEN.length * 4];
    // Random numbers between the chosen ones, so that a bound is met from both sides.
    const drawn = values[pick(values.length)];
    const value = type === 'f32' && pick(3) === 0 ? Math.fround(drawn * (1 + pick(1000) / 1000)) : drawn;
    const what = JSON.stringify([at, key, value]);
    if (base.keys.has(`${base.architecture}.${key}`) || seen.has(what)) continue;
    seen.add(what);
    cases.push([
      at,
      key,
      value,
      await judged(base, withKeys(base.bytes, [[`${base.architecture}.${key}`, type, value]])),
    ]);
    if (cases.length % 100 === 0) console.error(cases.length);
  }
  // null as a value: the key is taken away.
  for (const [at, base] of bases.entries())
    for (const key of [...base.keys.keys()].filter((each) => each.startsWith(`${base.architecture}.`)))
      cases.push([
        at,
        key.slice(base.architecture.length + 1),
        null,
        await judged(base, withKeys(base.bytes, [], key)),
      ]);
  llama.end();
  rmSync(kept, { recursive: true });
  const lines = (each) => `[\n${each.map((one) => JSON.stringify(one)).join(',\n')}\n]`;
  const kinds = bases.map(({ bytes: _bytes, keys: _keys, ...base }) => base);
  writeFileSync(out, `{"shown":${JSON.stringify(SHOWN)},\n"bases":${lines(kinds)},\n"cases":${lines(cases)}}\n`);
}

if (process.argv[2] === '--work') await work();
else await main(process.argv.slice(2));
