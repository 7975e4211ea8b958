import { describe, expect, it } from 'vitest';
import { HartonomousError } from '../../../plv8/src/errors.ts';
import { parseOptions } from '../../../plv8/src/sampling/options.ts';

describe('options', () => {
  it('gives the documented defaults', () => {
    const options = parseOptions({});
    expect(options).toMatchObject({
      numPredict: 128,
      numCtx: null,
      stop: [],
      raw: false,
      cache: true,
      record: null,
      precision: 'auto',
      logprobs: false,
    });
    expect(options.sampler).toMatchObject({
      temperature: 0.8,
      topK: 40,
      topP: 0.9,
      minP: 0,
      typicalP: 1,
      repeatPenalty: 1.1,
      repeatLastN: 64,
    });
    expect(Number.isInteger(options.sampler.seed)).toBe(true);
    expect(parseOptions({ temperature: null }).sampler.temperature).toBe(0.8);
  });

  it('reads every option and the aliases', () => {
    const options = parseOptions({
      max_tokens: 5,
      num_ctx: 64,
      temperature: 0,
      top_k: 1,
      top_p: 0.5,
      min_p: 0.1,
      typical_p: 0.9,
      repeat_penalty: 1,
      repeat_last_n: -1,
      presence_penalty: 1,
      frequency_penalty: -1,
      seed: 7,
      stop: 'END',
      raw: true,
      cache: false,
      record: true,
      precision: 'f32',
      logit_bias: { '3': -2 },
      top_logprobs: 2,
      response_format: { type: 'text' },
    });
    expect(options).toMatchObject({
      numPredict: 5,
      numCtx: 64,
      stop: ['END'],
      raw: true,
      cache: false,
      record: true,
      precision: 'f32',
      logprobs: true,
      topLogprobs: 2,
    });
    expect(options.sampler).toEqual({
      temperature: 0,
      topK: 1,
      topP: 0.5,
      minP: 0.1,
      typicalP: 0.9,
      repeatPenalty: 1,
      repeatLastN: -1,
      presencePenalty: 1,
      frequencyPenalty: -1,
      logitBias: new Map([[3, -2]]),
      seed: 7,
    });
  });

  it.each<[Record<string, unknown>, string, string]>([
    [{ temperature: -1 }, '22023', 'option temperature must be a number between 0 and 100, got -1'],
    [{ temperature: '1' }, '22023', 'option temperature must be a number between 0 and 100, got "1"'],
    [{ top_k: 1.5 }, '22023', 'option top_k must be an integer between 0 and 2147483647, got 1.5'],
    [{ top_p: 1.1 }, '22023', 'option top_p must be a number between 0 and 1, got 1.1'],
    [{ num_ctx: 0 }, '22023', 'option num_ctx must be an integer between 1 and 2147483647, got 0'],
    [{ raw: 1 }, '22023', 'option raw must be true or false, got 1'],
    [{ stop: [''] }, '22023', 'option stop must be strings that are not empty, got ""'],
    [{ stop: [1] }, '22023', 'option stop must be a string or an array of strings, got [1]'],
    [{ precision: 'q3' }, '22023', 'option precision must be one of auto, f32, q8, got "q3"'],
    [{ logit_bias: { a: 1 } }, '22023', 'option logit_bias must be an object whose keys are token ids, got "a"'],
    [{ logit_bias: [1] }, '22023', 'option logit_bias must be an object of token id to bias, got [1]'],
    [
      { num_predict: 1, max_tokens: 2 },
      '22023',
      'options num_predict and max_tokens mean the same and were both given',
    ],
    [
      { response_format: 'text' },
      '22023',
      'option response_format must be an object with the type text, json_object or json_schema, got "text"',
    ],
    [{ temprature: 1 }, '22023', 'unknown option "temprature"'],
    [JSON.parse('{"__proto__": 1}') as Record<string, unknown>, '22023', 'unknown option "__proto__"'],
  ])('refuses %j', (given, code, message) => {
    let thrown: unknown;
    try {
      parseOptions(given);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(HartonomousError);
    expect([(thrown as HartonomousError).sqlerrcode, (thrown as HartonomousError).message]).toEqual([code, message]);
  });

  it('hints at the nearest name', () => {
    const hintOf = (key: string): string | undefined => {
      try {
        parseOptions({ [key]: 1 });
      } catch (error) {
        return (error as HartonomousError).hint;
      }
      return undefined;
    };
    expect(hintOf('temprature')).toBe('did you mean temperature?');
    expect(hintOf('topK')).toBe('did you mean top_k?');
    expect(hintOf('zzzzzzzzzzzzzzzzzzzzzzz')).toContain('options: num_predict, ');
  });
});
