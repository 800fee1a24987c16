# The room of a topic: namespaces, links, counters, endpoints, deadlines. Sourced
# first by each script of this directory, which then runs inside a user, network
# and mount namespace of its own.
#
#            s 10.98.0.1              no multicast anywhere: there is no route
#            |                        for groups and no multicast router
#            r1
#          /    \
#        r2      r3
#      / | \    / | \
#     a1 a2 a3 b1 b2 b3               10.98.11.2 .12.2 .13.2  .21.2 .22.2 .23.2
#
# Promises: needs no root, leaves no process, namespace or file behind, also when
# it fails; endpoints run as user 1000 without any capability, from a folder that
# anyone may read. Exit status 0 passed, 1 failed, 77 skipped with the reason on
# the last line, 75 failed while the whole machine stood still: to be run again. Is
# not a test by itself.
# shellcheck shell=bash
set -euo pipefail
# An ordinary user of Debian has no sbin in PATH.
PATH=$PATH:/usr/sbin:/sbin

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOPIC=$(basename "$0" .sh)
FP=7450
MAP='239.1.0.0/16=10.98.0.1 232.1.0.0/16=10.98.0.1'

# enter COMMAND...: into a user namespace, root there. Root of the machine maps a
# second user, 1000, so that endpoints are truly another user; an ordinary user may
# map only itself, and endpoints get a user namespace of their own (`ENDPOINT`).
enter() {
    local holder both=$'0 0 1\n1000 1000 1'
    [ "$(id -u)" -eq 0 ] || exec unshare -Ur "$@"
    unshare -U sleep 5 &
    holder=$!
    until [ "$(readlink "/proc/$holder/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.01; done
    # cat, as the kernel takes a map in one write only.
    if ! { cat <<<"$both" >"/proc/$holder/uid_map" && cat <<<"$both" >"/proc/$holder/gid_map"; } 2>/dev/null; then
        kill "$holder"
        exec unshare -Ur "$@" # root of a container that has no user 1000
    fi
    # shellcheck disable=SC2016 # for the inner shell
    exec nsenter -U -t "$holder" -S 0 -G 0 sh -c 'kill "$0"; exec "$@"' "$holder" "$@"
}

if [ "${SHIM_TEST_INSIDE:-}" != "$$" ]; then
    # exec keeps the process id, so an inherited variable cannot be mistaken.
    # A process namespace: when its first process ends, the kernel ends all others.
    # shellcheck disable=SC2016 # for the inner shell
    enter unshare -nmpf --mount-proc --kill-child bash -c \
        'mount -t tmpfs -o mode=755 none /run && mkdir /run/netns && SHIM_TEST_INSIDE=$$ exec bash "$@"' \
        - "$(realpath "$0")" "$@"
fi

# In this namespace's own /run: gone with it, whatever kills the topic.
WORK=/run/topic
mkdir -m 1777 "$WORK"
cd "$WORK"
# What another user may run: nothing of the caller's own folders.
[ ! -O /etc ] || PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=$WORK
if grep -q '^ *1000 ' /proc/self/uid_map; then
    ENDPOINT=(setpriv --reuid=1000 --regid=1000 --clear-groups --bounding-set=-all --inh-caps=-all)
else
    ENDPOINT=(unshare --user --map-user=1000 --map-group=1000 --keep-caps
        setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all)
fi
failures=0
declare -A PIDS=() NICS=()

# No deadline means anything while a suspended or swamped machine runs nobody.
watch_the_clock() {
    local before now never
    exec {never}<> <(:)
    before=${EPOCHREALTIME/./}
    while :; do
        read -rt 0.1 -u "$never" || true
        now=${EPOCHREALTIME/./}
        [ $((now - before)) -lt 600000 ] || echo $(((now - before) / 1000)) >>"$WORK/stood-still"
        before=$now
    done
}
watch_the_clock &
PIDS[clock]=$!

finish() {
    local status=$? name
    trap - EXIT
    if [ "$status" -eq 1 ] && [ -s "$WORK/stood-still" ]; then
        echo "the machine stood still for $(tr '\n' ' ' <"$WORK/stood-still")ms: run again"
        status=75
    fi
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        for name in "$WORK"/*.log "$WORK"/*.out; do
            [ -s "$name" ] || continue
            printf -- '--- %s\n' "$(basename "$name")"
            tail -n 20 "$name"
        done
    fi
    for name in "${!PIDS[@]}"; do
        kill -9 "${PIDS[$name]}" 2>/dev/null || true
        wait "${PIDS[$name]}" 2>/dev/null || true
    done
    exit "$status"
}
trap finish EXIT

# --- verdicts

# check DESCRIPTION COMMAND...: one line, and the topic fails at its end.
check() {
    local what=$1
    shift
    if "$@"; then
        printf 'ok     %s\n' "$what"
    else
        printf 'not ok %s\n' "$what"
        failures=$((failures + 1))
    fi
}

# await DESCRIPTION SECONDS COMMAND...: polls until COMMAND succeeds; prints the
# figure. A deadline missed ends the topic.
await() {
    local what=$1 limit=$2 from now
    shift 2
    from=$(milliseconds)
    while ! "$@" 2>/dev/null; do
        now=$(milliseconds)
        if [ $((now - from)) -gt "$(awk -v s="$limit" 'BEGIN { printf "%d", s * 1000 }')" ]; then
            printf 'not ok %s: not within %s s\n' "$what" "$limit"
            exit 1
        fi
        sleep 0.02
    done
    printf 'ok     %s: %d ms of %s s\n' "$what" $(($(milliseconds) - from)) "$limit"
}

milliseconds() { printf '%d\n' $(($(date +%s%N) / 1000000)); }

# figure WHAT NUMBER UNIT: what was measured; scripts/soak.sh gathers these lines.
figure() { printf 'figure %s: %s %s\n' "$1" "$2" "$3"; }

# conclude: the last line of each topic.
conclude() { [ "$failures" -eq 0 ]; }

for part in network carried programs native results; do
    # shellcheck source=/dev/null
    . "$ROOT/shim-tests/room/$part.sh"
done
