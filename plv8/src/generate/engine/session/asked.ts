/** What generate and its kin, complete, chat and generate_stream ask for, and what they give. */
import { jsonOf } from '../../../format/json-arguments.ts';
import { parseMessages } from '../../../tokenizer/messages.ts';
import { choiceGrammar, chosen } from '../../choice.ts';
import type { StreamRow } from '../../results.ts';
import { completion, nextMessage, streamRows } from '../../results.ts';
import type { SessionCall } from '../messages.ts';
import type { Asked } from './answer.ts';
import type { Columns } from './values.ts';
import { recordedResult, rowsResult, textOf, textsOf, valueResult } from './values.ts';

/** Without what every such function has. */
export type Answering = Omit<Asked, 'model' | 'options'>;

const textResult: Answering['resultOf'] = ({ generation }) => valueResult(generation.text);

/** Null for what the backend is to compute. */
export function askedFor(call: 'generate' | 'complete' | 'chat' | 'generateStream', text: string): Answering | null {
  if (call === 'chat') {
    const given = jsonOf(text);
    if (given === null) return null;
    const input = { messages: parseMessages(given), json: text };
    return { kind: call, input, resultOf: (answer) => recordedResult(nextMessage(answer), answer) };
  }
  const input = { prompt: text };
  if (call === 'generate') return { kind: call, input, resultOf: textResult };
  if (call === 'complete') {
    return { kind: call, input, resultOf: (answer) => recordedResult(JSON.stringify(completion(answer)), answer) };
  }
  const columns = ({ step, token_id, token, logprob, thinking }: StreamRow): Columns => [
    step,
    token_id,
    token,
    logprob === null ? null : Math.fround(logprob), // a column of type real
    thinking,
  ];
  return { kind: 'stream', input, resultOf: (_, steps) => rowsResult(streamRows(steps).map(columns)) };
}

/** The same of an answer that has to be something. */
export function askedUnder(
  call: 'generateJson' | 'generateRegex' | 'generateGrammar' | 'generateChoice',
  prompt: string,
  by: SessionCall['args'][number] | undefined,
): Answering | null {
  const asked = { kind: 'generate', input: { prompt } } as const;
  if (call === 'generateChoice') {
    const choices = textsOf(by);
    if (choices === null) return null;
    const grammar = choiceGrammar(choices);
    const resultOf: Answering['resultOf'] = ({ generation }) => valueResult(chosen(generation.text, grammar.choices));
    return { ...asked, grammar, resultOf };
  }
  const text = textOf(by);
  if (text === null) return null;
  if (call === 'generateRegex') return { ...asked, grammar: { kind: 'regex', pattern: text }, resultOf: textResult };
  if (call === 'generateGrammar') return { ...asked, grammar: { kind: 'grammar', text }, resultOf: textResult };
  const schema = jsonOf(text);
  return schema === null ? null : { ...asked, grammar: { kind: 'json_schema', schema }, resultOf: textResult };
}
