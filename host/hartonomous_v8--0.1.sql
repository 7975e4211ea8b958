\echo Use "create extension hartonomous_v8" to load this file. \quit

create function plv8_call_handler() returns language_handler
    as 'MODULE_PATHNAME', 'hartonomous_v8_call_handler' language c;
create function plv8_inline_handler(internal) returns void
    as 'MODULE_PATHNAME', 'hartonomous_v8_inline_handler' language c;
create function plv8_call_validator(oid) returns void
    as 'MODULE_PATHNAME', 'hartonomous_v8_validator' language c;

create trusted language plv8
    handler plv8_call_handler inline plv8_inline_handler validator plv8_call_validator;
-- Trusted, yet not for everybody: JavaScript takes memory and time that no grant of SQL bounds.
revoke usage on language plv8 from public;
comment on language plv8 is 'JavaScript and WebAssembly on V8, hosted by hartonomous_v8';

create function plv8_version() returns text
    as 'MODULE_PATHNAME' language c immutable strict parallel safe;
comment on function plv8_version() is 'version of the PL/V8 interface that LANGUAGE plv8 offers';
create function plv8_reset() returns void
    as 'MODULE_PATHNAME' language c volatile;
comment on function plv8_reset() is 'drop this backend''s isolates; the next call makes fresh ones';
create function plv8_info() returns json
    as 'MODULE_PATHNAME' language c volatile;
comment on function plv8_info() is 'memory of each isolate of this backend';

revoke all on function plv8_info() from public;

create function hartonomous_v8_inner_product(bytea, bytea) returns double precision
    as 'MODULE_PATHNAME' language c immutable strict parallel safe cost 10;
comment on function hartonomous_v8_inner_product(bytea, bytea) is
    'inner product of two vectors of floats, the least significant byte of each first';

create domain plv8_int2array as smallint[];
comment on domain plv8_int2array is 'arrives in JavaScript as Int16Array';

create domain plv8_int4array as integer[];
comment on domain plv8_int4array is 'arrives in JavaScript as Int32Array';

create domain plv8_int8array as bigint[];
comment on domain plv8_int8array is 'arrives in JavaScript as BigInt64Array';

create domain plv8_float4array as real[];
comment on domain plv8_float4array is 'arrives in JavaScript as Float32Array';

create domain plv8_float8array as double precision[];
comment on domain plv8_float8array is 'arrives in JavaScript as Float64Array';
