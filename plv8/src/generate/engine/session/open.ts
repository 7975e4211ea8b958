/** Calls of backends that run no JavaScript, by what their functions are called. */
import type { Catalog, ModelDescription, Purpose } from '../../../backend/catalog.ts';
import { mustRecord, readLimitsOf } from '../../../backend/limits.ts';
import { useDescription } from '../../../backend/registry.ts';
import type { CounterStore } from '../../../db.ts';
import { isClassifier } from '../../../embed/cross-encoder.ts';
import { cosine, cosinesOfFirst, rankedRows } from '../../../embed/ranking.ts';
import { jsonOf } from '../../../format/json-arguments.ts';
import { parseMessages } from '../../../tokenizer/messages.ts';
import { choiceGrammar, chosen } from '../../choice.ts';
import { checkLabels, ownOptions } from '../../classify.ts';
import { buildIdOf } from '../../record.ts';
import type { StreamRow } from '../../results.ts';
import { completion, nextMessage, streamRows } from '../../results.ts';
import type { SessionCall } from '../messages.ts';
import type { Asked } from './answer.ts';
import { ServedAnswer } from './answer.ts';
import { ServedEmbeddings } from './embeddings.ts';
import { labelRows, ServedLabels } from './labels.ts';
import { ServedPrompts } from './prompts.ts';
import { ServedScores } from './scores.ts';
import type { CallMade, Columns, ServedCall } from './served-call.ts';
import { arrayOf, jsonOptions, numeral, recordedResult, rowsResult, valueResult } from './served-call.ts';

/** Texts of one call: the rows of all leave together, and have to wait for a backend that reads slowly. */
const MAX_TEXTS = 64;

type Argument = SessionCall['args'][number] | undefined;

const textOf = (argument: Argument): string | null => (typeof argument === 'string' ? argument : null);

/** Null for null, and for more than are taken. */
function textsOf(argument: Argument): (string | null)[] | null {
  return Array.isArray(argument) && argument.length <= MAX_TEXTS ? argument : null;
}

/** What is called, of the model that it names or that is meant. */
function serve(made: CallMade): ServedCall | null {
  const { call, args } = made.call;
  const [first, second, third, fourth] = args;
  const described = (name: Argument, purpose: Purpose): ModelDescription =>
    useDescription(made.catalog, textOf(name), purpose);
  switch (call) {
    case 'generate':
    case 'complete':
    case 'chat':
    case 'generateStream': {
      const text = textOf(first);
      const asked = text === null ? null : askedFor(call, text);
      return asked && ServedAnswer.of(made, { ...asked, model: textOf(second), options: textOf(third) });
    }
    case 'generateJson':
    case 'generateRegex':
    case 'generateGrammar':
    case 'generateChoice': {
      const prompt = textOf(first);
      const asked = prompt === null ? null : askedUnder(call, prompt, second);
      return asked && ServedAnswer.of(made, { ...asked, model: textOf(third), options: textOf(fourth) });
    }
    case 'generateBatch': {
      const prompts = textsOf(first);
      return prompts === null ? null : ServedPrompts.of(made, prompts, textOf(second), textOf(third));
    }
    case 'embed': {
      const input = textOf(first);
      if (input === null) return null;
      return ServedEmbeddings.of(made, described(second, 'embedding'), jsonOptions(textOf(third)) ?? {}, {
        texts: [input],
        ranked: false,
        resultOf: ([row]) => (row!.embedding === null ? null : valueResult(arrayOf(row!.embedding))),
      });
    }
    case 'embedBatch': {
      const texts = textsOf(first);
      if (texts === null) return null;
      return ServedEmbeddings.of(made, described(second, 'embedding'), jsonOptions(textOf(third)) ?? {}, {
        texts,
        ranked: false,
        resultOf: (rows) =>
          rowsResult(
            rows.map(({ embedding, tokens, error }, i) => [
              i + 1,
              embedding === null ? null : arrayOf(embedding),
              tokens,
              error,
            ]),
          ),
      });
    }
    case 'similarity': {
      const [a, b] = [textOf(first), textOf(second)];
      if (a === null || b === null) return null;
      return ServedEmbeddings.of(made, described(third, 'embedding'), jsonOptions(textOf(fourth)) ?? {}, {
        texts: [a, b],
        ranked: false,
        resultOf: ([one, other]) => {
          const found = cosine(one!.embedding, other!.embedding);
          return found === null ? null : valueResult(numeral(found));
        },
      });
    }
    case 'rerank':
      return serveRerank(made, textOf(first), textsOf(second), described(third, 'embedding'), textOf(fourth));
    case 'classify': {
      const [input, labels] = [textOf(first), textsOf(second)];
      if (input === null || labels === null) return null;
      checkLabels(labels);
      return serveClassify(made, input, labels, textOf(third), jsonOptions(textOf(fourth)) ?? {});
    }
    default:
      return null;
  }
}

type Answering = Omit<Asked, 'model' | 'options'>;

const textResult: Answering['resultOf'] = ({ generation }) => valueResult(generation.text);

/** Null for what the backend is to compute, as below. */
function askedFor(call: 'generate' | 'complete' | 'chat' | 'generateStream', text: string): Answering | null {
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
function askedUnder(
  call: 'generateJson' | 'generateRegex' | 'generateGrammar' | 'generateChoice',
  prompt: string,
  by: Argument,
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

function serveRerank(
  made: CallMade,
  query: string | null,
  docs: readonly (string | null)[] | null,
  model: ModelDescription,
  options: string | null,
): ServedCall | null {
  if (query === null || docs === null) return null;
  const given = jsonOptions(options) ?? {};
  const ranked = (scores: readonly (number | null)[]): string[] =>
    rowsResult(rankedRows(docs, scores).map(({ ord, doc, score }) => [ord, doc, score]));
  if (isClassifier(model)) return ServedScores.of(made, model, given, { query, documents: docs }, ranked);
  return ServedEmbeddings.of(made, model, given, {
    texts: [query, ...docs],
    ranked: true,
    resultOf: (rows) => ranked(cosinesOfFirst(rows)),
  });
}

function serveClassify(
  made: CallMade,
  input: string,
  labels: readonly string[],
  name: string | null,
  given: Record<string, unknown>,
): ServedCall | null {
  const own = ownOptions(given);
  const model = useDescription(made.catalog, name);
  if (!isClassifier(model)) return ServedLabels.of(made, input, labels, name, own, given);
  const reading = { text: input, labels, question: own.instruction };
  return ServedScores.of(made, model, own.rest, reading, (scores) =>
    labelRows(
      labels
        .map((label, i) => ({ label, probability: scores[i]! }))
        .sort((one, other) => other.probability - one.probability),
    ),
  );
}

/**
 * A call that is admitted, and counts with `store`; null where the backend is to compute it. Throws what is wrong with the call, which
 * the backend finds as well.
 */
export function openServedCall(
  catalog: Catalog,
  call: SessionCall,
  startedAt: number,
  store: CounterStore | null,
): ServedCall | null {
  if (call.build !== buildIdOf(catalog) || store === null) return null;
  const limits = readLimitsOf(call.role, call.login);
  if (mustRecord(limits.limits) || !limits.accounts.some(({ oid }) => oid === call.role)) return null;
  const served = serve({ call, catalog: { ...catalog, ...limits }, startedAt, store });
  served?.count();
  return served;
}
