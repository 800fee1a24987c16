#!/usr/bin/env bash
# Leaving: 0.25 s and a round trip after the last receiver closes, all links are
# silent, whatever the depth; while one remains, its own links are not.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

flex s push "$WORK/push" -r 200 239.1.1.1 5000
flex a1 a1 "$WORK/join" -b 4000000 -k 239.1.1.1 5000
flex b1 b1 "$WORK/join" -b 4000000 -k 239.1.1.1 5000
await "the stream reaches a1" 5 streaming a1
await "the stream reaches b1" 5 streaming b1
stop a1
await "a1's branch is silent" 1.25 silent r2
check "b1's branch goes on" eval 'sleep 0.1; streaming b1'
stop b1
await "every link is silent" 1.25 eval 'silent r1 && silent r3'
check "the sender still runs" eval '! ended push'
conclude
