#!/usr/bin/env bash
# README's tour, word for word, in scripts/lab.sh: nothing fails, the three receivers
# miss nothing, the tree shows one copy, and the killed relay's gap is short. Is not a
# room of its own: the lab is one.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failures=0
check() {
    if "${@:2}"; then echo "ok     $1"; else echo "not ok $1" && failures=$((failures + 1)); fi
}
tour() { sed -n '/^## A tour/,/^## In a/p' "$root/README.md" | sed -n '/^```sh$/,/^```$/p' | sed '/^```/d'; }
check "README has a tour" eval '[ "$(tour | wc -l)" -gt 10 ]'
status=0
tour | timeout 100 "$root/scripts/lab.sh" >"$out" 2>&1 || status=$?
sed 's/^/       /' "$out"
check "the lab ends with status 0, not $status" [ "$status" -eq 0 ]
check "no command was unknown, no option wrong" \
    eval '! grep -E "command not found|Usage:|error:|not within" "$out"'
lines=$(grep -c '^received 2000, lost 0, twice 0,' "$out" || true)
check "$lines of 3 receivers have all" [ "$lines" -eq 3 ]
check "the status shows the channel" grep -q '10\.98\.0\.1#[0-9]* *granted' "$out"
check "both senders sent" eval '[ "$(grep -cE "^sent (2000|5000)$" "$out")" -eq 2 ]'
gap=$(sed -n 's/^received .*longest gap \([0-9]*\) ms.* last 4999.*/\1/p' "$out")
check "the killed relay left a gap of ${gap:-?} ms" [ "${gap:-9999}" -le 4500 ]
[ "$failures" -eq 0 ]
