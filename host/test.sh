#!/usr/bin/env bash
# Run the host's whole test set against a temporary cluster of its own: regression topics, latency of cancels, then the
# random program generator (FUZZ_SECONDS, 60 unless told; 0 leaves it out); or only the regression topics that are named.
# Ends with `N passed, N failed`. postgres.sh says which PostgreSQL; ASAN=1 builds and tests with the address sanitizer,
# into the PostgreSQL that PG_CONFIG must name then.
# Usage: host/test.sh [TOPIC ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -n "${ASAN:-}" ]; then
    make -s -j2 ASAN=1 install PG_CONFIG="${PG_CONFIG:?ASAN=1 needs a PG_CONFIG of its own}"
    # V8 handles the SIGSEGV of WebAssembly traps, and the sanitizer must leave it alone; backends leave without
    # freeing what the process takes with it. A small quarantine, for the test of memory.
    export ASAN_OPTIONS=handle_segv=0:detect_leaks=0:abort_on_error=1:detect_odr_violation=0:quarantine_size_mb=8
else
    ./setup.sh
fi

. ./postgres.sh
bin=$("$pg_config" --bindir)
export PATH=$bin:$PATH
topics=("$@")
if [ $# -eq 0 ]; then for file in sql/*.sql; do topics+=("$(basename "$file" .sql)"); done; fi
work=$(mktemp -d "${TMPDIR:-/tmp}/hartonomous-v8-test.XXXXXX")
chmod 755 "$work"
cp -r Makefile sql expected fuzz "$work"/
export PGHOST=$work PGPORT=${HOST_TEST_PORT:-58432} PGUSER=postgres PGDATABASE=postgres

# PostgreSQL refuses to run as root.
as_server() { "$@"; }
if [ "$(id -u)" -eq 0 ]; then
    chown -R postgres "$work"
    as_server() { runuser -u postgres -- "$@"; }
fi
stop() {
    as_server "$bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap stop EXIT

as_server "$bin/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
start=("$bin/pg_ctl" -D "$work/data" -w -l "$work/log")
if [ -n "${ASAN:-}" ]; then
    # The sanitizer starts inside a library's bindtextdomain, looks for this symbol and, where it is missing, translates
    # dlerror's message under the lock that bindtextdomain holds. So the symbol is there.
    printf 'char *swift_demangle(void) { return 0; }' | gcc -x c -shared -fPIC -o "$work/preload.so" -
    start=(env LD_PRELOAD="$(gcc -print-file-name=libasan.so) $work/preload.so" "${start[@]}")
fi
as_server "${start[@]}" \
    -o "-k $work -p $PGPORT -c listen_addresses='' -c fsync=off" start >/dev/null

finish() {
    if grep -nE 'terminated by signal|PANIC|AddressSanitizer' "$work/log"; then
        printf 'a backend crashed\n'
        failed=$((failed + 1))
    fi
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

regress=ended
(cd "$work" && as_server make -s installcheck REGRESS="${topics[*]}" PG_CONFIG="$bin/pg_config" >"$work/regress.log" 2>&1) ||
    regress=failed
grep -E '^(test |ok |not ok )' "$work/regress.log" || cat "$work/regress.log"
read -r passed failed < <(./count-topics.sh "${#topics[@]}" <"$work/regress.log")
# Whatever the lines say: pg_regress itself must agree that all went well.
if [ "$regress" = failed ] && [ "$failed" -eq 0 ]; then failed=1; fi
if [ "$failed" -gt 0 ]; then
    cat "$work/build/regress/regression.diffs" || cat "$work/regress.log"
fi
if [ $# -gt 0 ]; then
    finish
    exit
fi

"$bin/psql" -X -A -t -d hartonomous_v8_regression -c \
    "select 'memory: ' || string_agg(mb || ' MB ' || phase, ', ' order by phase desc) from measured" || true

if node test-latency.mjs; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
fi

seconds=${FUZZ_SECONDS:-60}
if [ "$seconds" -gt 0 ]; then
    if bash "$work/fuzz/run.sh" "$seconds" "${FUZZ_SEED:-1}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
fi
finish
