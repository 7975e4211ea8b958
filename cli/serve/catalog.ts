/** What the database knows of its models, asked over connections that never compute, so that no answer delays it. */
import pg from 'pg';
import { databaseUrl } from '../cluster/connect.ts';
import type { ConnectionOptions } from '../cluster/connect.ts';
import type { ShownModel } from '../answer/show-model.ts';
import type { EngineRow } from './engine-metrics.ts';
import { HttpError } from './errors.ts';

const CONNECTIONS = 2;

export interface ListedModel {
  name: string;
  architecture: string;
  digest: string;
  source_bytes: string;
  source_format: string;
  parameter_count: string;
  context_length: number | null;
  ingested_at: Date;
}

export class Catalog {
  private readonly pool: pg.Pool;

  constructor(connection: ConnectionOptions) {
    this.pool = new pg.Pool({
      connectionString: databaseUrl(connection),
      application_name: 'hartonomous serve',
      max: CONNECTIONS,
    });
    this.pool.on('error', () => undefined);
  }

  async models(): Promise<ListedModel[]> {
    return (await this.pool.query<ListedModel>('select * from hartonomous.model_list')).rows;
  }

  /** One model; NAME and NAME:latest are one. Throws 404 when there is none of this name. */
  async model(name: string): Promise<ListedModel> {
    const { rows } = await this.pool.query<ListedModel>(
      `select * from hartonomous.model_list where name = $1 or name = $1 || ':latest' or $1 = name || ':latest'
       order by name = $1 desc limit 1`,
      [name],
    );
    return rows[0] ?? notFound(name);
  }

  /** Throws 403 where a role, or for null the one that connected, is no member of hartonomous_admin, which does what `may` says. */
  async requireAdmin(role: string | null, may = 'frees models for all'): Promise<void> {
    const { rows } = await this.pool.query<{ role: string; admin: boolean }>(
      `select r.role, pg_has_role(r.role::name, 'hartonomous_admin', 'usage') as admin
       from (select coalesce($1, session_user::text) as role) r`,
      [role],
    );
    if (!rows[0]!.admin)
      throw new HttpError(403, `role ${rows[0]!.role} is not a member of hartonomous_admin, which ${may}`, {
        code: '42501',
      });
  }

  async details(name: string): Promise<ShownModel> {
    const { rows } = await this.pool.query<{ model: ShownModel }>('select hartonomous.show_model($1) as model', [name]);
    return rows[0]!.model;
  }

  /** The model of this name, or the default one. */
  async named(name: string | null): Promise<ListedModel> {
    return this.model(name ?? (await this.defaultName('default_model')));
  }

  /** Name of the model of this name, or of the default one for embeddings. */
  async embeddingModel(name: string | null): Promise<string> {
    return (await this.model(name ?? (await this.defaultName('default_embedding_model')))).name;
  }

  private async defaultName(of: 'default_model' | 'default_embedding_model'): Promise<string> {
    const { rows } = await this.pool.query<{ name: string | null }>(`select hartonomous.${of}() as name`);
    return rows[0]!.name ?? notFound(null);
  }

  /** Models that backends hold, once each. */
  async loaded(): Promise<ListedModel[]> {
    const { rows } = await this.pool.query<ListedModel>(
      `select * from hartonomous.model_list where name in (select model from hartonomous.loaded_everywhere)`,
    );
    return rows;
  }

  /** What the engine of the database does; null where none runs. */
  async engine(): Promise<EngineRow | null> {
    return (await this.pool.query<EngineRow>('select * from hartonomous.engine_list')).rows[0] ?? null;
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}

function notFound(name: string | null): never {
  throw new HttpError(
    404,
    name === null ? 'no model named and no default set' : `model ${JSON.stringify(name.slice(0, 100))} does not exist`,
    { param: 'model', code: 'model_not_found' },
  );
}
