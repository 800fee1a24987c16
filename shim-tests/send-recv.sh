#!/usr/bin/env bash
# The program's own sender and receivers, `flexcast send` and `flexcast recv`, through
# two relays: a file by channel number and by group, from a file and a pipe, with the
# receivers' own counts; and together with an ordinary receiver under the shim.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

head -c $((1316 * 999 + 600)) /dev/urandom >f
# sent_to JOBS...: the sender has ended, and each has the file and nothing lost.
sent_to() {
    await "the sender ends" 20 ended send
    check "with status 0" reap send
    for r in "$@"; do
        await "$r ends at the stream's end" 5 ended "$r"
        check "with status 0" reap "$r"
        check "$r has the file" cmp f "$r.o"
        check "$r counts: $(tail -n 1 "$r.log")" \
            grep -q '1000 datagrams, 1315284 bytes, 0 lost, 0 duplicates' "$r.log"
    done
}
for r in a1 b1; do bg "$r" "$r" "$FLEXCAST" recv -e -o "$r.o" 10.98.0.1#77; done
bg s send "$FLEXCAST" send --rate 1000pps --wait 2:10 self#77 f
await "a1 asks in its own port" 5 streaming a1
check "the sender is neither root nor has it a capability" unprivileged send
sent_to a1 b1
n=$(datagrams r1 1316)
check "the sender's link carried one copy: some $n datagrams" eval '[ "$n" -ge 999 ] && [ "$n" -le 1001 ]'

rules=(--map 239.1.0.0/16=10.98.0.1)
bg a2 a2 "$FLEXCAST" recv "${rules[@]}" -e -o a2.o 239.1.1.5:5000
flex b2 shim "$WORK/join" -o shim.o 239.1.1.5 5000
bg s send sh -c 'cat f | "$0" send "$@"' "$FLEXCAST" "${rules[@]}" --rate 1000pps --wait 2:10 239.1.1.5:5000
sent_to a2
sleep 0.5
stop shim
await "it ends" 2 ended shim
check "whole" cmp f shim.o

status=0
plain a3 "$FLEXCAST" recv -q -t 1 10.98.0.1#78 >none.o 2>none.log || status=$?
check "nothing on air: status 1, not $status, and a reason: $(cat none.log)" \
    eval '[ "$status" -eq 1 ] && [ -s none.log ] && [ ! -s none.o ]'
conclude
