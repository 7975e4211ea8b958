import type { Command } from 'commander';
import type { Format } from '../output.ts';

/** Options that every command takes; defined on the program in main.ts. */
export interface GlobalOptions {
  databaseUrl?: string;
  format: Format;
}

export function globalsOf(command: Command): GlobalOptions {
  return command.optsWithGlobals();
}
