#!/usr/bin/env bash
# Both ends unmodified, through two relays: a server that listens and accepts on a datagram
# socket, by poll, epoll, non-blocking and with a time limit, and clients that connect to
# it. The first audience gets a file and its end; the next one hangs up under the stream,
# which the server is told; each datagram crosses the sender's link once. A server that
# nobody calls waits no longer than it means to.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays
# shellcheck disable=SC2034 # flex reads it
MAP='10.98.0.1:5000'
head -c $((1316 * 599 + 600)) /dev/urandom >f
chmod a+r f

# asks_at_r1: how many branches have asked relay 1, which has nothing yet.
asks_at_r1() { status_of r1 'sum(len(c["requesters"]) for c in r["channels"])'; }

accepted() { grep -c '^accepted from ' server.log; }
told() { grep -c '^sent [0-9]*, nobody is there; reads 0$' server.log; }

for mode in poll epoll spin timed; do
    callers=(a1 a2 b1)
    waits=('-m poll' '-m epoll' -u)
    for n in 0 1 2; do
        # shellcheck disable=SC2086 # several words are meant
        flex "${callers[$n]}" "${callers[$n]}" "$WORK/call" -b 4000000 ${waits[$n]} -o "$n.o" 10.98.0.1 5000
    done
    await "both branches ask for what is not there yet" 10 eval '[ "$(asks_at_r1)" -eq 2 ]'
    before=$(datagrams r1 1316)
    flex s server "$WORK/listen" -m "$mode" -w 20 -r 500 -f f 10.98.0.1 5000
    guest server
    for n in 0 1 2; do
        await "$mode: ${callers[$n]} ends with the stream" 15 ended "${callers[$n]}"
        check "with status 0" reap "${callers[$n]}"
        check "it has the file: $(cat "${callers[$n]}.log")" cmp f "$n.o"
        check "it says so" grep -qx '10.98.0.1 5000: 600 datagrams, 788884 bytes, end' "${callers[$n]}.log"
    done

    # The relay may have asked once more before they had gone: then that was an audience.
    flex b2 b2 "$WORK/call" -b 4000000 -o b2.o 10.98.0.1 5000
    await "$mode: the next audience's stream reaches b2" 10 streaming b2
    check "it was accepted anew" [ "$(accepted)" -ge 2 ]
    stop b2
    await "the server is told that nobody is there" 2.5 eval '[ "$(told)" -eq $(($(accepted) - 1)) ]'
    await "every link is silent" 1.25 eval 'silent r1 && silent b2'
    stop server
    reap server || true
    reap b2 || true
    n=$(($(datagrams r1 1316) - before)) sent=$(sed -n 's/^sent \([0-9]*\).*/\1/p' server.log | awk "{ n += \$1 } END { print n }")
    check "$mode: the server sent $sent datagrams, and its link carried $n" \
        eval '[ "$n" -ge $((sent - 2)) ] && [ "$n" -le $((sent + 2)) ]'
done

status=0
flex s idle "$WORK/listen" -m timed -w 1 10.98.0.1 5000
await "a server that nobody calls ends" 5 ended idle
reap idle || status=$?
check "with the status of that: $status" [ "$status" -eq 3 ]
conclude
