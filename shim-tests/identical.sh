#!/usr/bin/env bash
# The stream's datagrams, trailer included, are the same bytes on every link of the
# tree, and come from the sender's address. Read by tap.py on each link.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays
cp "$ROOT/shim-tests/tap.py" "$WORK"

links=(r1 r2 r3 a1 b3)
for h in "${links[@]}"; do bg_on "$h" "tap-$h" "$WORK/tap.py" eth0 "$FP" 1332; done
for h in "${links[@]}"; do await "the tap at $h listens" 5 says "tap-$h" listening; done
for r in a1 b3; do flex "$r" "$r" "$WORK/join" -k 239.1.1.1 5000; done
for r in a1 b3; do await "$r joins" 5 says "$r" joined; done
MAP='239.1.0.0/16=10.98.0.1,empty=wait:2:10'
flex s push "$WORK/push" -n 400 -r 400 239.1.1.1 5000
await "the sender ends" 20 ended push
check "with status 0" reap push
sleep 0.3
for r in a1 b3; do check "$r has all" complete "$r" 400; done

for h in "${links[@]}"; do
    stop "tap-$h"
    await "the tap at $h ends" 2 ended "tap-$h"
    # The end of the stream is a datagram too, sent three times; its kind is 3.
    grep ' ........01f1eca5$' "tap-$h.out" >"data-$h" || true
    grep ' ........03f1eca5$' "tap-$h.out" >"end-$h" || true
    check "$h: 400 datagrams, each another" \
        eval '[ "$(wc -l <"data-'"$h"'") $(sort -u "data-'"$h"'" | wc -l)" = "400 400" ]'
    check "$h: and the end, three times the same" \
        eval '[ "$(wc -l <"end-'"$h"'") $(sort -u "end-'"$h"'" | wc -l)" = "3 1" ]'
    check "$h: nothing else" [ "$(wc -l <"tap-$h.out")" -eq 403 ]
    check "$h: the same bytes as on the sender's link, in order" cmp data-r1 "data-$h"
    check "$h: the same end" cmp end-r1 "end-$h"
done
conclude
