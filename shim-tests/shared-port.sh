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

from=$(datagrams r2 1316) at=$(datagrams a1 1316)
sleep 1
above=$(($(datagrams r2 1316) - from)) below=$(($(datagrams a1 1316) - at))
check "one copy on the link above: $above of about 200" eval '[ "$above" -ge 120 ] && [ "$above" -le 280 ]'
check "three on the link to the host: $below" \
    eval '[ $((below * 10)) -ge $((above * 25)) ] && [ $((below * 10)) -le $((above * 35)) ]'

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
