#!/usr/bin/env bash
# Senders that wait for their receivers: by `--wait-for`, by `empty=wait` in the first
# send, in connect; they go on when the time is over; exit status and signals of the
# program under `flexcast run --wait-for` are the program's own.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays
rule=239.1.0.0/16=10.98.0.1

# late NUMBER: two receivers, one of them 2 s after the other, for group .NUMBER.
late() {
    MAP=$rule
    flex a1 "a1-$1" "$WORK/join" -b 4000000 -k "239.1.1.$1" 5000
    sleep 2
    check "the sender still waits for the second" silent a1
    flex b1 "b1-$1" "$WORK/join" -b 4000000 -k "239.1.1.$1" 5000
}
both() {
    await "the sender ends" 15 ended "push-$1"
    check "with status 0" reap "push-$1"
    sleep 0.3
    for r in a1 b1; do check "$r has all, from the first datagram on" complete "$r-$1" 300; done
}
bg s push-1 "$FLEXCAST" run --map "$rule" --wait-for 239.1.1.1:5000=2:20 -- "$WORK/push" -n 300 -r 200 239.1.1.1 5000
late 1
await "the program starts" 5 shim_loaded push-1
both 1

MAP=$rule,empty=wait:2:20
flex s push-2 "$WORK/push" -n 300 -r 200 239.1.1.2 5000
late 2
both 2

MAP=$rule,empty=wait:2:20
flex s push-3 "$WORK/push" -n 300 -r 200 -c 239.1.1.3 5000
late 3
# It waited in connect, before its own clock began: no burst.
both 3
check "and without a burst: the first second's datagrams came in order of the clock" \
    [ "$(tally a1-3 'longest gap')" -lt 500 ]

# Time over: it goes on as if nobody were asked for.
from=$(milliseconds)
plain s "$FLEXCAST" run --map "$rule" --wait-for 239.1.1.4:5000=1:2 -- "$WORK/push" -n 10 -r 100 239.1.1.4 5000 2>over.log
took=$(($(milliseconds) - from))
check "after 2 s it starts alone: $took ms" eval '[ "$took" -ge 2000 ] && [ "$took" -lt 4000 ]'
check "and sends: $(tail -n 1 over.log)" grep -q '^sent 10$' over.log
from=$(milliseconds)
plain s "$FLEXCAST" run --map "$rule,empty=wait:1:2" -- "$WORK/push" -n 10 -r 100 239.1.1.5 5000 2>over.log
took=$(($(milliseconds) - from))
check "the same by its rule: $took ms" eval '[ "$took" -ge 2000 ] && [ "$took" -lt 4000 ]'

status=0
plain s "$FLEXCAST" run --map "$rule" --wait-for 239.1.1.6:5000=1:1 -- sh -c 'exit 42' 2>/dev/null || status=$?
check "its exit status is the program's: $status" [ "$status" -eq 42 ]
bg s signalled "$FLEXCAST" run --map "$rule" --wait-for 239.1.1.7:5000=1:1 -- "$WORK/push" -r 10 239.1.1.7 5000
await "the program runs" 5 shim_loaded signalled
stop signalled TERM
await "a signal reaches it" 2 says signalled '^sent '
await "and both end" 2 ended signalled
check "with the program's status" reap signalled
conclude
