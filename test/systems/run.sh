#!/usr/bin/env bash
# Tests on a fresh Debian of the release NAME (bookworm, trixie, forky, sid): a folder made by debootstrap, a clone of HEAD in
# it with nothing beside, and Node.js of this machine. Needs root, debootstrap and Debian's mirror.
# Usage: test/systems/run.sh NAME [STEP ...]
#   host    tests of the extension       demo    npm run demo as root, twice
#   unit, db, golden, cli                files of that folder of test/; or test/db/install.test.ts, a file
#   sudo    npm run demo as a user with sudo       test    npm test as that user, all of it
#   root-test    npm test as root, all of it
#   no-root    setup as a user without root or sudo
#   upgrade    host/upgrade.sh on the private database that the step demo left in the folder bookworm; after a demo here
# Without a step: host demo unit db golden. SYSTEMS (/var/tmp/hartonomous-systems) holds the folders, which are kept; `fresh`
# as a step begins anew. Each step ends with its counts, as docs/systems.md has them; the log is NAME.log beside the folder.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
systems=${SYSTEMS:-/var/tmp/hartonomous-systems}
name=$1
shift
steps=("$@")
[ $# -gt 0 ] || steps=(host demo unit db golden)
root=$systems/$name
log=$systems/$name.log
mkdir -p "$systems"

# Everything that is mounted is mounted in a namespace of our own and is gone with it.
if [ "${IN_NAMESPACE:-}" != yes ]; then
    IN_NAMESPACE=yes exec unshare --mount --propagation private bash "${BASH_SOURCE[0]}" "$name" "$@"
fi

say() { printf '%s: %s\n' "$name" "$*"; }

make_folder() {
    say "debootstrap"
    rm -rf "$root.part" "$root"
    debootstrap --variant=minbase --include=ca-certificates "$name" "$root.part" >>"$log" 2>&1
    mv "$root.part" "$root"
}

[ "${steps[0]}" != fresh ] || { rm -rf "$root"; steps=("${steps[@]:1}"); }
[ -e "$root/etc/debian_version" ] || make_folder
mount --bind /proc "$root/proc"
mount --rbind /dev "$root/dev"
older=$systems/bookworm
case " ${steps[*]} " in *" upgrade "*)
    mount --bind /proc "$older/proc"
    mount --rbind /dev "$older/dev" ;;
esac
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# Lists of testing and unstable are valid for a week, and a mirror may stand still for longer.
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/99-standing-mirror"
# Node.js as nodejs.org and others package it; Debian 12's own is older than what is needed.
install -D "$(readlink -f "$(command -v node)")" "$root/usr/local/bin/node"
modules=$(dirname "$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")")
mkdir -p "$root/usr/local/lib/node_modules"
cp -r "$modules/npm" "$root/usr/local/lib/node_modules/"
ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
settings=(HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 FUZZ_SECONDS="${FUZZ_SECONDS:-60}")
# Where registries stand behind a certificate of this place's own.
if [ -n "${NODE_EXTRA_CA_CERTS:-}" ]; then
    cp -L "$NODE_EXTRA_CA_CERTS" "$root/etc/extra-ca.crt"
    settings+=(NODE_EXTRA_CA_CERTS=/etc/extra-ca.crt PIP_CERT=/etc/extra-ca.crt)
fi

inside() { within "$root" "$1"; }
within() { chroot "$1" env -i "${settings[@]}" bash -c "cd /src/hartonomous && $2"; }

# A clone with nothing beside it; what was built and installed there stays.
mkdir -p "$root/src/hartonomous"
(cd "$root/src/hartonomous" && find . -mindepth 1 -maxdepth 1 ! -name node_modules ! -name dist ! -name host -exec rm -rf {} + &&
    if [ -d host ]; then find host -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +; fi)
git -C "$repository" archive HEAD | tar -x -C "$root/src/hartonomous"

# Run a step's command, keep its output, and say how it ended and in what time.
step() {
    local title=$1 command=$2 started=$SECONDS status=0
    printf '\n==== %s: %s\n' "$title" "$command" >>"$log"
    inside "$command" >>"$log.part" 2>&1 || status=$?
    cat "$log.part" >>"$log"
    say "$title: $(grep -E '^[0-9]+ passed, [0-9]+ failed|\] done$' "$log.part" | tail -n 1), exit code $status, $((SECONDS - started)) s"
    rm -f "$log.part"
    [ "$status" -eq 0 ]
}

# The private database of an earlier run, which another build may have made.
forget() {
    inside "pid=\$(head -n 1 $1/data/postmaster.pid 2>/dev/null) && [ \"\$(readlink /proc/\$pid/cwd)\" = $1/data ] && kill -INT \$pid && sleep 3; rm -rf $1"
}

# What a database answers, has of faults, and is, for a comparison of before and after.
facts='npx hartonomous run tiny "Hello, how are you?" --temperature 0 &&
    npx hartonomous query --write "select count(*)::int as faults from hartonomous.check_integrity()" --format json'

# Libraries of another release that this one lacks.
missing() { inside 'ldd /usr/lib/postgresql/15/bin/{postgres,pg_ctl,pg_dump,pg_dumpall,psql} | sed -n "s/^\t\([^ ]*\) => not found/\1/p" | sort -u'; }

# Bring the private database of bookworm here: its data, and its server's programs with what they need.
upgrade() {
    local folder libraries library
    [ -e "$older/var/lib/hartonomous/data" ] || { say "upgrade: the folder bookworm has no database: run.sh bookworm demo"; return 1; }
    within "$older" "npx hartonomous up >/dev/null && { $facts; }; status=\$?; npx hartonomous down >/dev/null; exit \$status" >"$root/before.txt" || return 1
    forget /var/lib/hartonomous
    for folder in usr/lib/postgresql/15 usr/share/postgresql/15 var/lib/hartonomous; do
        rm -rf "${root:?}/$folder"
        cp -a "$older/$folder" "$root/$folder"
    done
    rm -f "$root"/usr/lib/postgresql/15/lib/llvmjit.so # which needs another LLVM
    while libraries=$(missing) && [ -n "$libraries" ]; do
        for library in $libraries; do cp -L "$older"/usr/lib/*-linux-gnu/"$library" "$root/usr/local/lib/" || return 1; done
        inside ldconfig
    done
    inside 'chown -R postgres:postgres /var/lib/hartonomous'
    step upgrade 'set -e
        newest=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
        PG_BIN=$newest bash host/setup.sh
        PG_BIN=$newest bash host/upgrade.sh /usr/lib/postgresql/15/bin
        npx hartonomous up >/dev/null
        npx hartonomous install
        { '"$facts"'; } >/after.txt
        cat /after.txt
        diff /before.txt /after.txt
        grep "\"faults\": *0" /after.txt
        npx hartonomous doctor
        npx hartonomous down
        echo "1 passed, 0 failed"'
}

failed=0
for each in "${steps[@]}"; do
    case $each in
        host) step host 'node bootstrap.mjs build && bash host/test.sh' || failed=1 ;;
        demo) forget /var/lib/hartonomous; { step demo 'npm run demo' && step 'demo again' 'npm run demo'; } || failed=1 ;;
        test/*) step "$each" "node bootstrap.mjs test $each" || failed=1 ;;
        unit | db | golden | cli) step "$each" "node bootstrap.mjs test test/$each" || failed=1 ;;
        sudo)
            forget /home/tester/.local/share/hartonomous
            step 'user with sudo' 'command -v sudo >/dev/null || { apt-get update -qq && apt-get install -y -qq sudo; }
                id tester 2>/dev/null || useradd -m -s /bin/bash tester
                mkdir -p /home/tester
                echo "tester ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/tester
                rm -rf /home/tester/hartonomous && cp -r /src/hartonomous /home/tester/ && rm -rf /home/tester/hartonomous/{node_modules,dist,host/build}
                chown -R tester /home/tester && su tester -c "cd ~/hartonomous && HOME=/home/tester npm run demo"' || failed=1
            ;;
        test) step 'npm test' 'su tester -c "cd ~/hartonomous && HOME=/home/tester npm test"' || failed=1 ;;
        root-test) step 'npm test as root' 'npm test' || failed=1 ;;
        no-root)
            step 'user without root' 'id visitor 2>/dev/null || useradd -m -s /bin/bash visitor
                rm -rf /home/visitor/hartonomous && cp -r /src/hartonomous /home/visitor/ && rm -rf /home/visitor/hartonomous/{node_modules,dist,host/build}
                chown -R visitor /home/visitor && su visitor -c "cd ~/hartonomous && bash host/setup.sh"; [ $? -eq 3 ] && echo "1 passed, 0 failed"' || failed=1
            ;;
        upgrade) upgrade || failed=1 ;;
        *) say "unknown step $each"; exit 2 ;;
    esac
done
say "$(inside '. host/postgres.sh; "$pg_config" --version; find host/build /home/tester/hartonomous/host/build -name v8-version.h -print -quit 2>/dev/null |
    xargs -r sed -n "s/#define V8_\(MAJOR\|MINOR\)_VERSION //p" | paste -sd.' | paste -sd' ')"
exit $failed
