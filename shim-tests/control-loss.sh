#!/usr/bin/env bash
# A fifth of all control datagrams is lost on every link: receivers get in, nothing of
# the stream is lost over 25 s (two refreshes and more), and leaves still end it.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays
hosts=(s r1 r2 r3 a1 a2 a3 b1 b2 b3)
for h in "${hosts[@]}"; do lose "$h" 20 control; done

flex s push "$WORK/push" -r 200 239.1.1.1 5000
receivers=(a1 a2 b1 b2)
for r in "${receivers[@]}"; do flex "$r" "$r" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
for r in "${receivers[@]}"; do await "the stream reaches $r" 6 streaming "$r"; done
sleep 25
total=0
for h in "${hosts[@]}"; do total=$((total + $(dropped "$h"))); done
check "control was lost indeed: $total datagrams" [ "$total" -gt 20 ]
for r in "${receivers[@]}"; do check "$r is still fed" eval "streaming $r; sleep 0.1; streaming $r"; done
for r in "${receivers[@]}"; do
    leave "$r"
    check "$r lost nothing" unhurt "$r"
    check "$r received for 25 s" [ "$(tally "$r" received)" -gt 4500 ]
    check "$r's longest gap was $(tally "$r" 'longest gap') ms" [ "$(tally "$r" 'longest gap')" -lt 1000 ]
done
# Where all three copies of a leave are lost, ICMP and a sign of life end the entry.
await "every link is silent" 5 eval 'silent r1 && silent r2 && silent r3'
check "the sender still runs" eval '! ended push'
conclude
