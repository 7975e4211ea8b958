create function back(anyarray) returns anyarray language plv8 as $$ return $1 $$;
select back(array[1, null, 3]), back(array['a', 'b c']), back(array[]::int[]), back(array[[1, 2], [3, 4]]), back(array[true, false]);
create function shape(anyarray) returns text language plv8 as $$ return JSON.stringify($1) $$;
select shape(array[[1, 2], [3, 4]]), shape('{}'::int[]), shape(array['x', null]), shape(array['{"a":1}'::json]);
create function three() returns int[] language plv8 as $$ return [[[1], [2]], [[3], [4]]] $$;
select three();
create function ragged() returns int[] language plv8 as $$ return [[1, 2], [3]] $$;
select ragged();
create function no_array() returns int[] language plv8 as $$ return 1 $$;
select no_array();
create function deep() returns int[] language plv8 as $$ return [[[[[[[1]]]]]]] $$;
select deep();
create function jsons() returns json[] language plv8 as $$ return [{ a: 1 }, [1, 2]] $$;
select jsons();
-- typed arrays
create function kind(a plv8_int4array) returns text language plv8 as $$ return a.constructor.name + a.length $$;
select kind(array[1, 2, 3]), kind('{}');
select kind(array[1, null]);
select kind(array[[1], [2]]);
create function doubled(a plv8_float8array) returns plv8_float8array language plv8 as $$ for (let i = 0; i < a.length; i++) a[i] *= 2; return a $$;
select doubled(array[1.5, 2.5]);
create function sums(a plv8_int2array, b plv8_float4array, c plv8_int8array) returns text language plv8 as $$
  return [a, b, c].map((x) => x.constructor.name + ':' + Array.from(x).join('+')).join(' ');
$$;
select sums(array[1, 2]::int2[], array[0.5, 0.25]::float4[], array[1, 9223372036854775807]);
create function floats() returns real[] language plv8 as $$ return new Float32Array([1.5, 2.5]) $$;
select floats();
