/** PL/Proxy in a database: its extension and the two functions written in its language, which only a superuser makes. */
import type pg from 'pg';
import { CommandError } from '../errors.ts';

/**
 * SPLIT sends each node the elements that are its own, all nodes at once. The arguments have names that no column of the
 * query has, since PL/Proxy replaces every word that is one.
 */
export const PROXY_FUNCTIONS = `
create or replace function hartonomous._cluster_share(
    share_nodes integer[], share_ords integer[], share_prompts text[], share_model text, share_options json,
    out node integer, out ord integer, out text text, out done_reason text, out eval_count integer)
returns setof record
language plproxy volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
    cluster 'hartonomous';
    split share_nodes, share_ords, share_prompts;
    run on share_nodes;
    select (share_nodes)[1] as node, (share_ords)[g.ord] as ord, g.text, g.done_reason, g.eval_count
    from hartonomous.generate(share_prompts, share_model, share_options) as g;
$$;
comment on function hartonomous._cluster_share(integer[], integer[], text[], text, json) is
    'generate on several nodes at once; called by cluster_generate';
create or replace function hartonomous._cluster_ping(node integer) returns boolean
language plproxy volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
    cluster 'hartonomous';
    run on node;
    select true;
$$;
comment on function hartonomous._cluster_ping(integer) is 'raise an error where a node does not answer';
alter function hartonomous._cluster_share(integer[], integer[], text[], text, json) owner to hartonomous_owner;
alter function hartonomous._cluster_ping(integer) owner to hartonomous_owner;
revoke all on function hartonomous._cluster_share(integer[], integer[], text[], text, json),
    hartonomous._cluster_ping(integer) from public;
grant usage on foreign data wrapper plproxy to hartonomous_owner;
`;

/** Make sure that cluster_generate can call PL/Proxy here. Throws with the next step where that takes a superuser. */
export async function ensureProxy(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ available: boolean; made: boolean; superuser: boolean }>(
    `select exists (select from pg_available_extensions where name = 'plproxy') as available,
       to_regprocedure('hartonomous._cluster_share(integer[], integer[], text[], text, json)') is not null as made,
       (select rolsuper from pg_roles where rolname = current_user) as superuser`,
  );
  const state = rows[0]!;
  if (state.made) return;
  if (!state.available) {
    throw new CommandError('this server does not offer extension plproxy', {
      hint: 'install it, on Debian: apt-get install postgresql-15-plproxy (15 for the major version of the server)',
    });
  }
  if (!state.superuser) {
    throw new CommandError('PL/Proxy is not set up in this database, and only a superuser can do that', {
      hint: 'let a superuser add the first node',
    });
  }
  await client.query('begin');
  try {
    await client.query('create extension if not exists plproxy');
    await client.query(PROXY_FUNCTIONS);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}
