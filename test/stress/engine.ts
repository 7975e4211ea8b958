/** What the stress test does to engines, and to databases beside the one that its sessions use. */
import { setTimeout as sleep } from 'node:timers/promises';
import { connected, connectedAgain, wasKilled } from './sessions.ts';

/** Statements that end an engine, or what it is about. */
const INTERRUPTIONS = ['pg_terminate_backend', 'pg_cancel_backend'] as const;

/** Whether sessions that are opened from now on ask an engine. */
export async function setEngine(url: string, on: boolean): Promise<void> {
  const client = await connected(url);
  const setting = on ? 'set hartonomous_v8.engine = on' : 'reset hartonomous_v8.engine';
  try {
    await client.query(
      `do $$ begin execute format('alter database %I ${setting}', pg_catalog.current_database()); end $$`,
    );
  } finally {
    await client.end();
  }
}

/** End the engine of this database, or cancel what it does. */
export async function interruptEngine(url: string, random: () => number): Promise<void> {
  const client = await connected(url);
  const how = INTERRUPTIONS[Math.floor(random() * INTERRUPTIONS.length)]!;
  try {
    await client.query(
      `select ${how}(pid) from pg_stat_activity where backend_type = 'hartonomous engine' and datname = current_database()`,
    );
  } finally {
    await client.end();
  }
}

/** Settings of the operator that leave next to nothing, little, or what there is without them. */
const STARVING: Record<string, (number | null)[]> = {
  max_cache_bytes: [0, 100_000, 2_000_000, null],
  max_loaded_models: [1, 2, 4, null],
};

/** Change how much caches and models may take. */
export async function starve(url: string, random: () => number): Promise<void> {
  const client = await connected(url);
  try {
    for (const [name, values] of Object.entries(STARVING)) {
      const value = values[Math.floor(random() * values.length)]!;
      if (value === null) await client.query('delete from hartonomous.settings where name = $1', [name]);
      else
        await client.query(
          `insert into hartonomous.settings (name, value) values ($1, to_jsonb($2::integer))
           on conflict (name) do update set value = excluded.value`,
          [name, value],
        );
    }
  } finally {
    await client.end();
  }
}

/**
 * Databases that are copied, renamed and dropped as engines of theirs have just computed, beside the one that the sessions use. None of
 * it may be refused: an engine that is idle stands in nobody's way.
 */
export class Neighbours {
  private readonly names: readonly [origin: string, copy: string, renamed: string];

  constructor(
    private readonly options: { url: string; kills?: boolean },
    /** What has to be answered there. */
    private readonly question: { sql: string; args: unknown[]; text: string },
  ) {
    const name = new URL(options.url).pathname.slice(1);
    this.names = [`${name}_origin`, `${name}_copy`, `${name}_renamed`];
  }

  private async asAdmin(sql: string): Promise<void> {
    const client = await connectedAgain(this.urlOf('postgres'));
    try {
      await client.query(sql);
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  private urlOf(database: string): string {
    const url = new URL(this.options.url);
    url.pathname = `/${database}`;
    return url.toString();
  }

  /** Copy the database, which nobody may be connected to, and everything else that these are made of. */
  async begin(): Promise<void> {
    const [origin] = this.names;
    await this.asAdmin(`create database ${origin} template ${new URL(this.options.url).pathname.slice(1)}`);
  }

  private async answer(database: string): Promise<string | null> {
    const client = await connectedAgain(this.urlOf(database));
    try {
      const { rows } = await client.query<{ text: string }>(this.question.sql, this.question.args);
      const { rows: engines } = await client.query(
        `select from pg_stat_activity where datname = current_database() and backend_type = 'hartonomous engine'`,
      );
      if (rows[0]?.text !== this.question.text) return `${database} answered ${JSON.stringify(rows[0]?.text)}`;
      return engines.length === 1 ? null : `${database} has ${engines.length} engines after an answer`;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** Again and again, until the time is over; how often, and what was wrong. */
  async run(until: number): Promise<{ rounds: number; findings: string[] }> {
    const [origin, copy, renamed] = this.names;
    const findings: string[] = [];
    let rounds = 0;
    const serve = async (database: string): Promise<void> => {
      await this.asAdmin(`alter database ${database} set hartonomous_v8.segment_role = hartonomous_owner`);
      await this.asAdmin(`alter database ${database} set hartonomous_v8.engine = on`);
      const wrong = await this.answer(database);
      if (wrong !== null) findings.push(wrong);
    };
    while (Date.now() < until) {
      try {
        await serve(origin);
        await this.asAdmin(`create database ${copy} template ${origin}`);
        await serve(copy);
        await this.asAdmin(`alter database ${copy} rename to ${renamed}`);
        await serve(renamed);
        await this.asAdmin(`drop database ${renamed}`);
        rounds++;
      } catch (error) {
        if (!this.options.kills || !wasKilled(error))
          findings.push(`a database beside it: ${(error as Error).message}`);
        await sleep(100);
        for (const name of [copy, renamed])
          await this.asAdmin(`drop database if exists ${name} with (force)`).catch(() => undefined);
      }
    }
    return { rounds, findings };
  }

  async end(): Promise<void> {
    for (const name of this.names) await this.asAdmin(`drop database if exists ${name} with (force)`);
  }
}
