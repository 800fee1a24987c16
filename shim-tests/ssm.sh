#!/usr/bin/env bash
# Source-specific joins, by both options: the named source is asked and heard. The
# control: a join that names another source hears nothing.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

flex a1 plain-option "$WORK/join" -b 4000000 -k -S 10.98.0.1 232.1.1.6 5000
flex b1 generic-option "$WORK/join" -b 4000000 -k -g -i eth0 -S 10.98.0.1 232.1.1.6 5000
flex b2 another "$WORK/join" -b 4000000 -k -S 10.98.0.77 232.1.1.6 5000
for r in plain-option generic-option another; do await "$r joins" 5 says "$r" joined; done
flex_for 2 232.1.1.6 s push "$WORK/push" -n 400 -r 200 232.1.1.6 5000
await "the sender ends" 20 ended push
check "with status 0" reap push
sleep 0.3
check "IP_ADD_SOURCE_MEMBERSHIP hears all" complete plain-option 400
check "MCAST_JOIN_SOURCE_GROUP hears all" complete generic-option 400
stop another
reap another || true
check "another source's receiver hears none" grep -q '^received 0,' "$WORK/another.out"
conclude
