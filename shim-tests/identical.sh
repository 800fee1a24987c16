#!/usr/bin/env bash
# The stream's datagrams, trailer included, are the same bytes on every link of the
# tree, and come from the sender's address. Read by tap.py on each link.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

links=(r1 r2 r3 a1 b3)
for h in "${links[@]}"; do bg_on "$h" "tap-$h" "$WORK/tap.py" eth0 "$FP" 1332; done
for h in "${links[@]}"; do await "the tap at $h listens" 5 says "tap-$h" listening; done
for r in a1 b3; do flex "$r" "$r" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
for r in a1 b3; do await "$r joins" 5 says "$r" joined; done
flex_for 2 239.1.1.1 s push "$WORK/push" -n 400 -r 200 239.1.1.1 5000
await "the sender ends" 20 ended push
check "with status 0" reap push
sleep 0.3
for r in a1 b3; do check "$r has all" complete "$r" 400; done

for h in "${links[@]}"; do
    stop "tap-$h"
    await "the tap at $h ends" 2 ended "tap-$h"
    # The end of the stream is a datagram too (kind 3): said three times, but by a
    # process that exits at least once.
    grep ' ........01f1eca5$' "tap-$h.out" >"data-$h" || true
    grep ' ........03f1eca5$' "tap-$h.out" >"end-$h" || true
    ends=$(wc -l <"end-$h")
    check "$h: 400 datagrams, each another" \
        eval '[ "$(wc -l <"data-'"$h"'") $(sort -u "data-'"$h"'" | wc -l)" = "400 400" ]'
    check "$h: the end, $ends times" eval '[ "$ends" -ge 1 ] && [ "$ends" -le 3 ]'
    check "$h: nothing else" [ "$(wc -l <"tap-$h.out")" -eq $((400 + ends)) ]
    check "$h: the same bytes as on the sender's link, in order" cmp data-r1 "data-$h"
    check "$h: the same end" eval 'cmp <(sort -u end-r1) <(sort -u end-'"$h"')'
done
conclude
