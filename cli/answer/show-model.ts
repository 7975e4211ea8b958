/** What `show`, `/show` and `/api/show` tell of a model. */
import { fileTypeName } from '../../plv8/src/format/file-types.ts';
import { formatCount } from '../output.ts';

/** hartonomous.show_model(). */
export interface ShownModel {
  name: string;
  architecture: string;
  parameter_count: number;
  layer_count: number | null;
  context_length: number | null;
  embedding_length: number | null;
  vocabulary_size: number;
  /** type -> number of tensors */
  storage_types: Record<string, number> | null;
  source: string | null;
  source_format: string;
  digest: string;
  size_bytes: number;
  ingested_at: string;
  default_options: Record<string, unknown>;
  system_prompt: string | null;
  chat_template: string | null;
  license: string | null;
  metadata: Record<string, unknown>;
  /** It was made for embeddings. */
  is_embedder: boolean;
}

export type Section = 'license' | 'parameters' | 'system' | 'template';

/** The file's own type, as Q4_K_M; where it does not say, the type most tensors of more than one dimension have. */
export function quantization(model: ShownModel): string {
  const own = fileTypeName(model.metadata);
  if (own !== null) return own;
  const types = Object.entries(model.storage_types ?? {}).sort((a, b) => b[1] - a[1]);
  return types.find(([type]) => type !== 'F32')?.[0] ?? types[0]?.[0] ?? 'unknown';
}

function columns(pairs: [string, unknown][]): string {
  const width = Math.max(0, ...pairs.map(([name]) => name.length)) + 4;
  return pairs.map(([name, value]) => `    ${name.padEnd(width)}${String(value)}\n`).join('');
}

function parameters(model: ShownModel): [string, unknown][] {
  return Object.entries(model.default_options).flatMap(([name, value]) =>
    (Array.isArray(value) ? (value as unknown[]) : [value]).map((item): [string, unknown] => [
      name,
      typeof item === 'string' ? JSON.stringify(item) : item,
    ]),
  );
}

function indented(text: string): string {
  return `${text.trimEnd().replace(/^/gm, '    ')}\n`;
}

/** One thing alone, as `ollama show --template` and its like print it. */
export function showSection(model: ShownModel, section: Section): string {
  const texts: Record<Section, string | null> = {
    license: model.license,
    parameters: parameters(model)
      .map(([name, value]) => `${name.padEnd(30)} ${String(value)}`)
      .join('\n'),
    system: model.system_prompt,
    template: model.chat_template,
  };
  const text = texts[section] ?? '';
  return text === '' ? `no ${section} is known of ${model.name}\n` : `${text.trimEnd()}\n`;
}

/** Everything a person wants to know, as `ollama show` lays it out. */
export function showText(model: ShownModel): string {
  const sections: [string, string][] = [
    [
      'Model',
      columns([
        ['architecture', model.architecture],
        ['parameters', formatCount(model.parameter_count)],
        ['context length', model.context_length ?? 'unknown'],
        ['embedding length', model.embedding_length ?? 'unknown'],
        ['quantization', quantization(model)],
        ['layers', model.layer_count ?? 'unknown'],
        ['vocabulary', model.vocabulary_size],
        ['digest', model.digest.slice(0, 12)],
        ['source', `${model.source ?? 'unknown'} (${model.source_format})`],
      ]),
    ],
  ];
  const recommended = parameters(model);
  if (recommended.length > 0) sections.push(['Parameters', columns(recommended)]);
  if (model.system_prompt !== null) sections.push(['System', indented(model.system_prompt)]);
  if (model.license !== null) sections.push(['License', indented(model.license)]);
  return sections.map(([title, body]) => `  ${title}\n${body}`).join('\n');
}
