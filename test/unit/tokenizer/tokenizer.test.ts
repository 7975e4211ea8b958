import { describe, expect, it } from 'vitest';
import { HartonomousError } from '../../../plv8/src/errors.ts';
import { createTokenizer } from '../../../plv8/src/tokenizer/tokenizer.ts';
import type { Vocabulary } from '../../../plv8/src/tokenizer/vocabulary.ts';
import { mergesFromStrings } from '../../../plv8/src/tokenizer/vocabulary.ts';
import { modelPath } from '../../golden/model-files.ts';
import { readGgufVocabulary } from '../../golden/gguf-vocabulary.ts';
import { checkTokenizerGolden } from '../../golden/tokenizer-golden.ts';

const GOLDEN_FILES = new URL('../../golden/models/goldens/', import.meta.url).pathname;
const plain = { addSpecial: false, parseSpecial: false };

const GOLDENS = [
  ['stories260k', 'llama-260k/llama-260k-f32.gguf'],
  ['zoo-qwen2', 'zoo/qwen2-tiny-f32.gguf'],
  ['zoo-llama-bpe', 'zoo/llama32-ropefreqs-f32.gguf'],
  ['zoo-gpt-2', 'zoo/gpt2-tiny-f32.gguf'],
  ['zoo-bert', 'zoo/bert-tiny-f32.gguf'],
  ['zoo-gemma-spm', 'zoo/gemma3-tiny-f32.gguf'],
] as const;

const open = (file: string): Vocabulary => readGgufVocabulary(modelPath(file));

function errorOf(action: () => unknown): HartonomousError {
  try {
    action();
  } catch (error) {
    if (error instanceof HartonomousError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('tokenizer', () => {
  it.each(GOLDENS)('%s gives the ids and texts of llama.cpp', (name, file) => {
    expect(checkTokenizerGolden(modelPath(file), `${GOLDEN_FILES}tokenizer-${name}.json`)).toBeGreaterThan(170);
  });

  it.each(['llama-260k/llama-260k-f32.gguf', 'zoo/qwen2-tiny-f32.gguf', 'zoo/llama32-ropefreqs-f32.gguf'])(
    'decodes what it encoded and survives any UTF-16 text: %s',
    (file) => {
      const tokenizer = createTokenizer(open(file));
      const bytes = (ids: number[]): string =>
        Buffer.concat(ids.map((id) => tokenizer.tokenBytes(id))).toString('utf8');
      let state = 7;
      const random = (below: number): number => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * below);
      };
      for (let round = 0; round < 500; round++) {
        let text = '';
        for (let i = random(60); i > 0; i--) {
          text += String.fromCharCode(
            [32 + random(95), random(0x800), 0xd800 + random(0x800), random(0x10000)][random(4)]!,
          );
        }
        const wellFormed = text.replace(/\p{Surrogate}/gu, '\ufffd');
        const written = bytes(tokenizer.encode(text, plain));
        // The SentencePiece mark and the space are one and the same; the byte tokens of the model stay as they are.
        const normal = (value: string): string => value.replaceAll('\u2581', ' ').trimStart();
        expect(normal(written)).toBe(normal(wellFormed));
      }
    },
  );

  it('takes hostile megabytes in time that grows with their length', () => {
    const hostile = [
      'a'.repeat(1 << 20),
      ' '.repeat(1 << 20),
      '\n'.repeat(1 << 20),
      '\ud800'.repeat(1 << 19),
      " \n'a".repeat(1 << 18),
    ];
    for (const file of [
      'llama-260k/llama-260k-f32.gguf',
      'zoo/qwen2-tiny-f32.gguf',
      'zoo/bert-tiny-f32.gguf',
      'zoo/gpt2-tiny-f32.gguf',
    ]) {
      const tokenizer = createTokenizer(open(file));
      for (const text of hostile) {
        const started = Date.now();
        expect(tokenizer.encode(`${text} x`, plain).length).toBeGreaterThan(0);
        // A hang guard at four times the stated two seconds; quadratic work would take hours.
        expect(Date.now() - started).toBeLessThan(8000);
      }
    }
  });

  it('lets poll cancel a long text and works afterwards', () => {
    const tokenizer = createTokenizer(open('zoo/qwen2-tiny-f32.gguf'));
    const poll = (): never => {
      throw new Error('cancelled');
    };
    expect(() => tokenizer.encode('word '.repeat(10000), { ...plain, poll })).toThrow('cancelled');
    expect(() => tokenizer.encode('a'.repeat(100000), { ...plain, poll })).toThrow('cancelled');
    expect(tokenizer.decode(tokenizer.encode('and on it goes', plain))).toBe('and on it goes');
  });

  it('knows control tokens and the ends of generation', () => {
    const tokenizer = createTokenizer(open('zoo/qwen2-tiny-f32.gguf'));
    const [end] = tokenizer.encode('<|im_end|>', { addSpecial: false, parseSpecial: true });
    expect(tokenizer.isEndOfGeneration(end!)).toBe(true);
    expect(tokenizer.isControl(end!)).toBe(true);
    expect(tokenizer.tokenBytes(end!)).toHaveLength(0);
    expect(tokenizer.tokenText(end!)).toBe('<|im_end|>');
    expect(tokenizer.encode('<|im_end|>', plain)).not.toContain(end);
    expect(tokenizer.isEndOfGeneration(tokenizer.encode('a', plain)[0]!)).toBe(false);
  });

  it('names the setting it does not know and those it does', () => {
    const vocabulary = open('zoo/qwen2-tiny-f32.gguf');
    const pre = errorOf(() => createTokenizer({ ...vocabulary, pre: 'martian' }));
    expect([pre.sqlerrcode, pre.message]).toEqual(['0A000', 'tokenizer.ggml.pre is "martian", which is not supported']);
    expect(pre.hint).toContain('qwen2');
    const model = errorOf(() => createTokenizer({ ...vocabulary, model: 'rwkv' }));
    expect([model.sqlerrcode, model.message]).toEqual([
      '0A000',
      'tokenizer.ggml.model is "rwkv", which is not supported',
    ]);
    const merges = errorOf(() => createTokenizer({ ...vocabulary, merges: null }));
    expect(merges.message).toBe('tokenizer.ggml.model is "gpt2" and the vocabulary has no merges');
    expect(() => createTokenizer(vocabulary).tokenBytes(512)).toThrow(
      'token 512 is outside the vocabulary, which has ids 0 to 511',
    );
    expect(() => mergesFromStrings(['a'], ['ab'])).toThrow('merge 0 has no space: "ab"');
  });

  it('uses the unknown token where a vocabulary has no byte tokens, and says so where it has neither', () => {
    const base = {
      model: 'llama',
      pre: null,
      merges: null,
      tokens: ['<unk>', 'a'],
      types: [2, 1],
      scores: new Float32Array(2),
    };
    const silent = { 'tokenizer.ggml.add_bos_token': false, 'tokenizer.ggml.add_space_prefix': false };
    expect(createTokenizer({ ...base, settings: silent }).encode('aéa', plain)).toEqual([1, 0, 1]);
    const none = { ...silent, 'tokenizer.ggml.unknown_token_id': 99 };
    expect(() => createTokenizer({ ...base, settings: none }).encode('é', plain)).toThrow(
      'character U+00E9 is not in the vocabulary, which has no byte or unknown token',
    );
  });
});
