set local role hartonomous_owner;
-- Statements are made with it, also in sessions of others who search: an owner may change the rows of his searches.
alter table hartonomous.searches add constraint searches_vector_check
    check (options ->> 'vector' is not null and options ->> 'vector' in ('bytea', 'vector', 'halfvec'));
reset role;
