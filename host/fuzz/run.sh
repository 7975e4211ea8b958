#!/usr/bin/env bash
# Run random programs against the cluster of PGHOST and PGPORT for SECONDS, from SEED on; fails when a backend crashes.
# Usage: fuzz/run.sh SECONDS [SEED]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=$1
seed=${2:-1}
database=hartonomous_v8_fuzz
psql -X -q -d postgres -c "drop database if exists $database" -c "create database $database" 2>/dev/null
psql -X -q -d "$database" -c 'create extension hartonomous_v8' -f "$here/setup.sql"
started=$(psql -X -A -t -d "$database" -c 'select pg_postmaster_start_time()')
end=$(($(date +%s) + seconds))
batches=0
programs=0
while [ "$(date +%s)" -lt "$end" ]; do
    # One session per batch; its errors are what the programs are for. A FATAL ends the batch, a crash all of them.
    psql -X -A -t -d "$database" -v seed="$seed" -f "$here/batch.sql" >"${TMPDIR:-/tmp}/fuzz.$$" 2>&1 || true
    programs=$((programs + $(grep -c '^ERROR\|ERROR:\|^done' "${TMPDIR:-/tmp}/fuzz.$$" || true)))
    batches=$((batches + 1))
    if ! psql -X -A -t -d "$database" -c 'select 1' >/dev/null 2>&1; then
        sleep 2
        printf 'fuzz: the server restarted after seed %s\n' "$seed"
        tail -5 "${TMPDIR:-/tmp}/fuzz.$$"
        rm -f "${TMPDIR:-/tmp}/fuzz.$$"
        exit 1
    fi
    if grep -q 'server closed the connection\|crash of another' "${TMPDIR:-/tmp}/fuzz.$$" &&
        ! grep -q FATAL "${TMPDIR:-/tmp}/fuzz.$$"; then
        printf 'fuzz: the backend crashed in seed %s\n' "$seed"
        tail -5 "${TMPDIR:-/tmp}/fuzz.$$"
        rm -f "${TMPDIR:-/tmp}/fuzz.$$"
        exit 1
    fi
    seed=$((seed + 1))
done
rm -f "${TMPDIR:-/tmp}/fuzz.$$"
[ "$started" = "$(psql -X -A -t -d "$database" -c 'select pg_postmaster_start_time()')" ]
psql -X -q -d postgres -c "drop database $database"
printf 'fuzz: %s sessions, %s programs, no crash\n' "$batches" "$programs"
[ "$programs" -gt 0 ]
