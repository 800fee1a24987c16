# The pair of programs written for the native library: built against the one that `native`
# (programs.sh) put in place, and run with relays between. Sourced by lib.sh. Is not the
# library's tests (src/flexcast/tests).
# shellcheck shell=bash

# native_pair TARGET...: builds of it in $WORK, see legacy-apps/native/Makefile.
native_pair() { make -s -C "$ROOT/legacy-apps/native" OUT="$WORK" "$@"; }

# pair ID COUNT RATE SENDER RECEIVER...: COUNT datagrams to a1, a2, b1 and b2, which ask
# before the sender is there; of several RECEIVERs each host takes the next. Programs that
# take longer than others to start have $STARTUP seconds.
pair() {
    local id=$1 count=$2 rate=$3 sender=$4 h n before
    shift 4
    head -c $((1316 * (count - 1) + 600)) /dev/urandom >f
    for h in a1 a2 b1 b2; do
        bg "$h" "$h-$id" sh -c "exec $1 >$h-$id.o"
        [ $# -eq 1 ] || shift
    done
    mkfifo "in-$id"
    chmod a+r "in-$id"
    bg s "send-$id" sh -c "exec $sender <in-$id"
    exec 9>"in-$id"
    await "r1 has asked for both branches" 20 eval '[ "$(requesters r1 | wc -l)" -eq 2 ]'
    await "r2 has both" "${STARTUP:-5}" eval '[ "$(requesters r2 | wc -l)" -eq 2 ]'
    await "r3 has both" "${STARTUP:-5}" eval '[ "$(requesters r3 | wc -l)" -eq 2 ]'
    before=$(datagrams r1 1316)
    feed f "$rate" >&9
    exec 9>&-
    await "the sender ends" 10 ended "send-$id"
    check "with status 0" reap "send-$id"
    for h in a1 a2 b1 b2; do
        await "$h ends with the stream" 5 ended "$h-$id"
        check "with status 0" reap "$h-$id"
        check "$h has the file" cmp f "$h-$id.o"
    done
    n=$(($(datagrams r1 1316) - before))
    check "the sender's link carried one copy: $n whole datagrams of $count" \
        eval '[ "$n" -ge $((count - 1)) ] && [ "$n" -le $((count + 1)) ]'
    # The next sender takes whatever is asked for first.
    await "r1 asks for it no more" 5 eval '! asks_for "#$id"'
}
asks_for() { on r1 "$FLEXCAST" status | grep -F "$1" >/dev/null; }

# feed FILE RATE: five datagrams' worth at a time, RATE datagrams a second. An unprivileged
# receive queue holds some 180, which is how long a receiver may wait for its turn.
feed() {
    python3 -c '
import sys, time
data, rate = open(sys.argv[1], "rb").read(), int(sys.argv[2])
for at in range(0, len(data), 6580):
    sys.stdout.buffer.write(data[at : at + 6580])
    sys.stdout.buffer.flush()
    time.sleep(5 / rate)
' "$@"
}

# passing_rules HOST: what hands a relay written for the library the requests that pass
# HOST, and ICMP errors about the streams that it sends as their senders; as in
# legacy-apps/README.md.
passing_rules() {
    on "$1" nft -f - <<NFT
table inet passing {
    chain pre {
        type filter hook prerouting priority mangle; policy accept;
        udp dport $FP udp sport != $FP @th,64,40 0xf1eca50101 fib daddr type unicast \
            tproxy to :$FP meta mark set meta mark & 0xffffff0f | 0x50 accept
        icmp type destination-unreachable @th,224,16 $FP meta mark set meta mark & 0xffffff0f | 0x50
        icmpv6 type { destination-unreachable, packet-too-big } @th,384,16 $FP \
            meta mark set meta mark & 0xffffff0f | 0x50
    }
}
NFT
    for family in -4 -6; do
        ip -n "$1" "$family" rule add fwmark 0x50/0xf0 ipproto udp dport $FP lookup 7450
        ip -n "$1" "$family" route add local default dev lo table 7450
    done
    ip -n "$1" -4 rule add fwmark 0x50/0xf0 ipproto icmp lookup 7450
    ip -n "$1" -6 rule add fwmark 0x50/0xf0 ipproto ipv6-icmp lookup 7450
}

# passing HOST NAME PROGRAM: a relay written for the library, beside its rules; started,
# and seen to have the port of requests.
passing() {
    bg_on "$1" "$2" "$3"
    await "$2 at $1 has the port of requests" 5 eval "on $1 grep -q ':$(printf %04X $FP) ' /proc/net/udp"
}
