#!/usr/bin/env bash
# A storm of calls on the native library under sanitizers:
# scripts/sanitize.sh [SECONDS [thread|address]...]  (default: 60, both)
#
# 64 threads on 32 channels send, receive, connect, accept, close, set and ask at random
# (src/flexcast/tests/programs/storm.c). Beside them, a smaller storm owns the port of
# requests at first and is killed, and a third one comes and goes.
#
# Promises: the library, the standard library below it and the program are instrumented
# alike; any report, in any of them, fails, and nothing is suppressed. Runs in a network namespace of its
# own and needs no root. Where Rust's sources are missing and cannot be installed, says
# so and exits with 77. What a sanitizer does not see: what passes through the kernel
# (system calls are made by number); the library orders nothing by that alone.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = inside ]; then
    shift
    storm() { exec "$at/storm" "$@" >"$at/$3.log" 2>&1; }
    at=$1 seconds=$2 failed=
    ip link set lo up
    # Until it is killed.
    storm $((seconds + 60)) 16 1 &
    owner=$!
    sleep 1
    storm "$seconds" 64 2 &
    large=$!
    trap 'kill -9 "$owner" "$large" 2>/dev/null || true' EXIT
    sleep $((seconds / 3))
    { kill -9 "$owner" && ! wait "$owner"; } 2>/dev/null || failed=1
    (storm $((seconds / 3 + 1)) 16 3) || failed="$failed 3"
    wait "$large" || failed="$failed 2"
    for n in $failed; do echo "storm $n:" && cat "$at/$n.log"; done
    cat "$at/2.log"
    trap - EXIT
    [ -z "$failed" ]
    exit
fi

seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "SECONDS is '$seconds': expected a number from 1" >&2; exit 2; }
shift $(($# > 0))
[ $# -gt 0 ] || set -- thread address
scripts/install-tools.sh gcc ip unshare
sysroot=$(rustc --print sysroot)
if [ ! -e "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] && ! rustup component add rust-src >&2; then
    echo "skipped: no sources of Rust's library: rustup component add rust-src"
    exit 77
fi
host=$(rustc -vV | sed -n 's/^host: //p')
for sanitizer in "$@"; do
    case $sanitizer in
    thread) runtime=tsan ;;
    address) runtime=asan ;;
    *) echo "'$sanitizer': expected thread or address" >&2; exit 2 ;;
    esac
    at=target/sanitize/$sanitizer
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$sanitizer" cargo build -p flexcast --lib \
        -Zbuild-std --target "$host" --target-dir "$at"
    # Rust's runtime for both: gcc's own is older, and knows less.
    gcc -std=c11 -Wall -Wextra -Werror -O1 -g -fsanitize="$sanitizer" -I src/flexcast/include \
        -c src/flexcast/tests/programs/storm.c -o "$at/storm.o"
    gcc "$at/storm.o" "$at/$host/debug/libflexcast.a" -Wl,--export-dynamic \
        -Wl,--whole-archive "$sysroot/lib/rustlib/$host/lib/librustc-stable_rt.$runtime.a" \
        -Wl,--no-whole-archive -lpthread -ldl -lm -lrt -lstdc++ -o "$at/storm"
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 ASAN_OPTIONS=detect_leaks=1 \
        unshare -Urnm scripts/sanitize.sh inside "$at" "$seconds"
    echo "$sanitizer: nothing found in $seconds s"
done
