#!/usr/bin/env bash
# From pg_regress's output on standard input: `PASSED FAILED`, where EXPECTED topics were to run. A topic without a line
# of success has failed. PostgreSQL 15 writes `test NAME ... ok`, newer ones TAP: `ok 1 - NAME`.
# Usage: count-topics.sh EXPECTED <LOG
set -euo pipefail
expected=$1
passed=$(grep -cE '^(test .* \.\.\. ok |ok [0-9]+ +[-+] )' || true)
printf '%d %d\n' "$passed" $((expected - passed))
