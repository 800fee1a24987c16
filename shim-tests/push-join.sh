#!/usr/bin/env bash
# Push and join through two relays: unmodified programs without capabilities, each
# datagram once at each of six receivers, and one copy on each link. Not a test of
# faults. The control is harness.sh: without Flexcast nothing gets through.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

receivers=(a1 a2 a3 b1 b2 b3)
for r in "${receivers[@]}"; do flex "$r" "$r" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
for r in "${receivers[@]}"; do await "$r joins" 5 says "$r" joined; done
flex_for 6 239.1.1.1 s push "$WORK/push" -n 600 -r 200 239.1.1.1 5000
guest push
guest a1
await "the sender ends" 20 ended push
check "with status 0" reap push
sleep 0.3
for h in r1 r2 r3 "${receivers[@]}"; do
    n=$(datagrams "$h" 1316)
    check "the link to $h carried $n of 600" [ "$n" -eq 600 ]
done
for r in "${receivers[@]}"; do check "$r has all" complete "$r" 600; done
conclude
