#!/usr/bin/env bash
# Receivers before the sender, which waits for nobody. Where no process of its host
# holds the port yet, they are in within 1.5 s of its start; where one does, their
# requests are kept there, and the very first datagram reaches them.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

for r in a1 b1; do flex "$r" "$r" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
for r in a2 b2; do flex "$r" "$r" "$WORK/join" -b 4000000 -k 239.1.1.2 5000; done
for r in a1 b1 a2 b2; do await "$r joins" 5 says "$r" joined; done
sleep 2.5 # by now all of them have asked in vain, at intervals of a second
check "nothing streams without a sender" eval 'silent a1 && silent b1'

started=$(milliseconds)
flex s first "$WORK/push" -n 1600 -r 200 239.1.1.1 5000
await "the stream reaches a1 and b1" 2.5 eval 'streaming a1 && streaming b1'
figure "first datagram after the sender's start" $(($(milliseconds) - started)) ms

# Each relay asks every second (20 % to either side), and is answered now.
sleep 1.5
flex s second "$WORK/push" -n 400 -r 200 239.1.1.2 5000
await "the second sender ends" 10 ended second
check "with status 0" reap second
await "the first sender ends" 10 ended first
sleep 0.3
for r in a2 b2; do check "$r has the second stream from its very first datagram" complete "$r" 400; done
for r in a1 b1; do
    leave "$r"
    check "$r lost nothing after its first, $(tally "$r" first)" unhurt "$r"
    check "$r has the last one" [ "$(tally "$r" last)" -eq 1599 ]
    check "$r missed at most 2.5 s" [ "$(tally "$r" first)" -le 500 ]
done
conclude
