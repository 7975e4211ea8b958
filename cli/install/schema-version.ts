import { join } from 'node:path';
import type pg from 'pg';
import { loadMigrationFiles } from 'postgres-migrations';
import { CommandError, EXIT } from '../errors.ts';
import { packageRoot } from '../package-root.ts';
import { copyRows } from './foreign-schema.ts';

export const MIGRATIONS = join(packageRoot(), 'migrations');

/**
 * Refuse a database whose schema this program cannot bring forward: one of a newer program, one from before 0.1.0, or one of
 * another build before 0.1.0, until when migrations are edited in place. Nothing
 * where there is no schema, or no book that could be read.
 */
export async function refuseOtherSchemas(client: pg.Client): Promise<void> {
  const { rows: columns } = await client.query(
    `select from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) a.attrelid
     where a.attrelid operator(pg_catalog.=) pg_catalog.to_regclass('hartonomous.migrations')
       and a.attname operator(pg_catalog.=) any (array['id', 'name', 'hash']::pg_catalog.name[]) and not c.relrowsecurity
       and pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'select')`,
  );
  if (columns.length < 3) return;
  const known = new Map((await loadMigrationFiles(MIGRATIONS)).map((migration) => [migration.id, migration]));
  const applied = (await copyRows(client, 'hartonomous.migrations', ['id', 'name', 'hash']))
    .map(([id, name, hash]) => ({ id: Number(id), name: name!, hash: hash! }))
    .sort((a, b) => a.id - b.id);
  const version = applied.at(-1)?.id ?? 0;
  const newest = Math.max(...known.keys());
  const other = applied.find(({ id, hash }) => known.has(id) && known.get(id)!.hash !== hash);
  if (other !== undefined) {
    const older = other.name !== known.get(other.id)!.name;
    throw new CommandError(
      older
        ? `the database predates 0.1.0: its schema is version ${version} and migration ${other.id}, ${other.name}, is not this program's`
        : `the database was made by another build before 0.1.0: migration ${other.id}, ${other.name}, has another text here`,
      {
        hint: `${older ? '' : 'use that build, or '}rebuild it, models and runs go with it: drop schema hartonomous cascade; then hartonomous install`,
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
