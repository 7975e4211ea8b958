#!/usr/bin/env bash
# Bring the private database of `hartonomous up` to another major version of PostgreSQL: from the one whose programs are in
# OLD_BIN to the one that postgres.sh chooses, for which setup.sh has built the extension. The data of before stay, as data.OLD.
# Usage: host/upgrade.sh OLD_BIN        for example /usr/lib/postgresql/15/bin
# Whatever it refuses and wherever it fails, the data of before are still those of `data`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./postgres.sh
old_bin=${1:?usage: host/upgrade.sh OLD_BIN}
new_bin=$("$pg_config" --bindir)
home=/var/lib/hartonomous
[ "$(id -u)" = 0 ] || home=${XDG_DATA_HOME:-$HOME/.local/share}/hartonomous
home=${HARTONOMOUS_HOME:-$home} # as clusterHome() of cli/cluster/cluster.ts
refuse() { printf '%s\n' "$@" >&2; exit 1; }
version_of() { { "$1/postgres" --version 2>/dev/null || true; } | sed -n 's/^[^0-9]*\([0-9]*\).*/\1/p'; }

[ -e "$home/data/PG_VERSION" ] || refuse "there is no private database in $home"
old=$(cat "$home/data/PG_VERSION")
old_version=$(version_of "$old_bin")
[ "$old_version" = "$old" ] ||
    refuse "PostgreSQL $old made the data in $home, and in $old_bin is ${old_version:-no server}"
[ "$(version_of "$new_bin")" -gt "$old" ] ||
    refuse "PostgreSQL $old made the data in $home, and $new_bin is no newer one: PG_MAJOR, PG_BIN or PG_CONFIG name it"
[ ! -e "$home/data.$old" ] || refuse "$home/data.$old is there, of an earlier upgrade: move it away"

as_server() { env LC_ALL=C.UTF-8 "$@"; }
[ "$(id -u)" != 0 ] || as_server() { runuser -u postgres -- env LC_ALL=C.UTF-8 "$@"; }

if as_server "$old_bin/pg_ctl" -D "$home/data" status >/dev/null; then
    refuse 'the server runs; stop it: hartonomous down'
fi
# From 18 on initdb makes checksums unless told, and both sides have to be alike.
checksums=""
if as_server "$old_bin/pg_controldata" "$home/data" | grep -q '^Data page checksum version: *[1-9]'; then checksums=--data-checksums
elif "$new_bin/initdb" --help | grep -q -- --no-data-checksums; then checksums=--no-data-checksums; fi
# What `up` takes from PUBLIC of PostgreSQL's own functions, the next `up` takes again; a newer PostgreSQL has others.
rights="do \$\$ declare f regprocedure; begin \
for f in select oid from pg_proc where pronamespace = 'pg_catalog'::regnamespace and proacl::text like '%local=%' loop \
execute format('grant execute on function %s to public', f); \
execute format('revoke execute on function %s from local, hartonomous_owner', f); end loop; end \$\$"
said=$(as_server "$old_bin/postgres" --single -D "$home/data" hartonomous <<<"$rights" 2>&1) || refuse "$said"
case $said in *ERROR:*) refuse "$said" ;; esac
rm -rf "$home/data.part"
as_server "$new_bin/initdb" -D "$home/data.part" -U postgres --pwfile "$home/password" -A scram-sha-256 -E UTF8 --locale C.UTF-8 $checksums >/dev/null
work=$(mktemp -d)
[ "$(id -u)" != 0 ] || chown postgres "$work"
trap 'rm -rf "$work"' EXIT
# In the environment, and not among the arguments, which other users see.
(cd "$work" && PGPASSWORD=$(cat "$home/password") as_server "$new_bin/pg_upgrade" \
    -b "$old_bin" -B "$new_bin" -d "$home/data" -D "$home/data.part" -U postgres)
cp -p "$home/data/postgresql.auto.conf" "$home/data.part/"
mv "$home/data" "$home/data.$old"
mv "$home/data.part" "$home/data"
printf 'now PostgreSQL %s; the data of before are in %s\n' "$(cat "$home/data/PG_VERSION")" "$home/data.$old"
