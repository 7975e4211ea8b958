#!/usr/bin/env bash
# Install what Hartonomous needs of Debian and PostgreSQL, build the extension hartonomous_v8, install it.
# Safe to run twice; does nothing when everything is in place. Runs as root, or as a user with sudo.
# PG_CONFIG names the PostgreSQL to build for and install into, PG_MAJOR one of Debian's; the newest one otherwise.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'host: %s\n' "$*" >&2; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@" 2>/dev/null || sudo "$@"; fi; }

MAJOR=${PG_MAJOR:-}
[ -z "${PG_CONFIG:-}" ] || MAJOR=$("$PG_CONFIG" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
if [ -z "$MAJOR" ]; then
  # The newest server here; a version of which only the client is installed does not count.
  MAJOR=$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | cut -d/ -f5 | sort -rn | head -1 || true)
  MAJOR=${MAJOR:-15}
fi
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/$MAJOR/bin/pg_config}
packages="postgresql-$MAJOR postgresql-server-dev-$MAJOR libuv1 libc-ares2 libnghttp2-14 libbrotli1 libicu72 g++ gcc make ca-certificates"

missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
if [ -n "$missing" ]; then
  say "installing Debian packages:$missing"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if [ ! -e "build/root/usr/include/node/v8.h" ]; then
  # libnode beside a Node.js that is not Debian's cannot be installed, so it is unpacked.
  say "fetching V8 (Debian's libnode)"
  mkdir -p build/deb
  ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || as_root apt-get update -qq
  (cd build/deb && { apt-get download -qq libnode108 libnode-dev 2>/dev/null ||
    { as_root apt-get update -qq && apt-get download -qq libnode108 libnode-dev; }; })
  for deb in build/deb/*.deb; do dpkg -x "$deb" build/root; done
fi

stamp=$(find Makefile ./*.control ./*.sql src -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -d' ' -f1)-$MAJOR
lib=$("$PG_CONFIG" --pkglibdir)
ext=$("$PG_CONFIG" --sharedir)/extension
if [ "$(cat build/installed 2>/dev/null)" = "$stamp" ] && cmp -s build/hartonomous_v8.so "$lib/hartonomous_v8.so" &&
  [ -e "$lib/hartonomous_v8/libnode.so.108" ] && cmp -s hartonomous_v8--0.1.sql "$ext/hartonomous_v8--0.1.sql"; then
  exit 0
fi
say "building hartonomous_v8 for PostgreSQL $MAJOR"
make -s -j2 PG_CONFIG="$PG_CONFIG"
say "installing hartonomous_v8 into $lib"
as_root make -s install PG_CONFIG="$PG_CONFIG"
echo "$stamp" >build/installed
