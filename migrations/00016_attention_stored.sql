set local role hartonomous_owner;
-- Whether attention is stored is what connections say; nobody has ever read this copy of it.
alter table hartonomous.explained_tokens drop column attention_stored;
reset role;
