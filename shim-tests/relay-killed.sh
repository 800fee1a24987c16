#!/usr/bin/env bash
# A relay killed with -9 under 2 000 datagrams a second: its capture goes with it,
# requests run on to the next node, and the stream is back within 3.5 s (a second's
# margin here). Nothing comes twice; the other branch does not notice.
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
stop relay-r2 KILL
await "the relay is gone" 1 ended relay-r2
for r in a1 a2; do streaming "$r" || true; done
await "the stream is back at a1 and a2" 5 eval 'streaming a1 && streaming a2'
check "nothing is left of its capture" eval '! on r2 nft list tables | grep -q flexcast'
sleep 1
stop push
await "the sender ends" 2 ended push
sleep 0.3
for r in "${receivers[@]}"; do leave "$r"; done
for r in a1 a2; do
    gap=$(tally "$r" 'longest gap')
    figure "outage at $r" "$gap" ms
    figure "lost in it at $r" "$(tally "$r" lost)" datagrams
    figure "twice at $r" "$(tally "$r" twice)" datagrams
    check "$r's outage was $gap ms" [ "$gap" -le 4500 ]
    check "$r lost what fell into it: $(tally "$r" lost)" [ "$(tally "$r" lost)" -le $((gap * 2 + 400)) ]
    check "$r got nothing twice" [ "$(tally "$r" twice)" -eq 0 ]
    check "$r was in to the end" [ "$(tally "$r" last)" -eq "$(tally b1 last)" ]
done
check "the other branch lost nothing" unhurt b1
conclude
