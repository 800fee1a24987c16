#!/usr/bin/env bash
# Two receivers on one host and one port: each has the whole stream; when one
# leaves, or is killed, the other misses nothing, and the links above carry one copy.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

flex s push "$WORK/push" -r 200 239.1.1.1 5000
for job in one two three; do flex a1 "$job" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
for job in one two three; do await "$job joins" 5 says "$job" joined; done
flex a1 other "$WORK/join" -b 4000000 -k 239.1.1.2 5000
await "another group on the same port joins" 5 says other joined
guest one
await "three are fed" 5 eval '[ "$(requesters r2 10.98.11.2: | wc -l)" -eq 3 ]'

above=$(copies r2) below=$(copies a1)
check "$above tenths of a copy on the link above" eval '[ "$above" -ge 8 ] && [ "$above" -le 12 ]'
check "and $below on the link to the host, a copy for each" \
    eval '[ "$below" -ge 26 ] && [ "$below" -le 34 ]'

leave one
await "one of them is gone" 2 eval '[ "$(requesters r2 10.98.11.2: | wc -l)" -eq 2 ]'
stop two KILL
await "the killed one is gone" 2.5 eval '[ "$(requesters r2 10.98.11.2: | wc -l)" -eq 1 ]'
sleep 0.5
check "the last goes on" eval 'streaming a1; sleep 0.1; streaming a1'
leave three
for job in one three; do
    check "$job lost nothing" unhurt "$job"
    check "$job received" [ "$(tally "$job" received)" -gt 200 ]
done
await "the host's link is silent" 1.5 silent a1
leave other
check "the other group's receiver heard nothing" [ "$(tally other received)" -eq 0 ]
conclude
