-- Forty programs of one seed in one session, each under a short timeout.
set client_min_messages = error;
set statement_timeout = '150ms';
select fuzz_program(s) from generate_series(:seed * 40, :seed * 40 + 39) s \gexec
select 'done';
