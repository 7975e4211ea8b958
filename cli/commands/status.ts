import type { Command } from 'commander';
import { withClient } from '../cluster/connect.ts';
import { formatBytes, print, printJson } from '../output.ts';
import { globalsOf } from './globals.ts';
import { requireInstalled } from './installed.ts';

interface StatusRow {
  model: string | null;
  atoms: string;
  relations: string;
  compositions: string;
  tokens: string;
  embeddings: string;
  embeddings_percent: string | null;
  weights: string;
  layers: string;
  size_bytes: string;
}

/** What a model has alone and what it shares; of ready models only. */
interface SharingRow {
  model: string;
  own_atoms: string;
  own_bytes: string;
  shared_atoms: string;
  shared_bytes: string;
  shared_with: string[];
}

function sharingLines(row: SharingRow): string[] {
  const { shared_with: others } = row;
  return [
    `Own:           ${row.own_atoms} atoms, ${formatBytes(Number(row.own_bytes))}`,
    `Shared:        ${row.shared_atoms} atoms, ${formatBytes(Number(row.shared_bytes))}` +
      (others.length > 0 ? `, with ${others.join(', ')}` : ''),
  ];
}

function lines(row: StatusRow, sharing: SharingRow | undefined): string {
  return [
    `Atoms:         ${row.atoms}`,
    `Relations:     ${row.relations}`,
    `Compositions:  ${row.compositions}`,
    `Tokens:        ${row.tokens}`,
    `Embeddings:    ${row.embeddings} (${row.embeddings_percent ?? '0'} %)`,
    `Weights:       ${row.weights} (${row.layers} layers)`,
    ...(sharing === undefined ? [] : sharingLines(sharing)),
    `${row.model === null ? 'Size on disk: ' : 'Size:         '} ${formatBytes(Number(row.size_bytes))}`,
  ].join('\n');
}

/** `status`: what is stored, per model and in all. */
export function registerStatus(program: Command): void {
  program
    .command('status')
    .description('show what is stored, per model and in all')
    .action(async (_options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const { rows, sharing } = await withClient(globals, async (client) => {
        await requireInstalled(client);
        return {
          rows: (await client.query<StatusRow>('select * from hartonomous.status')).rows,
          sharing: (await client.query<SharingRow>('select * from hartonomous.model_sharing')).rows,
        };
      });
      const byModel = new Map(sharing.map((row) => [row.model, row]));
      const sharingOf = (row: StatusRow): SharingRow | undefined =>
        row.model === null ? undefined : byModel.get(row.model);
      if (globals.format === 'json') return printJson(rows.map((row) => ({ ...row, ...sharingOf(row) })));
      for (const row of rows) print(`${row.model ?? 'in all'}\n${lines(row, sharingOf(row)).replace(/^/gm, '  ')}\n\n`);
    });
}
