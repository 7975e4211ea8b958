#!/usr/bin/env bash
# Run the steps of Dockerfile.postgres in folders made by debootstrap, for machines without a Docker engine. Root only.
# Usage: test/docker/check-dockerfile.sh [FOLDER]   (about 2 GB; an existing FOLDER/base is used again)
# The two base images are played by Debian bookworm: this machine's Node.js for node:20, Debian's postgresql-15 for
# postgres:15. At the end a database is made as the image's entry point makes it, and the functions have to be there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(realpath -m "${1:-${TMPDIR:-/tmp}/hartonomous-dockerfile}")
dockerfile=$root/Dockerfile.postgres
[ "$(id -u)" = 0 ] || { printf 'check-dockerfile: needs root\n' >&2; exit 2; }
command -v debootstrap >/dev/null || { printf 'check-dockerfile: needs the Debian package debootstrap\n' >&2; exit 2; }

say() { printf 'check-dockerfile: %s\n' "$*"; }
inside() { # inside STAGE COMMAND: run a command in a stage's folder, with the network settings of this machine
    local stage=$1 status=0
    mount --bind /dev "$work/$stage/dev"
    mount -t proc proc "$work/$stage/proc"
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive \
        NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt LC_ALL=C.UTF-8 \
        chroot "$work/$stage" /bin/bash -c "$2" </dev/null || status=$?
    umount "$work/$stage/proc" "$work/$stage/dev"
    return $status
}

mkdir -p "$work"
if [ ! -e "$work/base/etc/debian_version" ]; then
    say "debootstrap"
    rm -rf "$work/base"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" >"$work/debootstrap.log"
fi
cp /etc/resolv.conf "$work/base/etc/resolv.conf"
mkdir -p "$work/base/etc/ssl/certs"
cp -rL --remove-destination /etc/ssl/certs/. "$work/base/etc/ssl/certs/"

from() { # from IMAGE STAGE
    say "FROM $1 AS $2"
    rm -rf "${work:?}/$2"
    cp -a "$work/base" "$work/$2"
    case $1 in
    node:*)
        cp "$(command -v node)" "$work/$2/usr/local/bin/node"
        mkdir -p "$work/$2/usr/local/lib/node_modules"
        cp -a "$(npm root -g)/npm" "$work/$2/usr/local/lib/node_modules/"
        ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/$2/usr/local/bin/npm"
        if [ -n "$(npm config get cafile | grep -v null)" ]; then npm config get cafile | sed 's/^/cafile=/' >"$work/$2/root/.npmrc"; fi
        inside "$2" 'apt-get update -qq && apt-get install -y -qq --no-install-recommends libstdc++6 libatomic1 >/dev/null'
        ;;
    postgres:15*) inside "$2" 'apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-15 >/dev/null' ;;
    *) say "no stand-in for image $1"; exit 1 ;;
    esac
}

stage="" count=0 folder=/
# Continuation lines are joined, comments dropped.
while read -r word rest; do
    case $word in
    FROM)
        # shellcheck disable=SC2086
        set -- $rest
        stage=${3:-image} folder=/
        from "$1" "$stage"
        ;;
    WORKDIR) folder=$rest && mkdir -p "$work/$stage$folder" ;;
    ENV) export "${rest?}" ;;
    COPY)
        source=$root
        # shellcheck disable=SC2086
        set -- $rest
        case $1 in --from=*) source=$work/${1#--from=} && shift ;; esac
        target=${*: -1}
        case $target in /*) ;; *) target=$folder/$target ;; esac
        say "COPY $rest"
        for item in "${@:1:$#-1}"; do
            if [ -d "$source/$item" ]; then
                mkdir -p "$work/$stage/$target"
                tar -C "$source/$item" --exclude=./build --exclude=node_modules/.cache -c . | tar -C "$work/$stage/$target" -x --no-same-owner --keep-directory-symlink
            elif [ "$#" -gt 2 ]; then
                mkdir -p "$work/$stage/$target" && cp "$source/$item" "$work/$stage/$target"
            else
                mkdir -p "$(dirname "$work/$stage/$target")" && cp "$source/$item" "$work/$stage/$target"
            fi
        done
        ;;
    RUN)
        say "RUN $rest"
        mkdir -p "$work/$stage$folder"
        inside "$stage" "cd $folder && $rest"
        ;;
    *) say "instruction $word is not known here"; exit 1 ;;
    esac
    count=$((count + 1))
done < <(grep -v '^#' "$dockerfile" | sed -e ':join' -e '/\\$/N; s/\\\n//; tjoin' | grep -v '^$')
say "$count instructions ran"

say "first start, as the image's entry point does it, then an ingest and an answer"
mkdir -p "$work/$stage/models"
cp "$root/test/golden/models/zoo/qwen2-tiny-f32.gguf" "$work/$stage/models/model.gguf"
# In one chroot call, so that the server is stopped with it.
# shellcheck disable=SC2016
inside "$stage" '
set -e
bin=/usr/lib/postgresql/15/bin
mkdir -p /var/run/postgresql /var/lib/check
chown postgres /var/run/postgresql /var/lib/check
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
as $bin/initdb -D /var/lib/check -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
as $bin/pg_ctl -D /var/lib/check -w -o "-c listen_addresses= -c unix_socket_directories=/var/run/postgresql" -l /var/lib/check/log start >/dev/null
trap "as $bin/pg_ctl -D /var/lib/check -m immediate stop >/dev/null" EXIT
as bash /docker-entrypoint-initdb.d/10-hartonomous.sh
as env DATABASE_URL="postgres:///postgres?host=/var/run/postgresql&user=postgres" hartonomous ingest /models/model.gguf
as psql -h /var/run/postgresql -X -At -c "select length(hartonomous.generate(\$\$Hello\$\$, options => \$\${\"num_predict\": 8}\$\$)) > 0"
' | tee "$work/first-start.log"
[ "$(tail -1 "$work/first-start.log")" = t ] || { say "the model did not answer"; exit 1; }
say "1 passed, 0 failed"
