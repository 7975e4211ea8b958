import type pg from 'pg';
import { CommandError, EXIT } from '../errors.ts';
import { refuseOtherSchemas } from '../install/schema-version.ts';

/** Refuse a database in which Hartonomous has not been installed, or by another program, with the next step. */
export async function requireInstalled(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>(
    `select to_regclass('hartonomous.models') is not null and to_regclass('hartonomous.model_list') is not null as there`,
  );
  if (rows[0]?.there !== true) {
    throw new CommandError('hartonomous is not installed in this database', {
      hint: 'run: hartonomous install',
      exitCode: EXIT.schemaMismatch,
    });
  }
  await refuseOtherSchemas(client);
}
