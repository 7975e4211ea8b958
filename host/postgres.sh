# Sourced: which PostgreSQL. PG_BIN (a folder of PostgreSQL's programs), PG_CONFIG (a program) or PG_MAJOR (one of Debian's)
# name it, else it is the newest server here; cli/cluster/cluster.ts chooses alike. Sets pg_config, which is empty where
# there is no server at all, and major where Debian's packages are meant.
debian_base=/usr/lib/postgresql
major=""
pg_config=""
if [ -n "${PG_BIN:-}" ]; then
    pg_config=$PG_BIN/pg_config
elif [ -n "${PG_CONFIG:-}" ]; then
    pg_config=$(command -v "$PG_CONFIG" || printf '%s' "$PG_CONFIG") # pg_config alone is the one of PATH
else
    # A version of which only the client is installed does not count.
    major=${PG_MAJOR:-$(ls -d $debian_base/*/bin/postgres 2>/dev/null | cut -d/ -f5 | sort -rn | head -1 || true)}
    [ -z "$major" ] || pg_config=$debian_base/$major/bin/pg_config
fi
