#!/usr/bin/env bash
# A server that listens and accepts on a datagram socket, which the kernel alone does not
# let it: an audience of programs of both kinds through three relays, the next one, one that
# goes away in mid-stream, and nobody at all, by each way of waiting. Natively, on a stream
# socket, the same server says the same of nobody.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays
# shellcheck disable=SC2034 # flex reads it
MAP='10.98.0.1:5000 [fd98:0::1]:5000'
head -c $((1316 * 599 + 600)) /dev/urandom >f
chmod a+r f

# asking COUNT: the relay at r1 knows of so many receivers that wait, or receive.
asking() { on r1 "$FLEXCAST" status --json | grep -q "\"receivers_below\": $1,"; }
# audience ADDRESS: two of `flexcast recv` and two that call, each waiting otherwise.
audience() {
    local n
    for n in a1 b1; do bg "$n" "$n" "$FLEXCAST" recv -e -o "$n.o" "$1#5000"; done
    flex a2 a2 "$WORK/call" -b 4000000 -o a2.o "$1" 5000
    flex b2 b2 "$WORK/call" -b 4000000 -m poll -o b2.o "$1" 5000
    await "four ask, below r1" 5 asking 4
}

audience 10.98.0.1
flex s server "$WORK/listen" -f f -r 500 -a 2 10.98.0.1 5000
for turn in first next; do
    before=$(datagrams r1 1316)
    [ $turn = first ] || audience 10.98.0.1
    if [ $turn = first ]; then
        guest server
        # The port is taken, whatever SO_REUSEADDR says.
        flex s second "$WORK/listen" 10.98.0.1 5000
        await "a second server ends" 5 ended second
        check "with status 1" eval '! reap second'
        check "since the port is taken: $(cat second.log)" grep -q 'bind 10.98.0.1 5000: Address already in use' second.log
    fi
    for r in a1 b1 a2 b2; do
        await "$r ends with the stream" 10 ended "$r"
        check "with status 0" reap "$r"
        check "$r has the file of the $turn turn" cmp f "$r.o"
    done
    n=$(($(datagrams r1 1316) - before))
    check "one copy on the sender's link: $n datagrams of 600" eval '[ "$n" -ge 599 ] && [ "$n" -le 601 ]'
done
await "the server has served two, and ends" 5 ended server
check "with status 0" reap server
check "each by one accept" [ "$(grep -c '^accepted from 10.98.* at 10.98.0.1 5000' server.log)" -eq 2 ]
check "of the whole file: $(tail -n 1 server.log)" [ "$(grep -cx 'sent 600' server.log)" -eq 2 ]

# An audience that goes in mid-stream: EPIPE, no signal, end-of-file; then the next one.
# What streamed before is not what is waited for.
for r in a1 b1 a3; do streaming $r || true; done
flex s server "$WORK/listen" -m epoll -r 200 10.98.0.1 5000
bg a1 a1 "$FLEXCAST" recv -o a1.o 10.98.0.1#5000
await "the stream reaches a1" 5 streaming a1
bg b1 b1 "$FLEXCAST" recv -o b1.o 10.98.0.1#5000
await "and b1, who is told to nobody" 5 streaming b1
check "the server has accepted once" [ "$(grep -c ^accepted server.log)" -eq 1 ]
stop a1
stop b1
await "it finds nobody, and reads the end of the file" 2.25 says server '^sent [0-9]*, nobody is there; reads 0$'
check "and lives: no signal came" eval '! ended server'
bg a3 a3 "$FLEXCAST" recv -o a3.o 10.98.0.1#5000
await "the next one is accepted, and served" 5 streaming a3
check "by the second accept" [ "$(grep -c ^accepted server.log)" -eq 2 ]
stop server
await "a3 hears of the server's end" 3.5 silent a3
stop a3

# Each way of waiting, over IPv6, with nobody there and with somebody.
for mode in block poll select epoll spin timed; do
    if [ $mode != block ]; then
        for way in native shim; do
            [ $way = shim ] || bg s nobody "$WORK/listen" -t -m $mode -w 1 fd98:0::1 5000
            [ $way = native ] || flex s nobody "$WORK/listen" -m $mode -w 1 fd98:0::1 5000
            await "$mode, $way: the server's patience ends" 3 ended nobody
            status=0
            reap nobody || status=$?
            check "status $status: $(tail -n 1 nobody.log)" eval '[ $status -eq 3 ] && cmp -s <(printf "listening\nnobody within 1 s\n") nobody.log'
        done
    fi
    flex s server "$WORK/listen" -m $mode -n 20 -r 100 -a 1 fd98:0::1 5000
    await "$mode: it listens" 5 says server listening
    bg a1 a1 "$FLEXCAST" recv -e -o a1.o fd98:0::1#5000
    await "$mode: it has served one, and ends" 5 ended server
    check "$mode: with status 0: $(tail -n 1 server.log)" reap server
    await "$mode: a1 ends with the stream" 5 ended a1
    check "$mode: $(tail -n 1 a1.log)" grep -q '^flexcast: 20 datagrams, .* 0 lost, 0 dup' a1.log
    reap a1 || true
done
conclude
