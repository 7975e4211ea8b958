#!/usr/bin/env bash
# Install what Hartonomous needs of Debian and PostgreSQL, build the extensions hartonomous_v8 and hartonomous_worker, install them.
# Safe to run twice; does nothing when everything is in place. Runs as root, or as a user with sudo; exits with 3 where
# only an administrator can go on, and says how. postgres.sh says which PostgreSQL it builds for and installs into; where
# there is none it installs the release's.
set -euo pipefail
cd "$(dirname "$0")"
export LC_ALL=C.UTF-8

say() { printf 'host: %s\n' "$*" >&2; }

# Leave, with the one command that an administrator has to run.
needs_root() {
    local name settings=""
    for name in PG_CONFIG PG_BIN PG_MAJOR; do
        [ -z "${!name:-}" ] || settings="$settings$name=$(printf %q "${!name}") "
    done
    say "this needs root, once: an administrator has to run"
    say "    ${settings}bash $(printf %q "$PWD/setup.sh")"
    exit 3
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif ! command -v sudo >/dev/null; then needs_root
    elif sudo -n true 2>/dev/null; then sudo -n "$@"
    elif [ -t 0 ] && sudo -v; then sudo "$@"
    else needs_root; fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"; }

# Lists of packages, of which a fresh container has none.
lists_fetched=""
fetch_lists() {
    [ -z "$lists_fetched" ] || return 0
    lists_fetched=yes
    apt_get update
}
have_lists() { ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1 || fetch_lists; }

is_installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

# Packages that a package depends on, as far as their names match.
depends_on() { apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)\$/\1/p"; }

. ./postgres.sh
if [ -z "$pg_config" ]; then
    have_lists
    major=$(depends_on postgresql 'postgresql-[0-9]*' | head -1 | cut -d- -f2)
    [ -n "$major" ] || { say "no PostgreSQL is installed, and apt knows no package postgresql"; exit 1; }
    pg_config=$debian_base/$major/bin/pg_config
fi
# PostgreSQL's version, and Debian's: libraries that an extension was built for go when the system is upgraded.
target() { printf '%s of %s, libraries of %s' "$("$pg_config" --version)" "$pg_config" "$(. /etc/os-release && echo "$ID ${VERSION_ID:-${VERSION_CODENAME:-}}")"; }
sources=$(find Makefile bind-library.cc ./*.control ./*.sql src -type f | sort | xargs cat | sha256sum | cut -d' ' -f1)

is_in_place() {
    [ -x "$pg_config" ] && [ -x "$("$pg_config" --bindir)/postgres" ] || return 1
    [ "$(cat build/installed 2>/dev/null)" = "$sources, $(target)" ] || return 1
    local lib share
    lib=$("$pg_config" --pkglibdir)
    share=$("$pg_config" --sharedir)
    local name
    for name in hartonomous_v8 hartonomous_worker; do
        cmp -s "build/$name.so" "$lib/$name.so" && cmp -s "$name--0.1.sql" "$share/extension/$name--0.1.sql" &&
            cmp -s "$name.control" "$share/extension/$name.control" || return 1
    done
    local library
    for library in build/core.so build/libnode.so.[0-9]*; do cmp -s "$library" "$lib/hartonomous_v8/${library#build/}" || return 1; done
}
is_in_place && exit 0

have_lists
libnode=$(depends_on libnode-dev 'libnode[0-9]*' | head -1)
[ -n "$libnode" ] || { say "apt knows no package libnode-dev, of which V8 is taken"; exit 1; }
needed="$(depends_on "$libnode" 'lib[^ ]*' | tr '\n' ' ')ca-certificates"
for program in g++ gcc make; do
    command -v "$program" >/dev/null || needed="$needed $program"
done
if [ -n "$major" ]; then
    needed="$needed postgresql-$major postgresql-server-dev-$major"
elif [ ! -x "$pg_config" ]; then
    say "there is no $pg_config"; exit 1
elif [ ! -e "$("$pg_config" --includedir-server)/postgres.h" ]; then
    case $(readlink -f "$("$pg_config" --bindir)") in
        "$debian_base"/*) needed="$needed postgresql-server-dev-$("$pg_config" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')" ;;
        *) say "the server's headers are missing: $("$pg_config" --includedir-server)/postgres.h"; exit 1 ;;
    esac
fi
missing=""
for package in $needed; do
    is_installed "$package" || missing="$missing $package"
done
knows() { apt-cache show "$1" >/dev/null 2>&1; }
for package in $missing; do
    # Of a version that the release does not have no administrator can make something. Lists may be older than a source of packages.
    if [[ $package = postgresql-* ]] && ! knows "$package" && ! { (fetch_lists) >/dev/null 2>&1 && knows "$package"; }; then
        say "apt knows no package $package; this release has $(depends_on postgresql 'postgresql-[0-9]*' | head -1)"
        exit 1
    fi
done
if [ -n "$missing" ]; then
    say "installing Debian packages:$missing"
    fetch_lists
    # shellcheck disable=SC2086
    apt_get install -y --no-install-recommends $missing >/dev/null
fi

# What an administrator has built here is root's.
[ ! -e build ] || [ -z "$(find build ! -type l ! -writable -print -quit)" ] || as_root chown -R "$(id -u):$(id -g)" build
[ "$(cat build/target 2>/dev/null)" = "$(target)" ] || make -s clean PG_CONFIG="$pg_config"
unpacked=build/root # NODE_ROOT of the Makefile
if ! ls $unpacked/usr/lib/*/"libnode.so.${libnode#libnode}" >/dev/null 2>&1 || [ ! -e $unpacked/usr/include/node/v8.h ]; then
    # libnode beside a Node.js that is not Debian's cannot be installed, so it is unpacked.
    say "fetching V8 (Debian's $libnode)"
    rm -rf build/deb $unpacked build/libnode.so.*
    mkdir -p build/deb
    (cd build/deb && { apt-get download -qq "$libnode" libnode-dev 2>/dev/null ||
        { fetch_lists && apt-get download -qq "$libnode" libnode-dev; }; })
    for deb in build/deb/*.deb; do dpkg -x "$deb" $unpacked; done
fi

say "building hartonomous_v8 for $("$pg_config" --version)"
target >build/target
make -s -j2 PG_CONFIG="$pg_config"
lib=$("$pg_config" --pkglibdir)
say "installing hartonomous_v8 into $lib"
if [ -w "$lib" ] && [ -w "$("$pg_config" --sharedir)/extension" ]; then
    make -s install PG_CONFIG="$pg_config"
else
    as_root make -s install PG_CONFIG="$pg_config"
fi
printf '%s, %s\n' "$sources" "$(target)" >build/installed
