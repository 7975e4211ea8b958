set local role hartonomous_owner;
create table hartonomous.cluster_nodes (
    id bigint generated always as identity primary key,
    name text not null unique check (name <> ''),
    connection text not null,
    added_at timestamptz not null default now()
);
comment on table hartonomous.cluster_nodes is 'servers among which cluster_generate divides its prompts';
comment on column hartonomous.cluster_nodes.id is 'order of the nodes; the first is partition 0 of PL/Proxy';
comment on column hartonomous.cluster_nodes.name is 'name of the node';
comment on column hartonomous.cluster_nodes.connection is 'libpq connection string without user and password';
comment on column hartonomous.cluster_nodes.added_at is 'when it was added';
reset role;
