\set VERBOSITY terse
create function late() returns text language plv8 as $$ return 'healthy' $$;
set statement_timeout = '200ms';
do $$ while (true) {} $$ language plv8;
select late();
do $$ while (true) { try { while (true) {} } catch (e) {} finally { plv8.elog(NOTICE, 'not reached') } } $$ language plv8;
do $$ plv8.execute('select pg_sleep(20)') $$ language plv8;
do $$ try { plv8.execute('select pg_sleep(20)') } catch (e) { plv8.elog(NOTICE, 'not reached') } $$ language plv8;
do $$ while (true) { try { plv8.execute('select 1') } catch (e) {} } $$ language plv8;
do $$ const o = Array.from({ length: 1000 }, (_, i) => ({ i })); while (true) JSON.stringify(o) $$ language plv8;
do $$ function f(n) { return n === 0 ? 0 : f(n - 1) } while (true) f(1000) $$ language plv8;
do $$ /(a+)+b/.test('a'.repeat(60)) $$ language plv8;
do $$
  const bytes = new Uint8Array([0,97,115,109,1,0,0,0,1,4,1,96,0,0,3,2,1,0,7,8,1,4,115,112,105,110,0,0,10,9,1,7,0,3,64,12,0,11,11]);
  new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.spin();
$$ language plv8;
create function inner_loop() returns void language plv8 as $$ while (true) {} $$;
do $$ try { plv8.execute('select inner_loop()') } catch (e) { plv8.elog(NOTICE, 'not reached') } $$ language plv8;
select late();
-- without the host's help a poll through SPI notices
set hartonomous_v8.interrupts = off;
do $$ const poll = plv8.prepare('select 1'); while (true) poll.execute() $$ language plv8;
do $$ try { plv8.execute('select pg_sleep(20)') } catch (e) { plv8.elog(NOTICE, e.sqlerrcode) } $$ language plv8;
reset hartonomous_v8.interrupts;
reset statement_timeout;
select late();
-- a limit of PL/V8's own, for one call from outside
set plv8.execution_timeout = 1;
do $$ while (true) {} $$ language plv8;
do $$ try { while (true) plv8.execute('select 1') } catch (e) { plv8.elog(NOTICE, 'not reached') } $$ language plv8;
select late();
reset plv8.execution_timeout;
-- what looks for no interrupt is ended as well: products of large numbers
set statement_timeout = 300;
do $$ let n = 3n ** 100000n; for (;;) n *= n; $$ language plv8;
reset statement_timeout;
-- the setting is the superuser's
create role host_test_patient;
set session authorization host_test_patient;
set hartonomous_v8.interrupts = off;
reset session authorization;
drop role host_test_patient;
