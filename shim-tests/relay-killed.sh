#!/usr/bin/env bash
# A relay killed with -9 under a stream: its capture goes with it, requests run on
# to the next node, and the stream is back within 3.5 s (a second's margin here).
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

flex s push "$WORK/push" -r 500 239.1.1.1 5000
flex a1 a1 "$WORK/join" -k 239.1.1.1 5000
flex b1 b1 "$WORK/join" -k 239.1.1.1 5000
await "the stream reaches a1" 5 streaming a1
await "the stream reaches b1" 5 streaming b1
stop relay-r2 KILL
await "the relay is gone" 1 ended relay-r2
streaming a1 || true
await "the stream is back at a1" 4.5 streaming a1
stop a1
stop b1
reap a1 || true
reap b1 || true
echo "       a1: $(cat "$WORK/a1.out")"
gap=$(sed -n 's/.*longest gap \([0-9]*\) ms.*/\1/p' "$WORK/a1.out")
check "a1's outage was $gap ms" [ "$gap" -le 4500 ]
check "a1 got nothing twice" grep -q ', twice 0,' "$WORK/a1.out"
check "the other branch lost nothing: $(cat "$WORK/b1.out")" grep -q ', lost 0, twice 0,' "$WORK/b1.out"
conclude
