/**
 * docs/serve.md has a row for every field that the clients of OpenAI and Ollama know, and for every field that serve reads; the row
 * of what is passed over says so, and that of what is refused.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { packageRoot } from '../../cli/package-root.ts';
import type { FieldTable, Treatment } from '../../cli/serve/fields.ts';
import {
  CHAT_COMPLETIONS,
  COMPLETIONS,
  EMBEDDINGS,
  OLLAMA_CHAT,
  OLLAMA_EMBED,
  OLLAMA_EMBEDDINGS,
  OLLAMA_GENERATE,
  OLLAMA_OPTIONS,
  OLLAMA_SHOW,
  OPENAI_NESTED,
} from '../../cli/serve/fields.ts';

const OPENAI = 'openai/resources';
const OLLAMA = 'ollama/dist/browser.d.ts';

/** Names of an interface's members. */
function members(file: string, name: string): string[] {
  const path = join(packageRoot(), 'node_modules', file);
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest);
  const found: ts.InterfaceDeclaration[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isInterfaceDeclaration(node) && node.name.text === name) found.push(node);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found.flatMap((each) => each.members.map((member) => (member.name as ts.Identifier).text));
}

/** What is said in the last column of each name between backticks in the tables below some headings. */
function documented(...headings: string[]): Map<string, string[]> {
  const page = readFileSync(join(packageRoot(), 'docs/serve.md'), 'utf8');
  const sections = page.split(/^##+ /m).filter((section) => headings.includes(section.split('\n')[0]!));
  expect(sections).toHaveLength(headings.length);
  const rows = new Map<string, string[]>();
  for (const row of sections.flatMap((section) => section.split('\n').filter((line) => line.startsWith('|')))) {
    const here = row.split('|').at(-2)!.trim();
    for (const [, text] of row.matchAll(/`([^`]+)`/g))
      for (const name of text!.split(/, |\.|\[\]/)) rows.set(name, [...(rows.get(name) ?? []), here]);
  }
  return rows;
}

/** Whether a row says what becomes of a field. */
function isTold(treatment: Treatment | undefined, rows: readonly string[]): boolean {
  if (treatment === undefined || treatment === 'ignore') return rows.some((here) => here.includes('ignored and named'));
  if (typeof treatment === 'object' && 'harmless' in treatment) return rows.some((here) => here.includes('refused'));
  return rows.some((here) => !here.startsWith('ignored'));
}

const BOTH = 'Both';
const CHAT = 'OpenAI: `/v1/chat/completions`';
const OTHERS = 'OpenAI: `/v1/completions`, `/v1/embeddings`, `/v1/models`';
const ANSWERS = 'Ollama: `/api/generate`, `/api/chat`';
const MODELS = 'Ollama: `/api/embed`, `/api/embeddings`, `/api/tags`, `/api/show`, `/api/ps`';

test.each<[string, FieldTable[], [file: string, name: string][], string[]]>([
  [
    'chat completions',
    [CHAT_COMPLETIONS, ...Object.values(OPENAI_NESTED)],
    [
      [`${OPENAI}/chat/completions/completions.d.ts`, 'ChatCompletionCreateParamsBase'],
      [`${OPENAI}/chat/completions/completions.d.ts`, 'ChatCompletionStreamOptions'],
    ],
    [BOTH, CHAT],
  ],
  ['completions', [COMPLETIONS], [[`${OPENAI}/completions.d.ts`, 'CompletionCreateParamsBase']], [BOTH, CHAT, OTHERS]],
  ['embeddings', [EMBEDDINGS], [[`${OPENAI}/embeddings.d.ts`, 'EmbeddingCreateParams']], [BOTH, CHAT, OTHERS]],
  [
    'generate and chat',
    [OLLAMA_GENERATE, OLLAMA_CHAT, OLLAMA_OPTIONS],
    ['GenerateRequest', 'ChatRequest', 'Options', 'Message'].map((name) => [OLLAMA, name]),
    [BOTH, ANSWERS],
  ],
  [
    'embed and show',
    [OLLAMA_EMBED, OLLAMA_EMBEDDINGS, OLLAMA_SHOW],
    ['EmbedRequest', 'EmbeddingsRequest', 'ShowRequest'].map((name) => [OLLAMA, name]),
    [BOTH, ANSWERS, MODELS],
  ],
])('%s', (_title, tables, interfaces, headings) => {
  const rows = documented(...headings);
  for (const [file, name] of interfaces) {
    const fields = members(file, name);
    expect(fields.length, name).toBeGreaterThan(0);
    expect(
      fields.filter((field) => !rows.has(field)),
      name,
    ).toEqual([]);
  }
  const read: FieldTable = Object.assign({}, ...[...tables].reverse()) as FieldTable;
  expect(Object.keys(read).filter((field) => !rows.has(field))).toEqual([]);
  // Fields of messages are SQL's to take or to refuse.
  const sent = interfaces.flatMap(([file, name]) => (name === 'Message' ? [] : members(file, name)));
  expect([...Object.keys(read), ...sent].filter((field) => !isTold(read[field], rows.get(field)!))).toEqual([]);
});
