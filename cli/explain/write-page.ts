/** The HTML page of a run: one file, nothing from the network. */
import { writeFile } from 'node:fs/promises';
import type pg from 'pg';
import { brief } from '../../plv8/src/format/visible-text.ts';
import { CommandError } from '../errors.ts';
import template from './page.html';

/** Explain every token of a run and write the page, with the token of `step` selected. */
export async function writePage(
  client: pg.Client,
  file: string,
  runId: number,
  step: number,
  inputs: string | null,
): Promise<void> {
  const { rows } = await client.query<{ page: object }>('select hartonomous._explain_page($1, $2) as page', [
    runId,
    inputs,
  ]);
  // Within a script element a `<` could end it.
  const data = JSON.stringify({ ...rows[0]!.page, selected: step }).replaceAll('<', '\\u003c');
  try {
    await writeFile(
      file,
      template.replace('{{data}}', () => data),
    );
  } catch (cause) {
    throw new CommandError(
      `could not write ${brief(file)}: ${brief(cause instanceof Error ? cause.message : String(cause))}`,
      {
        cause,
      },
    );
  }
}
