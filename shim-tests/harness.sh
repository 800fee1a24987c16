#!/usr/bin/env bash
# The room itself, without Flexcast: a plain unicast stream through the tree is
# counted on each link, lost as told, and sent by a program without capabilities.
# Not a test of Flexcast: it tells a broken room from a broken program.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
legacy
topo_tree

bg a1 first "$WORK/join" -k 10.98.11.2 5000
bg b3 second "$WORK/join" -k 10.98.23.2 5000
await "both are there" 5 eval 'says first joined && says second joined'
check "an endpoint is neither root nor has it a capability" unprivileged first
plain s "$WORK/push" -n 300 -r 2000 10.98.11.2 5000
await "all of them arrive" 5 eval '[ "$(counted a1 unicast)" -eq 300 ]'
check "each link of the way carried 300" \
    eval '[ "$(counted r1 unicast) $(counted r2 unicast)" = "300 300" ]'
check "the other branch carried none" eval '[ "$(counted r3 unicast)$(counted b3 unicast)" = 00 ]'

lose r3 50 unicast
plain s "$WORK/push" -n 400 -r 2000 10.98.23.2 5000
sleep 0.3
check "half are lost: $(counted b3 unicast) of 400 arrived" \
    eval '[ "$(counted b3 unicast)" -gt 120 ] && [ "$(counted b3 unicast)" -lt 280 ]'
lose r3 0 unicast
before=$(counted b3 unicast)
plain s "$WORK/push" -n 100 -r 2000 10.98.23.2 5000
await "loss taken back, 100 of 100 arrive" 5 eval '[ $(($(counted b3 unicast) - before)) -eq 100 ]'

stop first
await "a program that ends is seen to" 2 ended first
check "with its own status" reap first
check "the receiver's own count: $(cat "$WORK/first.out")" \
    grep -q '^received 300, lost 0, twice 0, reordered 0,' "$WORK/first.out"
bg a2 grouped "$WORK/join" -k 239.1.1.1 5000
await "a receiver joins a group" 5 says grouped joined
at_r1=$(counted r1 unicast)
plain s "$WORK/push" -n 50 -r 1000 239.1.1.1 5000
await "a push to the group leaves the sender" 5 eval '[ $(($(counted r1 unicast) - at_r1)) -eq 50 ]'
check "and no router takes it further: no multicast here" \
    eval '[ "$(counted a2 unicast) $(counted r2 unicast)" = "0 300" ]'
conclude
