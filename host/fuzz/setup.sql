-- What the random programs use: a generator of program texts, a table, types, a function that calls back into SQL.
create table fuzz_rows (i int, t text, j jsonb, b bytea);
insert into fuzz_rows select i, 't' || i, jsonb_build_object('i', i), decode(repeat('ab', i * 100), 'hex') from generate_series(1, 50) i;
create type fuzz_mood as enum ('sad', 'ok');
create type fuzz_pair as (x int, y text);
create domain fuzz_small as int check (value < 100);
create function fuzz_again(n int) returns int language plv8 as $$
  return n <= 0 ? 0 : plv8.execute('select fuzz_again($1) as r', [n - 1])[0].r + 1;
$$;
create function fuzz_program(seed int) returns text language plv8 as $$
  let state = seed * 2654435761 >>> 0 || 1;
  const random = (n) => { state ^= state << 13; state >>>= 0; state ^= state >>> 17; state ^= state << 5; state >>>= 0; return state % n };
  const pick = (list) => list[random(list.length)];
  const types = ['int', 'bigint', 'text', 'jsonb', 'json', 'bytea', 'numeric', 'float8', 'bool', 'date', 'timestamptz', 'int[]', 'text[]', 'fuzz_pair',
    'fuzz_pair[]', 'fuzz_mood', 'fuzz_small', 'uuid', 'int4range', 'interval', 'plv8_int4array', 'record', 'smallint', 'oid', 'real[]', 'xml', 'name', 'char(3)'];
  const value = (depth) => pick([
    () => String(random(1000) - 500), () => 'null', () => 'undefined', () => `${random(1e6)}n`, () => '1e308*10', () => 'NaN', () => 'true',
    () => JSON.stringify('s' + random(100)), () => `'\\u0000x'`, () => `'\\ud800'`, () => `new Date(${random(1e9)} * 1000)`, () => 'new Date(NaN)',
    () => `new Uint8Array(${random(5000)})`, () => `new Int32Array([1,2,${random(9)}])`, () => `new ArrayBuffer(${random(100)})`, () => 'Symbol("s")',
    () => '(() => 1)', () => '/re/g', () => 'new Proxy({}, { get() { throw new Error("trap") } })', () => '({ get x() { throw 1 }, y: 2 })',
    () => '({ toString() { throw new Error("ts") } })', () => '({ toJSON() { return undefined } })', () => '(function () { const c = {}; c.c = c; return c })()',
    () => depth > 2 ? '[]' : `[${value(depth + 1)}, ${value(depth + 1)}]`, () => depth > 2 ? '{}' : `({ x: ${value(depth + 1)}, y: ${value(depth + 1)} })`,
    () => '"x".repeat(' + random(100000) + ')', () => 'globalThis', () => 'plv8', () => `new Map([[1, 2]])`, () => 'new Array(1000)',
  ])();
  const sql = () => pick([
    'select * from fuzz_rows', 'select i, j, b from fuzz_rows where i < 5', 'select 1 / 0', 'selec', 'select pg_sleep(0.001)', 'insert into fuzz_rows (i) values (0)',
    'delete from fuzz_rows where i = 0', 'select fuzz_again(' + random(30) + ')', 'select array[1,2], null, row(1, 2)', 'commit', 'savepoint s', 'set local work_mem = 100',
    'select plv8_reset()', 'drop table if exists fuzz_none', 'create temp table if not exists fuzz_temp (a int)', 'show all', 'explain select 1', '', ';;', 'select 1; select 2',
  ]);
  const statement = (depth) => pick([
    () => `plv8.execute(${JSON.stringify(sql())});`,
    () => `plv8.execute('select $1::${pick(types)} as v, $2 as w', [${value(0)}, ${value(0)}]);`,
    () => `plv8.execute(${value(1)}, ${value(1)});`,
    () => `{ const p = plv8.prepare(${JSON.stringify(sql())}); globalThis.plan = p; p.execute(); ${pick(['p.free();', '', 'p.free(); p.execute();'])} }`,
    () => `{ const p = plv8.prepare('select $1::${pick(types)} as v', ['${pick(types)}']); p.execute([${value(0)}]); p.cursor([${value(0)}]).fetch(${value(3)}); }`,
    () => `{ const c = plv8.prepare(${JSON.stringify(sql())}).cursor(); globalThis.cursor = c; c.fetch(${random(20) - 5}); c.move(${random(9) - 4}); c.fetch(); ${pick(['c.close();', '', 'c.close(); c.fetch();'])} }`,
    () => `globalThis.plan && plan.execute.call(globalThis.${pick(['cursor', 'plan', 'plv8'])});`,
    () => `globalThis.cursor && cursor.fetch.call(${pick(['plan', 'cursor', 'null', '{}'])});`,
    () => depth > 3 ? '' : `plv8.subtransaction(() => { ${program(depth + 1)} });`,
    () => depth > 3 ? '' : `try { ${program(depth + 1)} } catch (e) { ${pick(['', 'plv8.execute("select 1");', 'throw e;', 'String(e);'])} }`,
    () => depth > 3 ? '' : `for (let i = 0; i < ${random(5)}; i++) { ${program(depth + 1)} }`,
    () => `plv8.elog(${pick(['DEBUG1', 'DEBUG5', 'ERROR', '99', '-1', value(3)])}, ${value(0)});`,
    () => `plv8.return_next(${value(0)});`, () => `JSON.stringify(${value(0)});`, () => `throw ${value(0)};`,
    () => `plv8.find_function(${pick(["'fuzz_again'", "'fuzz_again(int)'", "'now()'", "'none'", value(2)])})${pick(['', '(3)', ''])};`,
    () => `plv8.quote_literal(${value(1)}); plv8.quote_ident(${value(1)});`, () => 'plv8.commit();', () => 'plv8.rollback();', () => 'plv8.get_window_object();',
    () => 'new WebAssembly.Memory({ initial: 1 }).grow(' + random(70000) + ');', () => '(function f() { f() })();', () => 'while (true) {}',
    () => 'globalThis.kept = (globalThis.kept || []).slice(-3).concat([new Array(1000).fill(' + value(2) + ')]);', () => 'Promise.resolve().then(() => { throw 1 });',
    () => `eval(${JSON.stringify(value(1))});`, () => 'Object.prototype.x = 1; delete Object.prototype.x;', () => `plv8.run_script(${value(1)}, ${value(1)});`,
  ])();
  const program = (depth) => Array.from({ length: 1 + random(3) }, () => statement(depth)).join(' ');
  const type = pick(types);
  const body = `${program(0)} return ${value(0)};`;
  const form = random(6);
  if (form === 0) return `do $fuzz$ ${body} $fuzz$ language plv8`;
  if (form === 1) return `create or replace procedure fuzz_p() language plv8 as $fuzz$ ${body} $fuzz$; call fuzz_p()`;
  const set = form === 2 ? 'setof ' : '';
  const argument = pick(types.filter((t) => t !== 'record'));
  const literal = pick(["null", "(select null)", "'1'", "'{}'", "'[1,2]'", "'(1,a)'", "'2020-01-01'", "'\\x00'", "'ok'"]);
  return `drop function if exists fuzz_f; create function fuzz_f(a ${argument} default null) returns ${set}${type} language plv8 as $fuzz$ ${body} $fuzz$; ` +
    `select ${pick(['fuzz_f()', `fuzz_f(${literal})`])}${set && random(2) ? '' : ' from generate_series(1, 3)'}`;
$$;
