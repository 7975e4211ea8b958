import type pg from 'pg';
import { loadMigrationFiles } from 'postgres-migrations';
import { CommandError, EXIT } from '../errors.ts';

/**
 * Refuse a database whose schema this program cannot bring forward: one of a newer program, or one from before 0.1.0,
 * until when migrations were edited in place.
 */
export async function refuseOtherSchemas(client: pg.Client, folder: string): Promise<void> {
  const known = new Map((await loadMigrationFiles(folder)).map((migration) => [migration.id, migration]));
  const { rows: applied } = await client.query<{ id: number; name: string; hash: string }>(
    'select id, name, hash from hartonomous.migrations order by id',
  );
  const version = applied.at(-1)?.id ?? 0;
  const newest = Math.max(...known.keys());
  const other = applied.find(({ id, hash }) => known.has(id) && known.get(id)!.hash !== hash);
  if (other !== undefined) {
    throw new CommandError(
      `the database predates 0.1.0: its schema is version ${version} and migration ${other.id}, ${other.name}, is not this program's`,
      {
        hint: `rebuild it, models and runs go with it: psql URL -c 'drop schema hartonomous cascade' && hartonomous install`,
        exitCode: EXIT.schemaMismatch,
      },
    );
  }
  if (version > newest) {
    throw new CommandError(`the database has schema version ${version}, this program knows ${newest}`, {
      hint: 'upgrade this program; a database is never taken back',
      exitCode: EXIT.schemaMismatch,
    });
  }
}
