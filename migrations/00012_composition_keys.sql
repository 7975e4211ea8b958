set local role hartonomous_owner;
-- A partition of compositions holds one kind of parents, so its key does without the kind: a third less for a million
-- bytes of tokens. Rows of a parent are written once and in order, so pages are filled.
alter table hartonomous.compositions drop constraint compositions_pkey;
alter table hartonomous.compositions_token add primary key (parent_id, ordinal) with (fillfactor = 100);
alter table hartonomous.compositions_composite add primary key (parent_id, ordinal);
alter index hartonomous.tokens_pkey set (fillfactor = 100);
alter index hartonomous.token_embeddings_pkey set (fillfactor = 100);
reset role;
