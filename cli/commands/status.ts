import type { Command } from 'commander';
import { withClient } from '../cluster/connect.ts';
import { formatBytes, printJson } from '../output.ts';
import { globalsOf } from './globals.ts';

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

function lines(row: StatusRow): string {
  return [
    `Atoms:         ${row.atoms}`,
    `Relations:     ${row.relations}`,
    `Compositions:  ${row.compositions}`,
    `Tokens:        ${row.tokens}`,
    `Embeddings:    ${row.embeddings} (${row.embeddings_percent ?? '0'} %)`,
    `Weights:       ${row.weights} (${row.layers} layers)`,
    `Size${row.model === null ? ' on disk:' : ':        '} ${formatBytes(Number(row.size_bytes))}`,
  ].join('\n');
}

/** `status`: what is stored, per model and in all. */
export function registerStatus(program: Command): void {
  program
    .command('status')
    .description('show what is stored, per model and in all')
    .action(async (_options: unknown, command: Command) => {
      const globals = globalsOf(command);
      const { rows } = await withClient(globals, (client) =>
        client.query<StatusRow>('select * from hartonomous.status'),
      );
      if (globals.format === 'json') return printJson(rows);
      for (const row of rows) process.stdout.write(`${row.model ?? 'in all'}\n${lines(row).replace(/^/gm, '  ')}\n\n`);
    });
}
