#!/usr/bin/env bash
# Cancel and terminate running programs from another session on the cluster of PGHOST and PGPORT; prints how long each
# took to end and fails where one took longer than 400 ms (four times the figure it is meant to keep).
set -euo pipefail
bound_ms=400
database=hartonomous_v8_latency
psql -X -q -d postgres -c "drop database if exists $database" -c "create database $database" 2>/dev/null
export PGDATABASE=$database PGOPTIONS='-c client_min_messages=error'
psql -X -q -c 'create extension hartonomous_v8'
psql -X -q <<'SQL'
create function spin_wasm() returns void language plv8 as $$
  const bytes = new Uint8Array([0,97,115,109,1,0,0,0,1,4,1,96,0,0,3,2,1,0,7,8,1,4,115,112,105,110,0,0,10,9,1,7,0,3,64,12,0,11,11]);
  new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.spin();
$$;
create function spin() returns void language plv8 as $$ while (true) {} $$;
create function stringify() returns void language plv8 as $$
  const o = Array.from({ length: 1000 }, (_, i) => ({ i }));
  while (true) JSON.stringify(o);
$$;
create function statements() returns void language plv8 as $$ while (true) { try { plv8.execute('select 1') } catch (e) {} } $$;
create function recursion() returns void language plv8 as $$ const f = (n) => (n === 0 ? 0 : f(n - 1)); while (true) f(1000) $$;
create function nested() returns void language plv8 as $$ try { plv8.execute('select spin()') } catch (e) { while (true) {} } $$;
SQL
now_ms() { date +%s%3N; }
failed=0
for how in pg_cancel_backend pg_terminate_backend; do
    for program in spin spin_wasm stringify statements recursion nested; do
        PGAPPNAME=latency psql -X -q -c "select $program()" >/dev/null 2>&1 &
        running=$!
        sleep 0.5
        started=$(now_ms)
        psql -X -A -t -q -c "select $how(pid) from pg_stat_activity where application_name = 'latency'" >/dev/null
        hung=no
        for _ in $(seq 1 500); do
            kill -0 "$running" 2>/dev/null || break
            sleep 0.01
            [ "$(($(now_ms) - started))" -lt 10000 ] || { hung=yes; break; }
        done
        took=$(($(now_ms) - started))
        [ "$hung" = no ] || kill -9 "$running"
        wait "$running" 2>/dev/null || true
        printf 'latency %s of %s: %d ms\n' "$how" "$program" "$took"
        [ "$took" -le "$bound_ms" ] || failed=$((failed + 1))
    done
done
psql -X -q -d postgres -c "drop database $database with (force)"
[ "$failed" -eq 0 ]
