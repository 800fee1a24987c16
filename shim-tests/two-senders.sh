#!/usr/bin/env bash
# Two sender processes on one host share the port of requests. The one that receives
# on it is stopped, woken, killed: the other's receivers miss nothing, and new ones
# get in within 4 s (a second's margin here). No relays: each request must reach the
# sender's host.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree

flex s owner "$WORK/push" -r 200 239.1.1.1 5000
flex a1 a1 "$WORK/join" -b 4000000 -k 239.1.1.1 5000
await "the first sender's stream reaches a1" 5 streaming a1
flex s other "$WORK/push" -r 200 239.1.1.2 5000
flex b1 b1 "$WORK/join" -b 4000000 -k 239.1.1.2 5000
await "the second sender's stream reaches b1" 5 streaming b1

# newcomer HOST STATE: a receiver that joins the second sender's stream now.
newcomer() {
    local from
    from=$(milliseconds)
    flex "$1" "$1" "$WORK/join" -b 4000000 -k 239.1.1.2 5000
    await "a new receiver gets in while the first is $2" 5 streaming "$1"
    figure "join while the port's holder is $2" $(($(milliseconds) - from)) ms
}
newcomer a2 running
stop owner STOP
newcomer a3 stopped
check "the stopped one sends nothing" silent a1
stop owner CONT
await "woken, it sends again" 3 streaming a1
newcomer b2 woken
stop owner KILL
await "it is gone" 1 ended owner
newcomer b3 killed

# The other way round: the port's holder now outlives the other.
flex s third "$WORK/push" -r 200 239.1.1.3 5000
flex a1 third-in "$WORK/join" -b 4000000 -k 239.1.1.3 5000
await "a third sender's stream reaches a1" 5 streaming a1
stop third KILL
await "and ends when it is killed" 2 silent a1
sleep 1
stop other
await "the second sender ends" 2 ended other
sleep 0.2
for r in b1 a2 a3 b2 b3; do
    leave "$r"
    check "$r missed nothing" unhurt "$r"
    last=${last:-$(tally "$r" last)}
    check "$r was in to the end" [ "$(tally "$r" last)" -eq "$last" ]
done
check "b1's longest gap was $(tally b1 'longest gap') ms" [ "$(tally b1 'longest gap')" -lt 1000 ]
conclude
