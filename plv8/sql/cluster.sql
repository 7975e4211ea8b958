-- Batches divided among servers with PL/Proxy. The two functions written in PL/Proxy itself, _cluster_share and
-- _cluster_ping, need its extension, so `hartonomous cluster add` makes them; everything else is here.

create or replace view hartonomous._cluster_partitions as
select n.id, n.name, n.connection, (row_number() over (order by n.id) - 1)::integer as partition from hartonomous.cluster_nodes n;
comment on view hartonomous._cluster_partitions is 'nodes with their numbers in PL/Proxy''s cluster';
comment on column hartonomous._cluster_partitions.id is 'order of the nodes';
comment on column hartonomous._cluster_partitions.name is 'name of the node';
comment on column hartonomous._cluster_partitions.connection is 'where it is';
comment on column hartonomous._cluster_partitions.partition is 'number of the partition, from 0';

create or replace function hartonomous._cluster_apply() returns void
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
declare
    have text[];
    clauses text[];
begin
    if not exists (select from pg_foreign_server where srvname = 'hartonomous') then
        -- modular_mapping lets the number of partitions be other than a power of two.
        execute (select 'create server hartonomous foreign data wrapper plproxy options (modular_mapping ''1'', '
            || string_agg(format('p%s %L', n.partition, n.connection), ', ') || ')' from hartonomous._cluster_partitions n);
        return;
    end if;
    select array_agg(split_part(o, '=', 1)) into have
    from pg_foreign_server s, unnest(s.srvoptions) o where s.srvname = 'hartonomous' and o ~ '^p[0-9]+=';
    select array_agg(clause) into clauses from (
        select format('%s p%s %L', case when 'p' || n.partition = any (have) then 'set' else 'add' end, n.partition, n.connection) as clause
        from hartonomous._cluster_partitions n
        union all
        select 'drop ' || h from unnest(have) h
        where not exists (select from hartonomous._cluster_partitions n where 'p' || n.partition = h)
    ) changes;
    execute 'alter server hartonomous options (' || array_to_string(clauses, ', ') || ')';
end
$$;
comment on function hartonomous._cluster_apply() is 'make PL/Proxy''s cluster what the table cluster_nodes says';

create or replace function hartonomous.cluster_add(
    name text, connection text, username text default null, password text default null)
returns void
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
declare
    login text[] := array_remove(array[
        format('user %L', coalesce(username, session_user)),
        case when password is not null then format('password %L', password) end], null);
    have text[];
    hosts constant text := '[\w.:-]+(,[\w.:-]+)*';
    others constant text := '(port|dbname|connect_timeout|application_name|sslmode|target_session_attrs|keepalives\w*)'
        || '\s*=\s*(''[^''\\]*''|[^\s''\\]+)';
    refused text;
begin
    lock table hartonomous.cluster_nodes in exclusive mode;
    if name is null or name = '' or connection is null or connection = '' then
        raise exception using errcode = 'invalid_parameter_value', message = 'a node needs a name and a connection string';
    end if;
    if connection ~* '\m(user|password)\s*=' then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('connection string of node %s names a user or password', left(name, 200)),
            hint = 'give them as arguments: connection strings of servers can be read by everybody';
    end if;
    if exists (select from hartonomous.cluster_nodes n where n.name = cluster_add.name) then
        raise exception using errcode = 'duplicate_object', message = format('node %s exists already', left(name, 200));
    end if;
    if not exists (select from pg_foreign_data_wrapper where fdwname = 'plproxy') then
        raise exception using errcode = 'object_not_in_prerequisite_state',
            message = 'extension plproxy is not installed in this database', hint = 'run: hartonomous cluster add, as a superuser';
    end if;
    select umoptions into have from pg_user_mappings where srvname = 'hartonomous' and usename = 'hartonomous_owner';
    -- PL/Proxy logs in everywhere with one name and password.
    if username is not null and not ('user=' || username) = any (have)
        or password is not null and not ('password=' || password) = any (have) then
        raise exception using errcode = 'invalid_parameter_value',
            message = format('node %s has another user or password than the nodes before it', left(name, 200)),
            hint = 'all nodes share one login: make the same role on each';
    end if;
    -- PL/Proxy connects as the server's own process, which sockets, files and addresses of trust let in as anybody.
    if not (select r.rolsuper from pg_roles r where r.rolname = session_user) then
        refused := case
            when coalesce(password, '') = '' then 'without a password'
            when connection !~ ('^\s*host\s*=\s*(' || hosts || '|''' || hosts || ''')(\s+' || others || ')*\s*$')
                then 'unless its connection string begins with a host that is no local socket, and port, dbname and the like follow'
            when not coalesce('password=' || password = any (have), false) and exists (
                select from pg_roles r where r.rolname = coalesce(username, session_user) and not pg_has_role(session_user, r.oid, 'member')
            ) then format('as role %s of this server, of which %s is no member', left(username, 200), session_user)
        end;
        if refused is not null then
            raise exception using errcode = 'insufficient_privilege',
                message = format('only a superuser may add node %s %s', left(name, 200), refused);
        end if;
    end if;
    insert into hartonomous.cluster_nodes (name, connection) values (name, connection);
    perform hartonomous._cluster_apply();
    if not exists (select from pg_user_mappings where srvname = 'hartonomous' and usename = 'hartonomous_owner') then
        execute 'create user mapping for hartonomous_owner server hartonomous options (' || array_to_string(login, ', ') || ')';
    end if;
end
$$;
comment on function hartonomous.cluster_add(text, text, text, text) is
    'add a server to those that cluster_generate uses; all nodes share one user and password';

create or replace function hartonomous.cluster_remove(name text) returns void
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
begin
    lock table hartonomous.cluster_nodes in exclusive mode;
    delete from hartonomous.cluster_nodes n where n.name = cluster_remove.name;
    if not found then
        raise exception using errcode = 'undefined_object', message = format('node %s does not exist', left(name, 200));
    end if;
    if exists (select from hartonomous.cluster_nodes) then
        perform hartonomous._cluster_apply();
    else
        drop server if exists hartonomous cascade;
    end if;
end
$$;
comment on function hartonomous.cluster_remove(text) is 'remove a server from those that cluster_generate uses';

create or replace view hartonomous.cluster_node_list as
select n.name, n.connection, n.added_at from hartonomous.cluster_nodes n order by n.id;
comment on view hartonomous.cluster_node_list is 'servers among which cluster_generate divides its prompts';
comment on column hartonomous.cluster_node_list.name is 'name of the node';
comment on column hartonomous.cluster_node_list.connection is 'where it is';
comment on column hartonomous.cluster_node_list.added_at is 'when it was added';

create or replace function hartonomous._cluster_alive(nodes integer[]) returns integer[]
language plpgsql volatile security definer set search_path = hartonomous, pg_temp
as $$
declare
    node integer;
    alive integer[] := '{}';
begin
    foreach node in array nodes loop
        begin
            perform hartonomous._cluster_ping(node);
            alive := alive || node;
        exception when query_canceled or admin_shutdown then
            raise;
        when others then
            raise debug 'node % does not answer: %', node, sqlerrm;
        end;
    end loop;
    return alive;
end
$$;
comment on function hartonomous._cluster_alive(integer[]) is 'those of these nodes that answer';

create or replace function hartonomous._cluster_broken(state text, message text) returns boolean
language sql immutable set search_path = hartonomous, pg_temp
as $$ select state like '08%' or state like '57P0_' or (state = 'XX000' and message like 'PL/Proxy function %') $$;
comment on function hartonomous._cluster_broken(text, text) is 'whether this error means that a connection or its server went away';

create or replace function hartonomous.cluster_generate(
    prompts text[], model text default null, options json default '{}')
returns table (ord integer, text text, done_reason text, eval_count integer, node text)
language plpgsql volatile parallel unsafe cost 1000000 rows 16 security definer set search_path = hartonomous, pg_temp
as $$
#variable_conflict use_column
declare
    share_size constant integer := 16; -- prompts that a node decodes together
    most_failures constant integer := 5;
    names text[];
    alive integer[];
    pending integer[] := array(select i from generate_subscripts(prompts, 1) i order by i);
    batch integer[];
    rounds integer;
    answers jsonb;
    failures integer := 0;
    failed_state text;
    failed_message text;
begin
    select array_agg(n.name order by n.partition), array_agg(n.partition order by n.partition) into names, alive
    from hartonomous._cluster_partitions n;
    if names is null then
        raise exception using errcode = 'object_not_in_prerequisite_state', message = 'the cluster has no nodes',
            hint = 'run: hartonomous cluster add NAME URL';
    end if;
    -- A prompt that is computed again elsewhere has to give the same text.
    options := coalesce(options, '{}');
    if options ->> 'seed' is null then
        select json_object_agg(o.key, o.value) into options from (
            select e.key, e.value from json_each(options) e where e.key <> 'seed'
            union all select 'seed', to_json(floor(random() * 2147483647)::bigint)
        ) o;
    end if;
    while cardinality(pending) > 0 loop
        rounds := ceil(cardinality(pending)::numeric / (share_size * cardinality(alive)));
        batch := pending[1:ceil(cardinality(pending)::numeric / rounds)::integer];
        begin
            -- Into a value first: rows that were returned already would not be taken back by an error.
            select jsonb_agg(to_jsonb(s) order by s.ord) into answers
            from hartonomous._cluster_share(
                array(select alive[1 + (i - 1) % cardinality(alive)] from generate_subscripts(batch, 1) i),
                batch, array(select prompts[o] from unnest(batch) with ordinality as b (o, i) order by i),
                model, options) as s;
        exception when query_canceled then
            raise;
        when others then
            answers := null;
            get stacked diagnostics failed_state = returned_sqlstate, failed_message = message_text;
        end;
        if answers is not null then
            if jsonb_array_length(answers) <> cardinality(batch) then
                raise exception using errcode = 'internal_error',
                    message = format('nodes answered %s of %s prompts', jsonb_array_length(answers), cardinality(batch));
            end if;
            return query select a.ord, a.text, a.done_reason, a.eval_count, names[a.node + 1]
                from jsonb_to_recordset(answers) as a (node integer, ord integer, text text, done_reason text, eval_count integer)
                order by a.ord;
            pending := pending[cardinality(batch) + 1:];
            continue;
        end if;
        -- The whole round is computed again: PL/Proxy gives up all of a statement when one connection breaks.
        failures := failures + 1;
        if not hartonomous._cluster_broken(failed_state, failed_message) or failures > most_failures then
            raise exception using errcode = failed_state,
                message = regexp_replace(failed_message, '^hartonomous[.]_cluster_share[^ ]* [[][^]]*[]] REMOTE [A-Z]+: ', '');
        end if;
        raise notice 'a node failed, % prompts are computed again', cardinality(batch);
        alive := hartonomous._cluster_alive(alive);
        if cardinality(alive) = 0 then
            raise exception using errcode = 'connection_failure', message = format('none of %s nodes answers', cardinality(names));
        end if;
    end loop;
end
$$;
comment on function hartonomous.cluster_generate(text[], text, json) is
    'generate for many prompts divided among the cluster''s nodes, in order; the share of a node that dies goes to another';

revoke all on function hartonomous._cluster_apply(), hartonomous.cluster_add(text, text, text, text),
    hartonomous.cluster_remove(text), hartonomous._cluster_alive(integer[]), hartonomous._cluster_broken(text, text),
    hartonomous.cluster_generate(text[], text, json) from public;
grant execute on function hartonomous.cluster_add(text, text, text, text), hartonomous.cluster_remove(text) to hartonomous_admin;
grant execute on function hartonomous.cluster_generate(text[], text, json) to hartonomous_user;
grant select on hartonomous.cluster_node_list to hartonomous_admin;
