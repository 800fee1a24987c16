#!/usr/bin/env bash
# The programs of this directory without Flexcast: two network namespaces, one
# veth link, kernel multicast, each way of joining against each way of sending.
#
# Promises: needs no root (user namespaces), leaves nothing behind, and exits
# non-zero when one case fails. Is not a test of Flexcast.
set -euo pipefail
cd "$(dirname "$0")"
if [ "${VERIFY_INSIDE:-}" != "$$" ]; then
    # exec keeps the process id, so the variable cannot be inherited by mistake.
    exec unshare -Urnm --kill-child bash -c 'mount -t tmpfs none /run && VERIFY_INSIDE=$$ exec bash "$0"' "$PWD/verify.sh"
fi
make -s all
work=$(mktemp -d)
jobs_started=()
cleanup() {
    for pid in "${jobs_started[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

mkdir -p /run/netns
ip netns add there
ip link add eth0 type veth peer name eth0 netns there
ip addr add 10.9.0.1/24 dev eth0
ip -6 addr add fd09::1/64 dev eth0 nodad
ip link set eth0 up
ip link set lo up
ip route add 224.0.0.0/4 dev eth0
ip -n there addr add 10.9.0.2/24 dev eth0
ip -n there -6 addr add fd09::2/64 dev eth0 nodad
ip -n there link set eth0 up
ip -n there link set lo up
ip -n there route add 224.0.0.0/4 dev eth0

failures=0
# verdict NAME STATUS
verdict() {
    if [ "$2" = 0 ]; then echo "ok     $1"; else echo "not ok $1"; failures=$((failures + 1)); fi
}

# await_joined LOG: the receiver says so; 5 s at most.
await_joined() {
    for _ in $(seq 100); do
        grep -q joined "$1" 2>/dev/null && return 0
        sleep 0.05
    done
    cat "$1"
    return 1
}

# numbered NAME WANTED-RECEIVED "JOIN-ARGS" PUSH...: 200 datagrams at 1000/s.
numbered() {
    local name=$1 wanted=$2 join_args=$3
    shift 3
    # shellcheck disable=SC2086 # several words are meant
    ip netns exec there timeout 20 ./join -k $join_args >"$work/out" 2>"$work/log" &
    local pid=$!
    jobs_started+=("$pid")
    await_joined "$work/log"
    sleep 0.1
    "$@" 2>/dev/null
    sleep 0.4
    # timeout passes the signal on to join.
    kill -TERM "$pid"
    wait "$pid" || true
    local line
    line=$(cat "$work/out")
    local status=1
    case "$line" in "received $wanted, lost 0, twice 0, reordered 0,"*) status=0 ;; esac
    verdict "$name: $line" "$status"
}

P="-n 200 -r 1000"
# shellcheck disable=SC2086
{
    numbered "any source, IP_ADD_MEMBERSHIP" 200 "239.1.1.1 5000" ./push $P 239.1.1.1 5000
    numbered "any source, MCAST_JOIN_GROUP, recvmsg" 200 "-g -i eth0 -m recvmsg 239.1.1.1 5000" ./push $P -c 239.1.1.1 5000
    numbered "bound to any, poll" 200 "-a -m poll 239.1.1.1 5000" ./push $P -i eth0 239.1.1.1 5000
    numbered "one source, IP_ADD_SOURCE_MEMBERSHIP" 200 "-S 10.9.0.1 232.1.1.1 5000" ./push $P 232.1.1.1 5000
    numbered "one source, MCAST_JOIN_SOURCE_GROUP" 200 "-S 10.9.0.1 -g -i eth0 232.1.1.1 5000" ./push $P 232.1.1.1 5000
    numbered "another source gets nothing" 0 "-S 10.9.0.77 232.1.1.1 5000" ./push $P 232.1.1.1 5000
    numbered "IPv6, IPV6_JOIN_GROUP" 200 "-i eth0 ff3e::1:1 5000" ./push $P -i eth0 ff3e::1:1 5000
    numbered "IPv6, MCAST_JOIN_GROUP" 200 "-g -i eth0 ff3e::1:1 5000" ./push $P -i eth0 ff3e::1:1 5000
    numbered "IPv6, one source" 200 "-S fd09::1 -i eth0 ff3e::1:1 5000" ./push $P -i eth0 ff3e::1:1 5000
    numbered "unicast" 200 "10.9.0.2 5000" ./push $P 10.9.0.2 5000
    numbered "push.py to join" 200 "239.1.1.1 5000" ./push.py $P 239.1.1.1 5000
}

# The checker's own control: it must see what is missing.
ip netns exec there timeout 20 ./join -k -w 1 239.1.1.1 5000 >"$work/out" 2>"$work/log" &
pid=$!
jobs_started+=("$pid")
await_joined "$work/log"
python3 - <<'PY'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in (5, 6, 9, 9, 8):
    s.sendto(n.to_bytes(8, "big"), ("239.1.1.1", 5000))
PY
wait "$pid" || true
grep -q "received 5, lost 1, twice 1, reordered 1, .*first 5, last 9" "$work/out" && status=0 || status=1
verdict "the checker sees loss, doubles and disorder: $(cat "$work/out")" "$status"

head -c 200000 /dev/urandom >"$work/in"
for receiver in "./join -w 1 -o" "./join.py -w 1 -o"; do
    # shellcheck disable=SC2086
    ip netns exec there timeout 20 $receiver "$work/copy" 239.1.1.1 5000 2>"$work/log" &
    pid=$!
    jobs_started+=("$pid")
    await_joined "$work/log"
    ./push -f "$work/in" -r 1000 239.1.1.1 5000 2>/dev/null
    wait "$pid" || true
    cmp -s "$work/in" "$work/copy" && status=0 || status=1
    verdict "a file by ${receiver%% *}" "$status"
done
# A plain server and its client, each way of waiting.
for client in "./call" "./call -m poll" "./call -m epoll" "./call -u"; do
    timeout 20 ./serve.py -f "$work/in" -r 1000 10.9.0.1 5000 >"$work/hello" &
    pid=$!
    jobs_started+=("$pid")
    until ss -Hlun 'sport = 5000' | grep -q .; do sleep 0.05; done
    # shellcheck disable=SC2086
    ip netns exec there timeout 20 $client -o "$work/copy" 10.9.0.1 5000 2>"$work/log" || true
    wait "$pid" || true
    cmp -s "$work/in" "$work/copy" && grep -q "200000 bytes, end" "$work/log" &&
        grep -q "^hello from 10.9.0.2 " "$work/hello" && status=0 || status=1
    verdict "a file by $client" "$status"
done

# The pair that speaks TCP: three clients of one server, each from quote 150 on.
ip netns exec there timeout 20 ./quotes 5000 300 300 2>"$work/log" &
quotes=$!
jobs_started+=("$quotes")
for _ in $(seq 100); do ! grep -q listening "$work/log" || break; sleep 0.05; done
tickers=()
for n in 1 2 3; do
    timeout 20 ./ticker 10.9.0.2 5000 150 >"$work/ticker$n" 2>/dev/null &
    tickers+=("$!")
    jobs_started+=("$!")
done
status=0
for pid in "${tickers[@]}" "$quotes"; do wait "$pid" || status=1; done
./quotes -p 300 | tail -n +151 >"$work/wanted"
for n in 1 2 3; do cmp -s "$work/ticker$n" "$work/wanted" || status=1; done
[ "$(grep -c ^client "$work/log")" -eq 3 ] || status=1
verdict "quotes and ticker, three connections" "$status"
[ "$failures" -eq 0 ]
