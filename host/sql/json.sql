create function j(json) returns json language plv8 as $$ return $1 $$;
create function jb(jsonb) returns jsonb language plv8 as $$ return $1 $$;
select j('{"b": [1, {"c": null}], "a": "\u00e9", "__proto__": {"x": 1}}');
select jb('"text"'), jb('1.5'), jb('true'), jb('null') is null, jb('[]'), jb('{"k": {}}');
create function js_values() returns json language plv8 as $$ return { u: undefined, f() {}, d: new Date(0), n: NaN, nested: [undefined] } $$;
select js_values();
create function js_text() returns json language plv8 as $$ return 'plain' $$;
select js_text();
create function cyclic() returns json language plv8 as $$ const a = {}; a.a = a; return a $$;
select cyclic();
create function big_json() returns jsonb language plv8 as $$ return 12345678901234567890n $$;
select big_json();
-- BigInts inside jsonb are strings, as with PL/V8; JSON.stringify and json refuse them
create function big_integers() returns jsonb language plv8 as $$ return { a: 9n, b: [12345678901234567890n], c: 1 } $$;
select big_integers();
create function big_integers_json() returns json language plv8 as $$ return { a: 9n } $$;
select big_integers_json();
do $$ plv8.elog(NOTICE, 'toJSON' in BigInt.prototype); JSON.stringify({ a: 9n }) $$ language plv8;
create function circular() returns jsonb language plv8 as $$ const c = { n: 1n }; c.c = c; return c $$;
select circular();
-- a string is JSON text for json, a JSON string for jsonb
create function js_stringified() returns json language plv8 as $$ return JSON.stringify({ a: [1] }) $$;
create function jsb_stringified() returns jsonb language plv8 as $$ return JSON.stringify({ a: [1] }) $$;
select js_stringified(), jsb_stringified();
