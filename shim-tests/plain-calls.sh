#!/usr/bin/env bash
# What strace sees of a receiver under the shim: the receive calls that it would make
# anyway, each with the payload's own length; no control datagram among them; and
# no wake-up for a forged datagram. By recv, and by poll and recvfrom.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

# traced HOST ARGUMENTS...: join, each thread's calls in a file of its own.
traced() {
    local host=$1
    shift
    flex_traced "$host" "$WORK/join" -b 4000000 -k "$@" 239.1.1.1 5000
}
MAP='239.1.0.0/16=10.98.0.1'
traced a1
traced a2 -m poll
for r in a1 a2; do await "$r joins" 10 says "$r" joined; done
guest a1
flex_for 2 239.1.1.1 s push "$WORK/push" -n 500 -r 100 239.1.1.1 5000
await "the stream reaches a1" 12 streaming a1
await "the stream reaches a2" 12 streaming a2

# From the sender's address and port, with a trailer, to the very sockets: but the
# token is a guess.
for r in a1 a2; do
    to=$(requesters r2 "10.98.1${r#a}.2:")
    bg_on r2 "forge-$r" "$WORK/forge.py" stream --as "10.98.0.1:$FP" --to "$to" --token 1234567 -n 100
    await "100 datagrams are forged to $to" 5 ended "forge-$r"
    check "they went out" grep -q '^sent 136000 bytes' "forge-$r.out"
done
await "the sender ends" 20 ended push
sleep 0.5
for r in a1 a2; do
    kill "$(program "$r")"
    await "$r ends" 5 ended "$r"
    check "$r counts 500 whole: $(cat "$r.out")" grep -q '^received 500, lost 0, twice 0, .*foreign 0$' "$r.out"
done

# calls HOST: the receive calls of the thread that runs the program itself.
calls() { grep -hE '^(recv|recvfrom|recvmsg|read)\(' "$(own "$1")" | after_joining; }
own() { grep -l 'write(2, "joined' "$WORK/trace-$1".*; }
# The signal that ends it interrupts the last one.
after_joining() { grep -vE '^read\(|EINTR|ERESTARTSYS'; }
for r in a1 a2; do
    calls "$r" >"calls-$r"
    total=$(wc -l <"calls-$r") whole=$(grep -c ' = 1316 <' "calls-$r" || true)
    idle=$(grep -c ' = -1 EAGAIN .*<0.\(1[5-9]\|[2-9]\)' "calls-$r" || true)
    check "$r: $whole receive calls returned the payload's length" [ "$whole" -eq 500 ]
    check "$r: the other $idle waited their time out (SO_RCVTIMEO)" [ $((whole + idle)) -eq "$total" ]
    check "$r: they are the program's own call" \
        eval '! grep -vE "^recvfrom\([0-9]+, .*, 65536, 0, " "calls-$r"'
    # Nobody else in the process takes payloads in its stead.
    check "$r: no other thread received 1316 or 1332 bytes" \
        eval '! grep -lE "^(recv|read).* = (1316|1332) <" "$WORK/trace-$r".* | grep -vxF "$(own "$r")"'
done
ready=$(grep -c '^poll(.* = 1 ' "$(own a2)")
check "a2: poll woke $ready times for 500 datagrams" [ "$ready" -eq 500 ]
conclude
