#!/usr/bin/env bash
# Run by the image's entry point when it has made the data folder: put Hartonomous into the database.
set -euo pipefail
user=${POSTGRES_USER:-postgres}
url="postgres:///${POSTGRES_DB:-$user}?host=/var/run/postgresql&user=$user"
DATABASE_URL=$url hartonomous install
