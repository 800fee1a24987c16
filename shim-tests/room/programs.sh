# Programs of a topic: ordinary ones as another user, the same under Flexcast, relays.
# Sourced by lib.sh. Promises: each has a name; what it says is in NAME.out and NAME.log.
# shellcheck shell=bash

on() {
    local name=$1
    shift
    ip netns exec "$name" "$@"
}

# plain HOST COMMAND...: as an ordinary user's program runs, without any capability.
plain() {
    local name=$1
    shift
    ip netns exec "$name" "${ENDPOINT[@]}" "$@"
}

# bg HOST NAME COMMAND...: in the background; output in $WORK/NAME.out and .log,
# pid in ${PIDS[NAME]}. `bg_on` keeps the capabilities (relays).
bg() {
    local name=$1 job=$2
    shift 2
    bg_on "$name" "$job" "${ENDPOINT[@]}" "$@"
}
bg_on() {
    local name=$1 job=$2
    shift 2
    ip netns exec "$name" "$@" >"$WORK/$job.out" 2>"$WORK/$job.log" </dev/null &
    PIDS[$job]=$!
}

# ended NAME: whether the program is gone; reap NAME: its exit status.
ended() { ! kill -0 "${PIDS[$1]}" 2>/dev/null; }
reap() {
    local pid=${PIDS[$1]}
    unset "PIDS[$1]"
    wait "$pid"
}
# stop NAME [SIGNAL]
stop() { kill -"${2:-TERM}" "${PIDS[$1]}"; }

says() { grep -q -- "$2" "$WORK/$1.log" "$WORK/$1.out"; }

# program NAME: the pid of the program itself: `flexcast run --wait-for` and strace
# stay as its parent, everything else becomes it.
program() {
    local child
    child=$(pgrep -P "${PIDS[$1]}" | head -n 1)
    echo "${child:-${PIDS[$1]}}"
}
# Neither root (in its own user namespace, where it has one) nor any capability.
unprivileged() {
    local proc
    proc=/proc/$(program "$1")
    [ "$(grep -cE '^Cap(Inh|Prm|Eff|Bnd|Amb):[[:space:]]*0*$' "$proc/status")" -eq 5 ] &&
        { [ "$(stat -c %u "$proc")" -ne 0 ] ||
            [ "$(readlink "$proc/ns/user")" != "$(readlink /proc/self/ns/user)" ]; }
}
shim_loaded() { grep -q libflexcast_preload "/proc/$(program "$1")/maps"; }
# guest NAME: a program under the shim, as an ordinary user has it.
guest() {
    await "the shim is in $1" 5 shim_loaded "$1"
    check "$1 is neither root nor has it a capability" unprivileged "$1"
}

# ours: brings the built programs to a folder that anyone may read.
ours() {
    local binary=${FLEXCAST_BIN:-$ROOT/target/release/flexcast}
    local library=${FLEXCAST_PRELOAD:-$ROOT/target/release/libflexcast_preload.so}
    for file in "$binary" "$library"; do
        [ -e "$file" ] || { echo "not ok $file is missing: cargo build --release"; exit 1; }
    done
    "$binary" relay --help >/dev/null 2>&1 || skip "this flexcast has no 'relay'"
    # Exporting no setsockopt, it could not take a join.
    nm -D --defined-only "$library" | grep ' setsockopt$' >/dev/null ||
        skip "this libflexcast_preload.so takes no calls"
    cp "$binary" "$library" "$WORK"
    # Of these topics, and no variables of Flexcast's.
    export -n FLEXCAST_BIN FLEXCAST_EXAMPLES FLEXCAST_LIBRARY
    legacy
    chmod -R a+rX "$WORK"
    FLEXCAST=$WORK/flexcast
}
# legacy: the ordinary programs and the helpers in Python, in $WORK.
legacy() {
    make -s -C "$ROOT/legacy-apps" all
    cp "$ROOT"/legacy-apps/{push,join,call,listen,drain,loop,push.py,join.py,serve.py} \
        "$ROOT"/shim-tests/room/{forge,tap,crowd}.py "$WORK"
}
# native: the native library as it is installed, in $WORK/prefix; compilers and programs
# find it there.
native() {
    local lib=$WORK/prefix/lib
    mkdir -p "$lib/pkgconfig" "$WORK/prefix/include"
    if [ -n "${FLEXCAST_LIBRARY:-}" ]; then
        cp "$FLEXCAST_LIBRARY" "$lib/libflexcast.so.0"
        ln -s libflexcast.so.0 "$lib/libflexcast.so"
    else
        "$ROOT/scripts/link-library.sh" "$lib"
    fi
    cp "$ROOT"/src/flexcast/include/*.h "$WORK/prefix/include"
    sed "s|@PREFIX@|$WORK/prefix|; s|@VERSION@|0|" "$ROOT/src/flexcast/flexcast.pc.in" \
        >"$lib/pkgconfig/flexcast.pc"
    chmod -R a+rX "$WORK/prefix"
    export PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib
}
skip() {
    echo "skipped: $1"
    exit 77
}

# flex HOST NAME COMMAND...: an ordinary program under `flexcast run`, by $MAP.
flex() {
    local name=$1 job=$2 rule rules=()
    shift 2
    for rule in $MAP; do rules+=(--map "$rule"); done
    bg "$name" "$job" "$FLEXCAST" run "${rules[@]}" -- "$@"
}

# flex_traced HOST COMMAND...: the same with a job of the host's name, under strace; each
# thread's calls in a file of its own, trace-HOST.THREAD.
flex_traced() {
    local host=$1
    shift
    bg "$host" "$host" strace -ff -T -qq -e signal=none -e trace=desc,network -o "$WORK/trace-$host" \
        "$FLEXCAST" run --map "$MAP" -- "$@"
}

# flex_for COUNT GROUP HOST NAME COMMAND...: a sender to GROUP, port 5000, started when
# COUNT receivers are there. What paces itself by the clock would otherwise catch up in a
# burst that overflows queues.
flex_for() {
    local count=$1 group=$2 host=$3 job=$4
    shift 4
    bg "$host" "$job" "$FLEXCAST" run --map "$MAP" --wait-for "$group:5000=$count:20" -- "$@"
}

# relay HOST [OPTION...]: started, and seen to capture.
relay() {
    local name=$1
    shift
    bg_on "$name" "relay-$name" "$FLEXCAST" relay "$@"
    await "relay at $name captures" 5 says "relay-$name" capturing
}

# three_relays: where most topics begin.
three_relays() {
    local name
    for name in r1 r2 r3; do relay "$name"; done
}
