import type pg from 'pg';

/** Extension that provides LANGUAGE plv8 in this database; `no extension` where it was made by hand, null without it. */
export async function languageHost(client: pg.Client): Promise<string | null> {
  const { rows } = await client.query<{ host: string | null }>(
    `select e.extname as host from pg_language l
     left join pg_depend d on d.classid = 'pg_language'::regclass and d.objid = l.oid and d.deptype = 'e'
     left join pg_extension e on e.oid = d.refobjid
     where l.lanname = 'plv8'`,
  );
  const language = rows[0];
  return language === undefined ? null : (language.host ?? 'no extension');
}

/** Our own extension; every other language of that name is taken for PL/V8. */
export const OWN_HOST = 'hartonomous_v8';

/** Version of that extension, after a space; empty without one. */
export async function languageVersion(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ version: string }>(
    `select e.extversion as version from pg_language l
     join pg_depend d on d.classid = 'pg_language'::regclass and d.objid = l.oid and d.deptype = 'e'
     join pg_extension e on e.oid = d.refobjid
     where l.lanname = 'plv8'`,
  );
  return rows[0] === undefined ? '' : ` ${rows[0].version}`;
}
