#!/usr/bin/env bash
# A receiver killed with -9 sends no leave: ICMP and a sign of life asked for end
# its entry, and its link is silent within 1.5 s. Its neighbour loses nothing.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

flex s push "$WORK/push" -r 200 239.1.1.1 5000
flex a1 a1 "$WORK/join" -b 4000000 -k 239.1.1.1 5000
flex a2 a2 "$WORK/join" -b 4000000 -k 239.1.1.1 5000
await "the stream reaches a1" 5 streaming a1
await "the stream reaches a2" 5 streaming a2
stop a1 KILL
await "a1's link is silent" 2.5 silent a1
check "a2's link goes on" eval 'sleep 0.1; streaming a2'
stop a2
reap a2 || true
check "a2 lost nothing: $(cat "$WORK/a2.out")" grep -q ', lost 0, twice 0,' "$WORK/a2.out"
conclude
