#!/usr/bin/env bash
# Requests under somebody else's address: the victim gets challenges, not more bytes
# than were sent, and no stream; no relay keeps an entry or asks upstream. The
# control: the same request from the requester's own address gets in.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
for r in r1 r2 r3; do on "$r" sh -c 'for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done'; done
three_relays
forge=$WORK/forge.py

flex s push "$WORK/push" -r 200 239.1.1.1 5000
flex s push2 "$WORK/push" -r 200 239.1.1.2 5000
await "both senders run" 5 eval 'shim_loaded push && shim_loaded push2'

# From a2's place, as b1 (10.98.21.2), to a channel that nobody has asked for so far.
before=$(counted b1 control bytes) sent=0
# forge FIRST-PORT ARGUMENTS...
forge() {
    bg_on a2 forge "$forge" request --as "10.98.21.2:$1" --to "10.98.0.1:$FP" --channel 239.1.1.1:5000 "${@:2}"
    await "requests of 10.98.21.2:$1 are forged" 10 ended forge
    reap forge
    sent=$((sent + $(sed -n 's/^sent \([0-9]*\) bytes/\1/p' forge.out)))
}
quiet() {
    local got
    sleep 1
    got=$(($(counted b1 control bytes) - before))
    check "the victim got $got bytes for $sent" [ "$got" -le "$sent" ]
    check "and no stream" [ "$(counted b1 stream)" -eq 0 ]
    for r in r1 r2 r3; do
        check "$r keeps nothing" [ "$(status_of $r 'len(r["channels"]), r["requesters"]')" = "(0, 0)" ]
    done
}
forge 30000 --ports -n 500
forge 40000 --ports -n 500 --cookie
quiet
challenged=$(status_of r2 'r["challenges_sent"]')
check "the relay on the way took them: $challenged challenges" [ "$challenged" -gt 500 ]
check "nothing was asked upstream" [ "$(counted s control)" -eq 0 ]
# One that goes on without a cookie is let through, as a relay must not stand in the way
# of those whom its answers do not reach: so the sender's turn.
forge 50000 -n 300 --cookie
quiet
check "the sender's host was asked: $(counted s control) times" [ "$(counted s control)" -gt 100 ]

bg_on a3 honest "$forge" join --to "10.98.0.1:$FP" --channel 239.1.1.1:5000
await "an honest requester is answered" 5 says honest granted
check "and fed" streaming a3
check "it stands in the status of its relay" requesters r2 10.98.13.2:
await "it leaves" 3 ended honest
check "with status 0" reap honest

# An entry that lives is not moved, nor ended, by whoever lacks its nonce.
flex b1 b1 "$WORK/join" -b 4000000 -k 239.1.1.2 5000
await "the victim joins for itself" 5 streaming b1
at=$(requesters r3 10.98.21.2:)
bg_on a2 forge2 "$forge" request --as "$at" --to "10.98.0.1:$FP" --channel 239.1.1.2:5000 -n 100
await "its very address and port are forged" 10 ended forge2
check "it is fed on" eval 'streaming b1; sleep 0.2; streaming b1'
leave b1
check "and lost nothing" unhurt b1
conclude
