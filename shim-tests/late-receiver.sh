#!/usr/bin/env bash
# A receiver that joins a running stream has it at once, and from there on whole;
# one that came before the sender has its very first datagram.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

flex a1 early "$WORK/join" -b 4000000 -k 239.1.1.1 5000
await "the early receiver joins" 5 says early joined
flex_for 1 239.1.1.1 s push "$WORK/push" -n 800 -r 200 239.1.1.1 5000
await "the stream reaches a1" 5 streaming a1
flex b1 late "$WORK/join" -b 4000000 -k 239.1.1.1 5000
await "the stream reaches the late receiver" 2 streaming b1
await "the sender ends" 20 ended push
check "with status 0" reap push
sleep 0.3
check "the early receiver has all" complete early 800
stop late
reap late || true
echo "       late: $(cat "$WORK/late.out")"
check "the late one lost nothing after its first" grep -q ', lost 0, twice 0,.*last 799' "$WORK/late.out"
check "and came late indeed" grep -q 'first [1-9]' "$WORK/late.out"
conclude
