set local role hartonomous_owner;
-- What create_search made, for whom. Everything else of a search belongs to its owner and stands in a schema of the owner's choice.
create table hartonomous.searches (
    id bigint generated always as identity primary key,
    owner regrole not null,
    search regclass not null,
    source regclass not null,
    texts regclass not null,
    chunks regclass not null,
    queue regclass not null,
    model text not null,
    digest text not null,
    has_prefixes boolean not null,
    next_chunks regclass,
    next_model text,
    next_digest text,
    next_has_prefixes boolean,
    next_until bigint,
    options jsonb not null,
    created_at timestamptz not null default now(),
    worked_at timestamptz,
    rows_done bigint not null default 0,
    busy_seconds double precision not null default 0,
    failures integer not null default 0,
    error text,
    paused_until timestamptz not null default '-infinity',
    unique (owner, search)
);
comment on table hartonomous.searches is 'searches over tables of their owners';
comment on column hartonomous.searches.id is 'number of the search';
comment on column hartonomous.searches.owner is 'role that made it';
comment on column hartonomous.searches.search is 'the view that is its name';
comment on column hartonomous.searches.source is 'table that is searched';
comment on column hartonomous.searches.texts is 'view of the keys and texts of that table';
comment on column hartonomous.searches.chunks is 'table of chunks and their embeddings';
comment on column hartonomous.searches.queue is 'table of the keys whose rows have changed';
comment on column hartonomous.searches.model is 'model that made the embeddings';
comment on column hartonomous.searches.digest is 'SHA-256 of its file then';
comment on column hartonomous.searches.has_prefixes is 'whether the model says what goes before queries and documents';
comment on column hartonomous.searches.next_chunks is 'table of chunks that another model is making; null where none is';
comment on column hartonomous.searches.next_model is 'that model';
comment on column hartonomous.searches.next_digest is 'SHA-256 of its file';
comment on column hartonomous.searches.next_has_prefixes is 'whether that model says what goes before queries and documents';
comment on column hartonomous.searches.next_until is 'last entry of the queue that it must have done to take over';
comment on column hartonomous.searches.options is 'options of create_search with all defaults';
comment on column hartonomous.searches.created_at is 'when it was made';
comment on column hartonomous.searches.worked_at is 'when a batch was last done';
comment on column hartonomous.searches.rows_done is 'entries of the queue that were worked off';
comment on column hartonomous.searches.busy_seconds is 'seconds that this took';
comment on column hartonomous.searches.failures is 'batches that failed one after the other for a reason not in their rows';
comment on column hartonomous.searches.error is 'why the last one did';
comment on column hartonomous.searches.paused_until is 'when work goes on after such a failure';

create type hartonomous._chunk as (item bigint, number integer, "from" integer, "to" integer, text text, embedding text, error text);
comment on type hartonomous._chunk is 'a chunk on its way: the entry of the queue whose row it is of, and its embedding or why there is none';
reset role;
