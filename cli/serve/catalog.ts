/** What the database knows of its models, asked over connections that never compute, so that no answer delays it. */
import pg from 'pg';
import { databaseUrl } from '../cluster/connect.ts';
import type { ConnectionOptions } from '../cluster/connect.ts';
import type { ShownModel } from '../answer/show-model.ts';
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

  /** One model. Throws 404 when there is none of this name. */
  async model(name: string): Promise<ListedModel> {
    const { rows } = await this.pool.query<ListedModel>('select * from hartonomous.model_list where name = $1', [name]);
    return rows[0] ?? notFound(name);
  }

  async details(name: string): Promise<ShownModel> {
    const { rows } = await this.pool.query<{ model: ShownModel }>('select hartonomous.show_model($1) as model', [name]);
    return rows[0]!.model;
  }

  /** The name given, which must be a model's, or that of the default model. */
  async modelName(name: string | null): Promise<string> {
    if (name !== null) return (await this.model(name)).name;
    const { rows } = await this.pool.query<{ name: string | null }>('select hartonomous.default_model() as name');
    return rows[0]!.name ?? notFound(null);
  }

  /** Models that backends hold, once each. */
  async loaded(): Promise<ListedModel[]> {
    const { rows } = await this.pool.query<ListedModel>(
      `select * from hartonomous.model_list where name in (select model from hartonomous.loaded_everywhere)`,
    );
    return rows;
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
