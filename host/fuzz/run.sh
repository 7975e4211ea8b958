#!/usr/bin/env bash
# Run random programs against the cluster of PGHOST and PGPORT for SECONDS, from SEED on; fails when a backend crashes or LANGUAGE plv8 cannot be had.
# Usage: fuzz/run.sh SECONDS [SEED]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=$1
seed=${2:-1}
database=hartonomous_v8_fuzz
psql -X -q -v ON_ERROR_STOP=1 -d postgres -c "drop database if exists $database" -c "create database $database" 2>/dev/null
psql -X -q -v ON_ERROR_STOP=1 -d "$database" -c 'create extension hartonomous_v8' -f "$here/setup.sql"
# A crash of any backend empties an unlogged table, however soon the server is back.
psql -X -q -d "$database" -c 'create unlogged table no_crash as select 1'
alive() { [ "$(psql -X -A -t -d "$database" -c 'select count(*) from no_crash' 2>/dev/null)" = 1 ]; }
end=$(($(date +%s) + seconds))
batches=0
programs=0
while [ "$(date +%s)" -lt "$end" ]; do
    # One session per batch; its errors are what the programs are for. A FATAL ends the batch, a crash all of them.
    psql -X -A -t -d "$database" -v seed="$seed" -f "$here/batch.sql" >"${TMPDIR:-/tmp}/fuzz.$$" 2>&1 || true
    programs=$((programs + $(grep -c '^ERROR\|ERROR:\|^done' "${TMPDIR:-/tmp}/fuzz.$$" || true)))
    batches=$((batches + 1))
    if ! alive; then
        printf 'fuzz: the server restarted after seed %s\n' "$seed"
        tail -5 "${TMPDIR:-/tmp}/fuzz.$$"
        rm -f "${TMPDIR:-/tmp}/fuzz.$$"
        exit 1
    fi
    seed=$((seed + 1))
done
rm -f "${TMPDIR:-/tmp}/fuzz.$$"
psql -X -q -v ON_ERROR_STOP=1 -d postgres -c "drop database $database"
printf 'fuzz: %s sessions, %s programs, no crash\n' "$batches" "$programs"
[ "$programs" -gt 0 ]
