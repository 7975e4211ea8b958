import { closeSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { CommandError } from '../../../../cli/errors.ts';
import { familyOf } from '../../../../cli/sources/hugging-face/architectures.ts';
import { configMetadata, llama3RopeFactors } from '../../../../cli/sources/hugging-face/config.ts';
import { openHuggingFace } from '../../../../cli/sources/hugging-face/open-folder.ts';
import { readSentencePieceModel } from '../../../../cli/sources/hugging-face/sentencepiece-model.ts';
import { readTokenizerJson } from '../../../../cli/sources/hugging-face/tokenizer-json.ts';
import { readSafetensorsHeader } from '../../../../cli/sources/safetensors.ts';
import { FileFolder, u64 } from '../../gguf-writer.ts';
import { safetensorsBytes } from '../../hugging-face-writer.ts';

const folder = new FileFolder();
afterAll(() => folder.remove());

function read(bytes: Buffer): unknown {
  const fd = folder.open(bytes);
  try {
    return readSafetensorsHeader(fd);
  } finally {
    closeSync(fd);
  }
}

const TENSOR = { name: 'a', dtype: 'F32', shape: [2, 3], bytes: Buffer.alloc(24, 1) };

function withHeader(header: string, dataBytes = 24): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(header)), Buffer.from(header), Buffer.alloc(dataBytes)]);
}

function withEntry(entry: unknown): Buffer {
  return withHeader(JSON.stringify({ a: entry }));
}

describe('a SafeTensors header', () => {
  test('gives name, type, shape and place of every tensor', () => {
    const [tensor] = read(safetensorsBytes([TENSOR])) as Record<string, unknown>[];
    expect(tensor).toMatchObject({ name: 'a', typeName: 'F32', shape: [2, 3], sizeBytes: 24 });
  });

  test.each([
    ['an empty file', Buffer.alloc(0), /file has 0 bytes/],
    ['a length beyond the file', Buffer.concat([u64(1 << 20), Buffer.from('{}')]), /header needs bytes/],
    ['a length beyond all files', Buffer.concat([u64(1n << 62n), Buffer.from('{}')]), /more than any file holds/],
    ['a length beyond the limit', Buffer.concat([u64(100 << 20), Buffer.from('{}')]), /at most 16777216/],
    ['text that is no JSON', withHeader('{"a":'), /no JSON/],
    ['JSON that is no object', withHeader('[1, 2]'), /no JSON object/],
    ['deeply nested JSON', withHeader('{"a":' + '['.repeat(100_000)), /no JSON/],
    ['a tensor that is a number', withEntry(1), /tensor a has no dtype/],
    ['a tensor of null', withEntry(null), /tensor a has no dtype/],
    ['an unknown type', withEntry({ dtype: 'Q9', shape: [6], data_offsets: [0, 24] }), /type Q9/],
    ['a negative extent', withEntry({ dtype: 'F32', shape: [-6], data_offsets: [0, 24] }), /no shape/],
    ['an extent that is no whole number', withEntry({ dtype: 'F32', shape: [1.5], data_offsets: [0, 6] }), /no shape/],
    ['five dimensions', withEntry({ dtype: 'F32', shape: [1, 1, 1, 1, 6], data_offsets: [0, 24] }), /no shape/],
    ['a product beyond the file', withEntry({ dtype: 'F32', shape: [1e9, 1e9], data_offsets: [0, 24] }), /file has/],
    ['offsets of another size', withEntry({ dtype: 'F32', shape: [6], data_offsets: [0, 20] }), /data_offsets 0 to 20/],
    ['offsets backwards', withEntry({ dtype: 'F32', shape: [6], data_offsets: [24, 0] }), /data_offsets 24 to 0/],
    ['offsets beyond the file', withEntry({ dtype: 'F32', shape: [6], data_offsets: [8, 32] }), /file has/],
    ['one offset', withEntry({ dtype: 'F32', shape: [6], data_offsets: [0] }), /no data_offsets/],
    [
      'tensors that overlap',
      withHeader(
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}',
      ),
      /tensor b begins .* inside tensor a/,
    ],
  ])('with %s is refused', (_title, bytes, message) => {
    expect(() => read(bytes)).toThrow(message);
    expect(() => read(bytes)).toThrow(CommandError);
  });
});

const CONFIG = { architectures: ['LlamaForCausalLM'], hidden_size: 64, num_attention_heads: 1 };

describe('config.json', () => {
  test('of Llama 3 gives the divisors of the frequencies that its rope scaling means', () => {
    const scaling = { factor: 32, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
    const factors = llama3RopeFactors(scaling, 500_000, 64);
    expect(factors).toHaveLength(32);
    expect(factors[0]).toBe(1);
    expect(factors[31]).toBe(32);
    // Between the two it goes from one to the other without a step back.
    for (let i = 1; i < 32; i++) expect(factors[i]).toBeGreaterThanOrEqual(factors[i - 1]!);
    expect(factors.some((each) => each > 1 && each < 32)).toBe(true);
  });

  test.each([
    ['another architecture', { architectures: ['MambaForCausalLM'] }, /"MambaForCausalLM"/],
    ['no architecture', {}, /architecture null/],
    ['a text for a number', { ...CONFIG, hidden_size: 'x' }, /hidden_size is "x"/],
    ['another activation', { ...CONFIG, hidden_act: 'relu' }, /activation "relu" is not supported, only silu/],
    ['windows on a part of the layers', { ...CONFIG, use_sliding_window: true }, /use_sliding_window/],
    [
      'relative positions',
      { ...CONFIG, architectures: ['BertModel'], position_embedding_type: 'relative_key' },
      /position_embedding_type "relative_key" is not supported/,
    ],
    ['an unknown rope scaling', { ...CONFIG, rope_scaling: { type: 'yarn' } }, /rope scaling "yarn"/],
  ])('with %s is refused', (_title, config, message) => {
    expect(() => configMetadata(familyOf(config), config)).toThrow(message);
  });
});

describe('tokenizer.json', () => {
  test.each([
    ['no model', {}, /no model/],
    ['no vocabulary', { model: { type: 'BPE' } }, /no model.vocab/],
    ['an id that is no number', { model: { type: 'BPE', vocab: { a: 'x' } } }, /id "x" for "a"/],
    ['an id beyond all vocabularies', { model: { type: 'BPE', vocab: { a: 4e9 } } }, /id 4000000000/],
    ['a merge of one part', { model: { type: 'BPE', vocab: { a: 0 }, merges: ['ab'] } }, /merge 0/],
    [
      'an unknown way of splitting',
      {
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [{ type: 'Split', pattern: { Regex: 'x+' } }, { type: 'ByteLevel' }],
        },
        model: { type: 'BPE', vocab: { a: 0 }, merges: [] },
      },
      /splits words by "x\+"/,
    ],
    ['an unknown model', { model: { type: 'Neural', vocab: {} } }, /type "Neural"/],
  ])('with %s is refused', (_title, tokenizer, message) => {
    expect(() => readTokenizerJson(tokenizer, 0)).toThrow(message);
  });

  test('of WordPiece marks the beginnings of words as GGUF does', () => {
    const read = readTokenizerJson(
      { model: { type: 'WordPiece', unk_token: '[UNK]', vocab: { '[UNK]': 0, un: 1, '##able': 2 } } },
      4,
    );
    expect(read).toMatchObject({ model: 'bert', tokens: ['[UNK]', '\u2581un', 'able', '[PAD3]'], types: [2, 1, 1, 5] });
  });
});

describe('tokenizer.model', () => {
  const score = Buffer.alloc(4);
  score.writeFloatLE(-1.5);
  const piece = Buffer.concat([Buffer.from([0x0a, 1, 0x61, 0x15]), score, Buffer.from([0x18, 1])]);
  const model = Buffer.concat([
    Buffer.from([0x0a, piece.length]),
    piece,
    Buffer.from([0x12, 2, 0x18, 2]),
    Buffer.from([0x1a, 2, 0x18, 0]),
  ]);

  test('gives pieces, scores, types, kind and the leading space', () => {
    expect(readSentencePieceModel(model)).toEqual({
      kind: 'bpe',
      removeExtraSpaces: true,
      characterMap: null,
      pieces: [{ text: 'a', score: -1.5, type: 1 }],
      addSpacePrefix: false,
    });
  });

  test('cut short anywhere ends in an error or fewer pieces', () => {
    for (let bytes = 0; bytes < model.length; bytes++) {
      try {
        expect(readSentencePieceModel(model.subarray(0, bytes)).pieces.length).toBeLessThanOrEqual(1);
      } catch (error) {
        expect(error).toBeInstanceOf(CommandError);
      }
    }
  });
});

test.each([
  ['../../etc/passwd', /names the file/],
  [7, /names the file/],
])('an index that names the file %s is refused', async (name, message) => {
  const path = join(folder.path, `index-${String(name).length}`);
  mkdirSync(path);
  writeFileSync(join(path, 'config.json'), JSON.stringify(CONFIG));
  writeFileSync(join(path, 'model.safetensors.index.json'), JSON.stringify({ weight_map: { a: name } }));
  await expect(openHuggingFace(path)).rejects.toThrow(message);
});
