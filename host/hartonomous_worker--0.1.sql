\echo Use "create extension hartonomous_worker" to load this file. \quit

create function hartonomous_worker_start() returns integer
language c volatile strict parallel unsafe cost 10000
as 'MODULE_PATHNAME', 'hartonomous_worker_start';
comment on function hartonomous_worker_start() is
    'start the background worker of searches, which ends with the server or by pg_terminate_backend; its process id';
revoke all on function hartonomous_worker_start() from public;
