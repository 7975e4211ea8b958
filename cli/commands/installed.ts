import type pg from 'pg';
import { CommandError, EXIT } from '../errors.ts';
import { requireOwnSchema } from '../install/foreign-schema.ts';
import { refuseOtherSchemas } from '../install/schema-version.ts';

/** Refuse a database in which Hartonomous has not been installed, or by another program, or where others stand in its place, with the next step. */
export async function requireInstalled(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>(
    `select pg_catalog.to_regclass('hartonomous.models') is not null
       and pg_catalog.to_regclass('hartonomous.model_list') is not null as there`,
  );
  if (rows[0]?.there !== true) {
    throw new CommandError('hartonomous is not installed in this database', {
      hint: 'run: hartonomous install',
      exitCode: EXIT.schemaMismatch,
    });
  }
  await requireOwnSchema(client);
  await refuseOtherSchemas(client);
}
