/** Thinking and answer, taken apart wherever the text is cut into pieces. */
import { describe, expect, it } from 'vitest';
import { thinkingFamily } from '../../../plv8/src/format/thinking-families.ts';
import type { SplitText } from '../../../plv8/src/sampling/thinking.ts';
import { ThinkingSplitter } from '../../../plv8/src/sampling/thinking.ts';

function split(marker: string, pieces: Iterable<string>, begun = false): SplitText {
  const splitter = new ThinkingSplitter(thinkingFamily(marker)!, begun);
  const all = { thinking: '', text: '' };
  const add = ({ thinking, text }: SplitText): void => {
    all.thinking += thinking;
    all.text += text;
  };
  for (const piece of pieces) add(splitter.push(piece));
  add(splitter.flush());
  return all;
}

const THOUGHT = { thinking: 'Let me\n\nsee. < 3', text: 'It is <b>.\n' };

describe('thinking', () => {
  it.each([
    ['Qwen 3', '</think>', '<think>\nLet me\n\nsee. < 3\n</think>\n\nIt is <b>.\n'],
    ['Magistral', '[THINK]', '[THINK]Let me\n\nsee. < 3[/THINK]It is <b>.\n'],
    [
      'gpt-oss',
      '<|channel|>analysis<|message|>',
      '<|channel|>analysis<|message|>Let me\n\nsee. < 3<|end|><|start|>assistant<|channel|>final<|message|>It is <b>.\n',
    ],
    ['Seed-OSS', '<seed:think>', '<seed:think>Let me\n\nsee. < 3</seed:think>It is <b>.\n'],
    [
      'Command A',
      '<|START_THINKING|>',
      '<|START_THINKING|>Let me\n\nsee. < 3<|END_THINKING|><|START_RESPONSE|>It is <b>.\n',
    ],
    ['EXAONE Deep', '<thought>', '<thought>\nLet me\n\nsee. < 3\n</thought>\n\nIt is <b>.\n'],
    ['Apertus', '<|inner_prefix|>', '<|inner_prefix|>Let me\n\nsee. < 3<|inner_suffix|>It is <b>.\n'],
    ['Kimi-VL', '◁think▷', '◁think▷Let me\n\nsee. < 3◁/think▷It is <b>.\n'],
    [
      'Granite 3.2',
      'Here is my thought process:',
      'Here is my thought process: Let me\n\nsee. < 3\n\nHere is my response: It is <b>.\n',
    ],
  ])('of %s is taken apart', (_name, marker, text) => {
    for (let size = 1; size <= text.length; size = size < 8 ? size + 1 : size * 2) {
      const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, i) =>
        text.slice(i * size, (i + 1) * size),
      );
      expect(split(marker, pieces), `pieces of ${size}`).toEqual(THOUGHT);
    }
  });

  it('goes on where the prompt began it, and may not come to an end', () => {
    expect(split('<think>', ['\nHm', 'm. ', '</th', 'ink>', '\n\nYes'], true)).toEqual({
      thinking: 'Hmm.',
      text: 'Yes',
    });
    expect(split('<think>', 'Hm </thin', true)).toEqual({ thinking: 'Hm </thin', text: '' });
  });

  it('leaves an answer alone that does not begin with it', () => {
    for (const text of ['  <thinly> veiled', 'Yes <think>no</think>', ' ', '', '<thi']) {
      expect(split('<think>', text)).toEqual({ thinking: '', text });
    }
    expect(split('analysis<|message|> <|channel|>analysis<|message|>', '<|channel|>final<|message|>Yes')).toEqual({
      thinking: '',
      text: 'Yes',
    });
  });

  it('is known by the template', () => {
    expect(thinkingFamily('{{ messages }}')).toBeNull();
    expect(thinkingFamily(`{% set content = content.split('</think>')[-1] %}`)).toMatchObject({ open: '<think>' });
  });
});
