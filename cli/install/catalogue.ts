/** Everything in the schema that decides what Hartonomous does and who may do what, as lines that can be compared. */
import type pg from 'pg';

export interface Line {
  /** What the line is about, as `trigger count_inserted on hartonomous.tokens`. */
  name: string;
  value: string;
  /** Statements that make it so where it is missing or has another value; null where that takes more. */
  make: string | null;
  /** Statement that removes it where it should not be. */
  remove: string | null;
  /** Whether it is about an owner: these come first, since only an owner changes the rest. */
  owner: boolean;
}

/** The server writes all definitions itself, so they are compared as it understands them, whatever its version. */
const LINES = `
with schema as (
    select oid, nspowner, nspacl from pg_namespace where nspname = 'hartonomous'
), members as (
    -- what an extension has put there is the extension's
    select d.classid, d.objid, e.extname from pg_depend d join pg_extension e on e.oid = d.refobjid
    where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
), relations as (
    select c.*, c.oid::regclass::text as name,
        case c.relkind when 'v' then 'view' when 'S' then 'sequence' when 'm' then 'materialized view' else 'table' end as kind
    from pg_class c join schema s on c.relnamespace = s.oid
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and not exists (select from members m where m.classid = 'pg_class'::regclass and m.objid = c.oid)
), tables as (
    select * from relations where relkind in ('r', 'p', 'f')
), routines as (
    select p.*, case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end as kind, p.oid::regprocedure::text as name
    from pg_proc p join schema s on p.pronamespace = s.oid
    where not exists (select from members m where m.classid = 'pg_proc'::regclass and m.objid = p.oid)
), types as (
    select t.*, case t.typtype when 'd' then 'domain' else 'type' end as kind, t.oid::regtype::text as name
    from pg_type t join schema s on t.typnamespace = s.oid
    where (t.typtype in ('e', 'd', 'r', 'b') and t.typelem = 0 or exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
        and not exists (select from members m where m.classid = 'pg_type'::regclass and m.objid = t.oid)
), columns as (
    select t.name as "table", a.*, t.name || '.' || quote_ident(a.attname) as name
    from tables t join pg_attribute a on a.attrelid = t.oid where a.attnum > 0 and not a.attisdropped
), owned as (
    select 'schema' as kind, 'hartonomous' as name, nspowner as owner, nspacl as acl, 'n' as class from schema
    union all select kind, name, relowner, relacl, case relkind when 'S' then 's' else 'r' end from relations
    union all select case kind when 'aggregate' then 'function' else kind end, name, proowner, proacl, 'f' from routines
    union all select kind, name, typowner, typacl, 'T' from types
), grants as (
    select case o.kind when 'view' then 'table' when 'materialized view' then 'table' when 'domain' then 'type' else o.kind end || ' ' || o.name as name,
        lower(a.privilege_type) as what, a.grantee, a.is_grantable
    from owned o cross join lateral aclexplode(coalesce(o.acl, acldefault(o.class::"char", o.owner))) a where a.grantee <> o.owner
    union all
    select 'table ' || r.name, lower(a.privilege_type) || ' (' || quote_ident(c.attname) || ')', a.grantee, a.is_grantable
    from relations r join pg_attribute c on c.attrelid = r.oid cross join lateral aclexplode(c.attacl) a
    where a.grantee <> r.relowner
), found as (
    select 'owner of ' || kind || ' ' || name as name, pg_get_userbyid(owner)::text as value,
        format('alter %s %s owner to %I', kind, name, pg_get_userbyid(owner)) as make, null as remove, true as owner
    from owned
    union all
    select format('grant of %s on %s to %s', what, g.name, w.who), case when is_grantable then 'with grant option' else '' end,
        format('grant %s on %s to %s', what, g.name, w.who) || case when is_grantable then ' with grant option' else '' end,
        format('revoke %s on %s from %s cascade', what, g.name, w.who), false
    from grants g cross join lateral (select case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end as who) w
    union all
    select kind || ' ' || name, case prokind when 'a' then 'aggregate' else pg_get_functiondef(oid) end,
        case prokind when 'a' then null else pg_get_functiondef(oid) end, format('drop %s %s', kind, name), false
    from routines
    union all
    select kind || ' ' || name, pg_get_viewdef(oid), format('create or replace view %s as %s', name, pg_get_viewdef(oid)), format('drop %s %s', kind, name), false
    from relations where relkind in ('v', 'm')
    union all
    select 'options of view ' || name, coalesce(array_to_string(reloptions, ', '), ''),
        format('alter view %s reset (security_barrier, security_invoker, check_option)', name) ||
            case when reloptions is null then '' else format('; alter view %s set (%s)', name, array_to_string(reloptions, ', ')) end, null, false
    from relations where relkind = 'v'
    union all
    select kind || ' ' || name, concat_ws(' ', relkind, relpersistence, pg_get_expr(relpartbound, oid)), null,
        format('alter %s %s set schema public', kind, name), false
    from relations where relkind not in ('v', 'm')
    union all
    select 'row security of table ' || name, concat_ws(' ', relrowsecurity, relforcerowsecurity),
        format('alter table %s %s row level security; alter table %1$s %s row level security', name,
            case when relrowsecurity then 'enable' else 'disable' end, case when relforcerowsecurity then 'force' else 'no force' end), null, false
    from tables
    union all
    select 'child ' || i.inhrelid::regclass || ' of table ' || t.name, '', null, format('alter table %s no inherit %s', i.inhrelid::regclass, t.name), false
    from tables t join pg_inherits i on i.inhparent = t.oid
    union all
    select 'column ' || name, concat_ws(' ', format_type(atttypid, atttypmod), attidentity, attgenerated), null,
        format('alter table %s drop column %I', "table", attname), false
    from columns
    union all
    select 'not null of column ' || name, '', format('alter table %s alter column %I set not null', "table", attname),
        format('alter table %s alter column %I drop not null', "table", attname), false
    from columns where attnotnull
    union all
    select 'default of column ' || c.name, pg_get_expr(d.adbin, d.adrelid),
        format('alter table %s alter column %I set default %s', c."table", c.attname, pg_get_expr(d.adbin, d.adrelid)),
        format('alter table %s alter column %I drop default', c."table", c.attname), false
    from columns c join pg_attrdef d on d.adrelid = c.attrelid and d.adnum = c.attnum
    union all
    select format('constraint %I of table %s', c.conname, t.name), pg_get_constraintdef(c.oid),
        format('alter table %s add constraint %I %s', t.name, c.conname, pg_get_constraintdef(c.oid)),
        format('alter table %s drop constraint %I', t.name, c.conname), false
    from tables t join pg_constraint c on c.conrelid = t.oid where c.contype in ('c', 'f', 'p', 'u', 'x')
    union all
    select 'index ' || i.indexrelid::regclass, pg_get_indexdef(i.indexrelid), pg_get_indexdef(i.indexrelid), 'drop index ' || i.indexrelid::regclass, false
    from tables t join pg_index i on i.indrelid = t.oid
    where not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.contype in ('p', 'u', 'x'))
    union all
    -- planning a query evaluates their expressions
    select format('statistics %s.%I of table %s', s.stxnamespace::regnamespace, s.stxname, t.name), '', null,
        format('drop statistics %s.%I', s.stxnamespace::regnamespace, s.stxname), false
    from tables t join pg_statistic_ext s on s.stxrelid = t.oid
    union all
    select format('trigger %I on %s', g.tgname, r.name), pg_get_triggerdef(g.oid) || case g.tgenabled when 'O' then '' else format(' (state %s)', g.tgenabled) end,
        pg_get_triggerdef(g.oid), format('drop trigger %I on %s', g.tgname, r.name), false
    from relations r join pg_trigger g on g.tgrelid = r.oid where not g.tgisinternal
    union all
    select 'constraint triggers switched off on table ' || t.name, '', null, 'alter table ' || t.name || ' enable trigger all', false
    from tables t where exists (select from pg_trigger g where g.tgrelid = t.oid and g.tgisinternal and g.tgenabled <> 'O')
    union all
    select format('rule %I on %s', w.rulename, r.name), pg_get_ruledef(w.oid), pg_get_ruledef(w.oid), format('drop rule %I on %s', w.rulename, r.name), false
    from relations r join pg_rewrite w on w.ev_class = r.oid where w.rulename <> '_RETURN'
    union all
    select format('policy %I on %s', p.polname, t.name), '', null, format('drop policy %I on %s', p.polname, t.name), false
    from tables t join pg_policy p on p.polrelid = t.oid
    union all
    select kind || ' ' || name, concat_ws(' ', typtype, (select string_agg(e.enumlabel, ', ' order by e.enumsortorder) from pg_enum e where e.enumtypid = types.oid)),
        null, format('drop %s %s', kind, name), false
    from types
    union all
    select format('cast %s as %s', castsource::regtype, casttarget::regtype), '', null, format('drop cast (%s as %s)', castsource::regtype, casttarget::regtype), false
    from pg_cast where castsource in (select oid from types) or casttarget in (select oid from types)
    union all
    select pg_describe_object(d.classid, d.objid, 0), '', null,
        case when d.classid = 'pg_operator'::regclass then 'drop operator ' || d.objid::regoperator end, false
    from pg_depend d join schema s on d.refclassid = 'pg_namespace'::regclass and d.refobjid = s.oid
    where d.classid not in ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_extension'::regclass, 'pg_default_acl'::regclass, 'pg_statistic_ext'::regclass)
        and not exists (select from members m where m.classid = d.classid and m.objid = d.objid)
    union all
    select 'extension ' || quote_ident(e.extname), '', null, format('alter extension %I set schema public', e.extname), false
    from pg_extension e join schema s on e.extnamespace = s.oid
    union all
    select format('default privilege of %s for %s on %s', lower(a.privilege_type), w.who, k.kind), '', null,
        format('alter default privileges for role %I%s revoke %s on %s from %s', pg_get_userbyid(d.defaclrole),
            case d.defaclnamespace when 0 then '' else ' in schema hartonomous' end, a.privilege_type, k.kind, w.who), false
    from pg_default_acl d cross join lateral aclexplode(d.defaclacl) a
    cross join lateral (select case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as who) w
    cross join lateral (select case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' else 'schemas' end as kind) k
    where (d.defaclnamespace = (select oid from schema) or d.defaclnamespace = 0 and d.defaclrole = to_regrole('hartonomous_owner')) and a.grantee <> d.defaclrole
)
select name, value, make, remove, owner from found order by owner desc, name`;

/** What the schema has now. Reads the system's catalogue only; the search path of the transaction is pg_catalog afterwards. */
export async function catalogue(client: pg.Client): Promise<Map<string, Line>> {
  await client.query('set local search_path = pg_catalog');
  const { rows } = await client.query<Line>(LINES);
  return new Map(rows.map((row) => [row.name, row]));
}
