/** Calls of backends that run no JavaScript, by what their functions are called. */
import type { Catalog } from '../../../backend/catalog.ts';
import { mustRecord, readLimitsOf } from '../../../backend/limits.ts';
import { useDescription } from '../../../backend/registry.ts';
import type { CounterStore } from '../../../db.ts';
import { isClassifier } from '../../../embed/cross-encoder.ts';
import { rankedRows } from '../../../embed/ranking.ts';
import { checkLabels, ownOptions, rankedLabels } from '../../classify.ts';
import { buildIdOf } from '../../record.ts';
import type { SessionCall } from '../messages.ts';
import { ServedAnswer } from './answer.ts';
import { askedFor, askedUnder } from './asked.ts';
import { serveCosines, serveEmbed, serveEmbedBatch, serveSimilarity } from './embeddings.ts';
import { labelRows, ServedLabels } from './labels.ts';
import { ServedPrompts } from './prompts.ts';
import { ServedScores } from './scores.ts';
import type { CallMade, ServedCall } from './served-call.ts';
import { jsonOptions, rowsResult, textOf, textsOf } from './values.ts';

/** Null for what the backend is to compute, as null arguments are. */
function serve(made: CallMade): ServedCall | null {
  const { call, args } = made.call;
  switch (call) {
    case 'generate':
    case 'complete':
    case 'chat':
    case 'generateStream': {
      const [text, model, options] = args.map(textOf);
      const asked = typeof text === 'string' ? askedFor(call, text) : null;
      return asked && ServedAnswer.of(made, { ...asked, model: model!, options: options! });
    }
    case 'generateJson':
    case 'generateRegex':
    case 'generateGrammar':
    case 'generateChoice': {
      const [prompt, by, model, options] = args;
      const asked = typeof prompt === 'string' ? askedUnder(call, prompt, by) : null;
      return asked && ServedAnswer.of(made, { ...asked, model: textOf(model), options: textOf(options) });
    }
    case 'generateBatch':
      return servePrompts(made);
    case 'embed':
      return serveEmbed(made);
    case 'embedBatch':
      return serveEmbedBatch(made);
    case 'similarity':
      return serveSimilarity(made);
    case 'rerank':
      return serveRerank(made);
    case 'classify':
      return serveClassify(made);
    default:
      return null; // a function of another build
  }
}

function servePrompts(made: CallMade): ServedCall | null {
  const [given, model, options] = made.call.args;
  const prompts = textsOf(given);
  return prompts === null ? null : ServedPrompts.of(made, prompts, textOf(model), textOf(options));
}

function serveRerank(made: CallMade): ServedCall | null {
  const [asked, given, name, json] = made.call.args;
  const [query, docs, options] = [textOf(asked), textsOf(given), jsonOptions(json)];
  if (query === null || docs === null) return null;
  const model = useDescription(made.catalog, textOf(name), 'embedding');
  const ranked = (scores: readonly (number | null)[]): string[] =>
    rowsResult(rankedRows(docs, scores).map(({ ord, doc, score }) => [ord, doc, score]));
  if (isClassifier(model)) return ServedScores.of(made, model, options, { query, documents: docs }, ranked);
  return serveCosines(made, model, options, [query, ...docs], ranked);
}

function serveClassify(made: CallMade): ServedCall | null {
  const [text, given, name, json] = made.call.args;
  const [input, among, options] = [textOf(text), textsOf(given), jsonOptions(json)];
  if (input === null || among === null) return null;
  checkLabels(among);
  const labels: readonly string[] = among;
  const own = ownOptions(options);
  const model = useDescription(made.catalog, textOf(name));
  if (!isClassifier(model)) return ServedLabels.of(made, { input, labels, model, own, given: options });
  const reading = { text: input, labels, question: own.instruction };
  return ServedScores.of(made, model, own.rest, reading, (scores) =>
    labelRows(
      rankedLabels(
        labels,
        scores.map((score) => score!),
      ),
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
