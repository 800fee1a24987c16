#!/usr/bin/env bash
# A relay is drained (SIGTERM) under 2 000 datagrams a second and started again:
# nothing lost, nothing twice, and one copy on each link 2 s after it took over.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

flex s push "$WORK/push" -r 2000 239.1.1.1 5000
receivers=(a1 a2 b1)
for r in "${receivers[@]}"; do flex "$r" "$r" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
for r in "${receivers[@]}"; do await "the stream reaches $r" 5 streaming "$r"; done

one() { [ "$1" -ge 8 ] && [ "$1" -le 12 ]; }

n=$(copies r2)
check "before: the link to relay 2 carries $n tenths of a copy" one "$n"
from=$(milliseconds)
stop relay-r2 TERM
await "relay 2 has drained and ended" 11 ended relay-r2
figure "drain" $(($(milliseconds) - from)) ms
check "with status 0" reap relay-r2
check "nothing is left of its capture" \
    eval '! on r2 nft list tables | grep -q flexcast && ! on r2 ip rule | grep -q 7450'
# Without it relay 1 feeds two receivers over that link.
n=$(copies r2)
check "without: $n tenths" eval '[ "$n" -ge 17 ] && [ "$n" -le 23 ]'

relay r2
# Receivers refresh every 10 s, 20 % to either side; only then does it see them.
await "relay 2 feeds both again" 15 eval '[ "$(requesters r2 | wc -l)" -eq 2 ]'
sleep 2
n=$(copies r2)
check "2 s later: $n tenths of a copy to relay 2" one "$n"
n=$(copies a1)
check "and $n to a1" one "$n"
stop push
await "the sender ends" 2 ended push
sleep 0.3
for r in "${receivers[@]}"; do
    leave "$r"
    figure "lost by $r" "$(tally "$r" lost)" datagrams
    figure "twice at $r" "$(tally "$r" twice)" datagrams
    check "$r lost nothing and had nothing twice" unhurt "$r"
    last=${last:-$(tally "$r" last)}
    check "$r was in to the end" [ "$(tally "$r" last)" -eq "$last" ]
done
conclude
