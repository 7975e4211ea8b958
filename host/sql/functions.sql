-- arguments by name, by number, variadic, default, in and out
create function add_text(a int, b text) returns text language plv8 as $$ return a + b $$;
select add_text(1, 'x');
create function by_number(int, text) returns text language plv8 as $$ return $2 + $1 + arguments.length $$;
select by_number(7, 'n');
create function glue(variadic parts text[]) returns text language plv8 as $$ return parts.join('-') $$;
select glue('a', 'b', null, 'c');
create function defaulted(a int, b int default 5) returns int language plv8 as $$ return a * b $$;
select defaulted(2), defaulted(2, 3), defaulted(b => 4, a => 1);
create function one_out(a int, out b text) language plv8 as $$ return 'out' + a $$;
select one_out(3);
create function two_out(a int, out b int, out c text) language plv8 as $$ return { b: a + 1, c: 'c' + a } $$;
select * from two_out(3);
create function in_out(inout a int) language plv8 as $$ return a + 1 $$;
select in_out(3);
create function quoted("a b" int, "class" int default 1) returns int language plv8 as $$ return $1 $$;
select quoted(9);
-- polymorphic
create function first_of(anyarray) returns anyelement language plv8 as $$ return $1[0] $$;
select first_of(array[3, 4]), first_of(array['p', 'q']);
create function same(anyelement) returns anyelement language plv8 as $$ return $1 $$;
select same(1), same('t'::text), same(true), same(1.5::float8);
-- null, void, strict
create function nothing() returns void language plv8 as $$ $$;
select nothing() is null;
create function undefined_is_null() returns int language plv8 as $$ return undefined $$;
select undefined_is_null() is null;
create function strict_one(a int) returns text language plv8 strict as $$ return typeof a $$;
select strict_one(null) is null, strict_one(1);
-- replaced, dropped and made again
create or replace function add_text(a int, b text) returns text language plv8 as $$ return 'second ' + a $$;
select add_text(1, 'x');
begin;
create or replace function add_text(a int, b text) returns text language plv8 as $$ return 'third' $$;
select add_text(1, 'x');
rollback;
select add_text(1, 'x');
drop function add_text(int, text);
create function add_text(a int, b text) returns text language plv8 as $$ return 'fourth' $$;
select add_text(1, 'x');
discard all;
select add_text(1, 'x');
-- the global object lives as long as the session
do $$ globalThis.counter = 1 $$ language plv8;
do $$ globalThis.counter++; plv8.elog(NOTICE, counter) $$ language plv8;
-- the validator
create function broken() returns int language plv8 as $$ return ( $$;
create function escape() returns int language plv8 as $$ } , function () { $$;
create function returns_cstring() returns cstring language plv8 as $$ return 'x' $$;
set check_function_bodies = off;
create function broken() returns int language plv8 as $$ return ( $$;
select broken();
-- sources a trusted language has not
do $$ plv8.elog(NOTICE, [typeof require, typeof process, typeof fetch, typeof setTimeout, typeof console, typeof TextEncoder].join(' ')) $$ language plv8;
