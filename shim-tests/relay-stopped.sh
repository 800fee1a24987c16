#!/usr/bin/env bash
# A relay stopped with SIGSTOP under 2 000 datagrams a second: its capture runs out,
# requests run on to the next node, and the stream is back within 3.5 s (a second's
# margin here). When it wakes, nothing stale comes of it, and it serves again.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

flex s push "$WORK/push" -r 2000 239.1.1.1 5000
receivers=(a1 a2 b1)
for r in "${receivers[@]}"; do flex "$r" "$r" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
for r in "${receivers[@]}"; do await "the stream reaches $r" 5 streaming "$r"; done
sleep 1
stop relay-r2 STOP
# What is on its way to a1 arrives; from then on only another node can feed it.
await "the stream stands still" 1 silent a1
await "the stream is back at a1 and a2" 5 eval 'streaming a1 && streaming a2'
sleep 2
stop relay-r2 CONT
sleep 2
check "the stream goes on after it wakes" eval 'streaming a1; sleep 0.1; streaming a1'
await "it feeds both again" 15 eval '[ "$(requesters r2 | wc -l)" -eq 2 ]'
sleep 2
stop push
await "the sender ends" 2 ended push
sleep 0.3
for r in "${receivers[@]}"; do leave "$r"; done
for r in a1 a2; do
    gap=$(tally "$r" 'longest gap')
    figure "outage at $r" "$gap" ms
    figure "twice at $r" "$(tally "$r" twice)" datagrams
    check "$r's outage was $gap ms" [ "$gap" -le 4500 ]
    check "$r lost what fell into it: $(tally "$r" lost)" [ "$(tally "$r" lost)" -le $((gap * 2 + 400)) ]
    check "$r got nothing twice, nothing late" \
        [ "$(tally "$r" twice) $(tally "$r" reordered)" = "0 0" ]
    check "$r was in to the end" [ "$(tally "$r" last)" -eq "$(tally b1 last)" ]
done
check "the other branch lost nothing" unhurt b1
conclude
