#!/usr/bin/env bash
# The sender's link carries one copy whatever the number of receivers: 1, 6, 60.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

leaves=(a1 b1 a2 b2 a3 b3)
# audience COUNT: that many receivers, over the six hosts in turn, have 300 datagrams.
audience() {
    local n host job jobs=() before packets carried missing=0
    for n in $(seq 0 $(($1 - 1))); do
        host=${leaves[$((n % 6))]} job=$1-$n
        flex "$host" "$job" "$WORK/join" -b 1000000 -k "239.1.1.$1" 5000
        jobs+=("$job")
    done
    for job in "${jobs[@]}"; do await "$job joins" 20 says "$job" joined >/dev/null; done
    before=$(datagrams r1 1316)
    flex_for "$1" "239.1.1.$1" s "push-$1" "$WORK/push" -n 300 -r 100 "239.1.1.$1" 5000
    await "the sender to $1 ends" 30 ended "push-$1"
    check "with status 0" reap "push-$1"
    sleep 0.5
    carried=$(($(datagrams r1 1316) - before))
    check "$1 receivers: the sender's link carried $carried datagrams of 300" [ "$carried" -eq 300 ]
    for job in "${jobs[@]}"; do
        stop "$job" 2>/dev/null || true
        reap "$job" || true
        grep -q '^received 300, lost 0, twice 0, reordered 0,.*foreign 0$' "$job.out" ||
            { missing=$((missing + 1)); echo "       $job: $(cat "$job.out")"; }
    done
    check "$1 receivers: $missing of them miss something" [ "$missing" -eq 0 ]
}
for count in 1 6 60; do audience "$count"; done
conclude
