#!/usr/bin/env bash
# All tests of the repository, in one command: formatting, lints, unit, property
# and doc tests, the aarch64 check, the ordinary programs of legacy-apps/ by
# themselves, then every topic of shim-tests/ (exit status 77: skipped).
#
# Promises: ends with the line "N passed, N failed" (", N skipped" with the reasons
# above it) and exits non-zero when anything failed. Installs the Debian packages
# that it needs when it is root, and names them otherwise. Is not a benchmark.
set -uo pipefail
cd "$(dirname "$0")/.."
# An ordinary user of Debian has no sbin in PATH.
PATH=$PATH:/usr/sbin:/sbin

passed=0 failed=0 skipped=0
reasons=()

# step NAME COMMAND...: one thing that passes or fails.
step() {
    local name=$1 log
    shift
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        printf 'ok      %s\n' "$name"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n' "$name"
        tail -n 60 "$log" | sed 's/^/        /'
    fi
    rm -f "$log"
}

# skip NAME REASON: one thing that cannot run here.
skip() {
    skipped=$((skipped + 1))
    reasons+=("$1: $2")
}

# cargo_tests: every Rust test counts by itself.
cargo_tests() {
    local log status
    log=$(mktemp)
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --workspace --no-fail-fast --color never >"$log" 2>&1
        status=$?
        count "$log" 's/.*tests\? run: \([0-9]*\) passed.*/\1/p' \
            's/.*tests\? run:.* \([0-9]*\) failed.*/\1/p'
    else
        cargo test --workspace --no-fail-fast --lib --bins --tests >"$log" 2>&1
        status=$?
        count "$log" 's/^test result: .* \([0-9]*\) passed;.*/\1/p' \
            's/^test result: .* \([0-9]*\) failed;.*/\1/p'
    fi
    if [ "$status" -ne 0 ]; then
        [ "$counted_failures" -gt 0 ] || failed=$((failed + 1))
        grep -vE '^ *(PASS|Compiling|Downloaded)' "$log" | tail -n 80 | sed 's/^/        /'
    fi
    rm -f "$log"
}

# count LOG PASSED FAILED: adds up what the sed expressions find.
count() {
    local n
    counted_failures=0
    for n in $(sed -n "$2" "$1"); do passed=$((passed + n)); done
    for n in $(sed -n "$3" "$1"); do
        failed=$((failed + n))
        counted_failures=$((counted_failures + n))
    done
}

if [ -x scripts/install-tools.sh ]; then
    scripts/install-tools.sh || printf 'some tools are missing: see above\n'
fi

step "formatting" cargo fmt --all --check
step "lints" cargo clippy --workspace --all-targets -- -D warnings
cargo_tests
step "doc tests" cargo test --workspace --doc
target=aarch64-unknown-linux-gnu
if rustup target list --installed 2>/dev/null | grep -q "$target" ||
    rustup target add "$target" >/dev/null 2>&1; then
    step "check for $target" cargo check --workspace --target "$target"
else
    skip "check for $target" "the target is not installed: rustup target add $target"
fi

step "legacy-apps" make -C legacy-apps
step "legacy-apps over kernel multicast" timeout 60 legacy-apps/verify.sh
# 77: Rust's sources are not to be had.
sanitized=$(mktemp)
status=0
scripts/sanitize.sh 60 thread >"$sanitized" 2>&1 || status=$?
if [ "$status" -eq 77 ]; then
    skip "a storm of calls under ThreadSanitizer" "$(sed -n 's/^skipped: //p' "$sanitized")"
else
    step "a storm of calls under ThreadSanitizer" sh -c 'cat "$1"; exit "$2"' - "$sanitized" "$status"
fi
rm -f "$sanitized"
step "release build" cargo build --release --workspace --lib --bins --examples

# attempt SCRIPT NAME: its output and its exit status. Where the whole machine stood still
# (75) that tells nothing, and it is run again, twice at most.
attempt() {
    local status=75 n
    for n in 1 2 3; do
        [ "$status" -eq 75 ] || break
        status=0
        timeout 180 bash "$1" >"$results/$2.log" 2>&1 || status=$?
    done
    echo "$status" >"$results/$2.status"
    [ "$status" -eq 0 ]
}

# topic SCRIPT: faults and repeats are rare events' only chance: they run twice.
topic() {
    local name
    name=$(basename "$1" .sh)
    attempt "$1" "$name" || return 0
    case $name in
    relay-* | sender-* | receiver-* | control-loss | two-senders | shared-port | leave)
        attempt "$1" "$name" || true
        ;;
    esac
}

# Two at a time: more would miss deadlines on a machine of two processors.
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
for script in shim-tests/*.sh; do
    [ "$script" != shim-tests/lib.sh ] || continue
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || true; done
    topic "$script" &
done
wait
for script in shim-tests/*.sh; do
    [ "$script" != shim-tests/lib.sh ] || continue
    name=$(basename "$script" .sh)
    case $(cat "$results/$name.status" 2>/dev/null) in
    0)
        step "$script" true
        sed -n 's/^figure /        /p' "$results/$name.log"
        ;;
    77) skip "$script" "$(sed -n 's/^skipped: //p' "$results/$name.log" | tail -n 1)" ;;
    *) step "$script" sh -c 'cat "$1"; exit 1' - "$results/$name.log" ;;
    esac
done

for reason in "${reasons[@]}"; do
    printf 'skipped %s\n' "$reason"
done
if [ "$skipped" -gt 0 ]; then
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
else
    printf '%d passed, %d failed\n' "$passed" "$failed"
fi
[ "$failed" -eq 0 ]
