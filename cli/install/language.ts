import pg from 'pg';

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

const UNDEFINED_FUNCTION = '42883';
const INNER_PRODUCT = 'pg_catalog.hartonomous_v8_inner_product(bytea, bytea)';

/**
 * Add what the script of our own extension has got since this database ran it: it is edited in place until 0.1.0. A superuser may,
 * where the library has it; without it JavaScript does the same.
 */
export async function completeExtension(client: pg.Client, host: string): Promise<void> {
  if (host !== OWN_HOST) return;
  const { rows } = await client.query<{ lacking: boolean }>(
    `select to_regprocedure('${INNER_PRODUCT}') is null and rolsuper as lacking from pg_roles where rolname = current_user`,
  );
  if (rows[0]?.lacking !== true) return;
  await client.query('begin');
  try {
    await client.query(
      `create function ${INNER_PRODUCT} returns double precision
         as '$libdir/hartonomous_v8', 'hartonomous_v8_inner_product' language c immutable strict parallel safe cost 10;
       comment on function ${INNER_PRODUCT} is 'inner product of two vectors of floats, the least significant byte of each first';
       alter extension ${OWN_HOST} add function ${INNER_PRODUCT}`,
    );
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    if (!(error instanceof pg.DatabaseError) || error.code !== UNDEFINED_FUNCTION) throw error;
  }
}
