/**
 * What a model wants in front of a query and in front of a document. Folders of Sentence Transformers state it; GGUF has
 * no key for it, so of these it is known by architecture or name, as the makers' model cards have it.
 */
import { raise, SQLSTATE } from '../errors.ts';
import type { ModelDescription } from '../backend/catalog.ts';
import type { ModelConfig } from '../model/config.ts';

export type TextKind = 'query' | 'document';
export const TEXT_KINDS: readonly TextKind[] = ['query', 'document'];

/** What each text is where the first is a query to the others. */
export function rankedKinds(place: number): TextKind {
  return place === 0 ? 'query' : 'document';
}

type Prefixes = Readonly<Record<TextKind, string>>;

const RETRIEVE = 'Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:';
const REPRESENT = 'Represent this sentence for searching relevant passages: ';
const NONE: Prefixes = { query: '', document: '' };

const BY_ARCHITECTURE: Readonly<Record<string, Prefixes>> = {
  'nomic-bert': { query: 'search_query: ', document: 'search_document: ' },
  'nomic-bert-moe': { query: 'search_query: ', document: 'search_document: ' },
  'gemma-embedding': { query: 'task: search result | query: ', document: 'title: none | text: ' },
};

/** The first that matches; names have hyphens for spaces, underscores and dots. */
const BY_NAME: readonly [RegExp, Prefixes][] = [
  [/qwen3.*embed/, { query: RETRIEVE, document: '' }],
  [/e5-.*instruct/, { query: `${RETRIEVE} `, document: '' }],
  [/(^|-)e5-/, { query: 'query: ', document: 'passage: ' }],
  [/arctic-embed.*(2|v2)(-|$)|arctic-embed2/, { query: 'query: ', document: '' }],
  [/arctic-embed|mxbai-embed|bge-.*-en/, { query: REPRESENT, document: '' }],
  [/bge-.*-zh/, { query: '为这个句子生成表示以用于检索相关文章：', document: '' }],
  [/bge-m3|minilm|granite-embedding|all-mpnet|paraphrase-|gte-|labse/, NONE],
];

/** What goes before a text of a kind. Throws where nobody says it for this model. */
export function prefixOf(description: ModelDescription, config: ModelConfig, kind: TextKind): string {
  return (
    knownPrefixes(description, config)?.[kind] ??
    raise(SQLSTATE.featureNotSupported, `model ${description.name} does not say what goes before a ${kind}`, {
      hint: 'leave option kind out and put what its maker wants before the text',
    })
  );
}

/** What goes before a text that is neither, where a folder of Sentence Transformers states it. */
export function defaultPrefix({ hyperparameters }: ModelDescription): string {
  return String(hyperparameters['hartonomous.embedding.default_prefix'] ?? '');
}

/** Both prefixes of a model, null where nobody says them. */
export function knownPrefixes({ name, hyperparameters }: ModelDescription, config: ModelConfig): Prefixes | null {
  const stated = hyperparameters['hartonomous.embedding.prefixes'];
  if (Array.isArray(stated)) return { query: String(stated[0]), document: String(stated[1]) };
  const { architecture } = config;
  if (Object.hasOwn(BY_ARCHITECTURE, architecture.name)) return BY_ARCHITECTURE[architecture.name]!;
  const names = [hyperparameters['general.name'], hyperparameters['general.basename'], name];
  for (const each of names) {
    const plain = typeof each === 'string' ? each.toLowerCase().replace(/[ _./:]+/g, '-') : '';
    const found = BY_NAME.find(([pattern]) => pattern.test(plain));
    if (found !== undefined) return found[1];
  }
  return null;
}
