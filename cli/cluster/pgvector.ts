/** pgvector in the private database, where the system has it: then a search keeps its embeddings as `vector`, with an index. */
import type pg from 'pg';
import { tell } from '../output.ts';

/** Install the extension where it is available and not there; only a superuser may. What is wrong with it is told, since all but its index works without. */
export async function providePgvector(client: pg.Client): Promise<void> {
  const { rowCount } = await client.query(
    `select from pg_available_extensions where name = 'vector' and installed_version is null`,
  );
  if (rowCount === 0) return;
  try {
    await client.query('create extension if not exists vector schema public');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    tell(`note: pgvector is there and cannot be installed, so searches read every vector: ${reason}\n`);
  }
}
