#!/usr/bin/env bash
# A relay of the native library's two halves, at r2, under 500 datagrams a second and below
# a real one: started in a live path it takes over exactly; killed with -9, its rules still
# there, it leaves a gap that the heartbeat bounds; started again it takes over exactly;
# when its rules are taken away, the real one does.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
native
native_pair all
relay r1

# begin STAGE, end STAGE: a stream of its own for each, so that its losses are told apart.
begin() {
    flex s "push-$1" "$WORK/push" -r 500 239.1.1.1 5000
    for r in a1 a2 b1; do flex "$r" "$r" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
    for r in a1 a2 b1; do await "$1: the stream reaches $r" 5 streaming "$r"; done
}
end() {
    stop "push-$1"
    await "$1: the sender ends" 2 ended "push-$1"
    sleep 0.3
    for r in a1 a2 b1; do leave "$r"; done
    for r in a1 a2; do check "$1: $r was in to the end" [ "$(tally "$r" last)" -eq "$(tally b1 last)" ]; done
    check "$1: the other branch lost nothing" unhurt b1
}
one() { [ "$1" -ge 8 ] && [ "$1" -le 12 ]; }

begin started
passing_rules r2
passing r2 relay-r2 ./relay
# Receivers refresh every 10 s, 20 % to either side; only then does it see them.
await "r1 feeds r2 in their stead" 15 eval '[ "$(requesters r1 10.98.1. | wc -l)" -eq 1 ] && [ "$(requesters r1 | wc -l)" -eq 2 ]'
sleep 2
n=$(copies r2)
check "one copy to r2: $n tenths" one "$n"
end started
for r in a1 a2; do check "$r lost nothing and had nothing twice" unhurt "$r"; done

begin killed
await "r1 feeds r2 alone" 5 eval '[ "$(requesters r1 | wc -l)" -eq 2 ]'
sleep 1
stop relay-r2 KILL
await "the relay is gone" 1 ended relay-r2
for r in a1 a2; do streaming "$r" || true; done
await "the stream is back at a1 and a2" 5 eval 'streaming a1 && streaming a2'
passing r2 relay-again ./relay
await "r1 feeds r2 again" 15 eval '[ "$(requesters r1 | wc -l)" -eq 2 ]'
sleep 2
end killed
for r in a1 a2; do
    gap=$(tally "$r" 'longest gap')
    figure "outage at $r" "$gap" ms
    check "$r's outage was $gap ms" [ "$gap" -le 4500 ]
    check "$r lost what fell into it: $(tally "$r" lost)" [ "$(tally "$r" lost)" -le $((gap / 2 + 100)) ]
    check "$r got nothing twice" [ "$(tally "$r" twice)" -eq 0 ]
done

begin replaced
await "r1 feeds r2 alone" 5 eval '[ "$(requesters r1 | wc -l)" -eq 2 ]'
# The rules go first: requests pass, and find r1.
on r2 nft delete table inet passing
await "r1 feeds both itself" 15 eval '[ "$(requesters r1 | grep -c 10.98.1[12])" -eq 2 ]'
await "r2 has left" 4 eval '! requesters r1 10.98.1. >/dev/null'
end replaced
for r in a1 a2; do check "$r lost nothing and had nothing twice" unhurt "$r"; done
check "the relay lives, and says nothing" eval '! ended relay-again && [ ! -s relay-again.log ]'
conclude
