-- Roles belong to the cluster, so another database's install may create them at the same moment.
do $$
declare
    wanted text;
begin
    foreach wanted in array array['hartonomous_owner', 'hartonomous_user', 'hartonomous_reader', 'hartonomous_admin'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception when duplicate_object or unique_violation or internal_error then
                null;
            end;
        end if;
    end loop;
    if not pg_has_role('hartonomous_admin', 'hartonomous_user', 'member') then
        begin
            grant hartonomous_user, hartonomous_reader to hartonomous_admin;
        exception when duplicate_object or unique_violation or internal_error then
            null;
        end;
    end if;
    -- grant_usage runs as the owner, who therefore may hand the users' role on.
    if not exists (
        select from pg_auth_members
        where roleid = 'hartonomous_user'::regrole and member = 'hartonomous_owner'::regrole and admin_option
    ) then
        begin
            grant hartonomous_user, hartonomous_reader to hartonomous_owner with admin option;
        exception when duplicate_object or unique_violation or internal_error then
            null;
        end;
    end if;
end
$$;

alter schema hartonomous owner to hartonomous_owner;
comment on schema hartonomous is 'language models as rows, and the functions that run them';
revoke all on schema hartonomous from public;
grant usage on schema hartonomous to hartonomous_user, hartonomous_reader, hartonomous_admin;

set local role hartonomous_owner;
create type hartonomous.atom_kind as enum ('byte', 'token', 'tile', 'composite');
comment on type hartonomous.atom_kind is 'what a piece of content is: a byte, a text of a token, a tile of a matrix, a whole matrix';
create type hartonomous.relation_kind as enum ('merge', 'nearest');
comment on type hartonomous.relation_kind is 'edge between tokens: a BPE merge, or nearness of embeddings';
create type hartonomous.component_kind as enum ('embedding', 'position', 'head', 'attention_bias', 'ffn', 'ffn_bias', 'norm_bias');
comment on type hartonomous.component_kind is 'part of the network that writes into the residual stream';
reset role;
