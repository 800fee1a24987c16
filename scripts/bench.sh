#!/usr/bin/env bash
# What Flexcast costs, in ratios: scripts/bench.sh [TURNS]
#
#   receive   thread CPU time per recv of an unmodified program, under the shim against
#             plain kernel multicast, on one link
#   relay     CPU time per copy with 1, 10 and 100 receivers, against a plain loop of
#             recv and sendto in the relay's place, both driven flat out
#   send      CPU time of all threads per copy of a program that is flat out, through
#             flexcast_send to 1, 10 and 100 requesters, against a plain loop of sendto;
#             and, at 1 000 datagrams a second to 100, how long after the call each came to
#             the last one, and how much of that a batch took
#
# Promises: alternates the two sides of each ratio TURNS times (default 5), sender and
# receiver (or relay) on processors of their own (flexcast_send's threads on all there
# are); prints medians with the least and the largest value, and writes target/bench.json.
# Needs no root. Is not a test: nothing fails here but a copy of `send` that did not arrive,
# and absolute figures are this machine's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${SHIM_TEST_INSIDE:-}" != "$$" ]; then
    [[ ${1:-5} =~ ^[1-9][0-9]*$ ]] || { echo "TURNS is '$1': expected a number from 1" >&2; exit 2; }
    [ "$(nproc)" -ge 2 ] || { echo "needs two processors" >&2; exit 1; }
    cargo build --release --workspace --manifest-path "$here/../Cargo.toml"
fi
# shellcheck source=shim-tests/lib.sh
. "$here/../shim-tests/lib.sh"
ours
native
make -s -C "$ROOT/legacy-apps/native" OUT="$WORK" "$WORK/flood"
turns=${1:-5}
sending=$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//') # the first processor we may use
working=$((sending + 1))

host s r c
link s r 10.98.0
link r c 10.98.1
link s c 10.98.2
route s 10.98.1.0/24 10.98.0.2
route c 10.98.0.0/24 10.98.1.1
for h in s c; do on $h ip route add 224.0.0.0/4 dev eth1; done
forwarding r
# The crowd's host drops the stream at its door: that host's work is not the relay's, but
# on a veth pair it would be done, and counted, in the relay's thread.
on c nft -f - <<'NFT'
table ip door {
    counter arrived { }
    chain pre {
        type filter hook prerouting priority -400;
        iifname "eth0" udp dport 20000-20999 ip dscp 0 drop
        iifname "eth1" udp dport { 21000-21098, 22000-22999 } ip dscp 0 udp length != 24 counter name arrived drop
    }
}
NFT
await() { # as lib.sh's, but only a deadline missed is worth a line
    local what=$1 limit=$2 from
    shift 2
    from=$(milliseconds)
    while ! "$@" 2>/dev/null; do
        [ $(($(milliseconds) - from)) -le $((limit * 1000)) ] || { echo "$what: not within $limit s"; exit 1; }
        sleep 0.02
    done
}

# --- receive: eth1 joins the two hosts directly; both send by the group's address.
count=40000
receive() {
    local under=()
    [ "$1" = plain ] || under=("$FLEXCAST" run --map 239.1.0.0/16=10.98.2.1 --)
    bg c drain taskset -c "$working" "${under[@]}" ./drain $count 239.1.1.1 5000
    await "a receiver" 10 says drain joined
    bg s push taskset -c "$sending" "${under[@]}" ./push -r 12000 239.1.1.1 5000
    await "its $count datagrams" 60 ended drain
    reap drain
    stop push
    reap push || true
    sed -n "s/.* \([0-9.]*\) ns each/receive $1 1 \1/p" drain.out >>results
}
# --- relay
relayed() {
    local pid cpu copies
    bg_on r relay-r taskset -c "$working" "$FLEXCAST" relay
    await "the relay" 5 says relay-r capturing
    bg s push taskset -c "$sending" "$FLEXCAST" run --map 239.1.0.0/16=10.98.0.1 -- ./push -r 0 239.1.1.1 5000
    bg c crowd ./crowd.py --ask "10.98.0.1:$FP" --channel 239.1.1.1:5000 20000 "$1"
    await "$1 receivers" 20 says crowd "there are"
    pid=${PIDS[relay-r]}
    sleep 0.5
    cpu=$(spent "$pid") copies=$(status_of r 'r["copies_sent"]')
    sleep 3
    cpu=$(($(spent "$pid") - cpu)) copies=$(($(status_of r 'r["copies_sent"]') - copies))
    for job in push crowd relay-r; do
        stop $job
        await "$job" 12 ended $job
        reap $job || true
    done
    echo "relay flexcast $1 $(awk -v c="$cpu" -v n="$copies" 'BEGIN { printf "%.1f", c / n }')" >>results
}
spent() { cat /proc/"$1"/task/*/schedstat | awk '{ ns += $1 } END { printf "%d\n", ns }'; }
looped() {
    bg c crowd ./crowd.py 20000 "$1"
    await "$1 sockets" 10 says crowd "there are"
    bg r loop taskset -c "$working" ./loop 6000 10.98.1.2 20000 "$1"
    await "the loop" 5 says loop listening
    bg s push taskset -c "$sending" ./push -r 0 10.98.0.2 6000
    sleep 3.5
    for job in loop push crowd; do
        stop $job
        await "$job" 5 ended $job
        reap $job || true
    done
    sed -n "s/.* \([0-9.]*\) ns each/relay loop $1 \1/p" loop.out >>results
}
# --- send: over eth1 again.
# flooded SIDE FIRST COUNT [OPTION...]: three seconds of flood to a crowd of COUNT ports.
flooded() {
    local side=$1 first=$2 count=$3 to ask=() time=() size=1316 packets bytes datagrams spent copies
    shift 3
    [ "$first" -ne 21000 ] || time=(--time)
    to=(10.98.2.2 "$first" "$count")
    [ "$side" = loop ] || { to=($((0xEF010101 << 16 | 5000))) size=1332; }
    bg s flood ./flood "$@" "${to[@]}"
    if [ "$side" = flexcast ]; then
        await "flood" 10 says flood listening
        ask=(--ask "10.98.2.1:$FP" --channel 239.1.1.1:5000)
    fi
    bg c crowd ./crowd.py "${ask[@]}" "${time[@]}" "$first" "$count"
    await "$count sockets" 20 says crowd "there are"
    await "flood" 10 says flood ready
    on c nft reset counter ip door arrived >/dev/null
    stop flood USR1
    sleep 3
    stop flood
    await "flood" 12 ended flood
    reap flood
    sleep 0.3
    stop crowd
    await "crowd" 12 ended crowd
    reap crowd
    read -r datagrams spent < <(sed -n 's/^sent \([0-9]*\) datagrams, \([0-9]*\) ns/\1 \2/p' flood.out)
    read -r packets bytes < <(on c nft list counter ip door arrived | sed -n 's/.*packets \([0-9]*\) bytes \([0-9]*\).*/\1 \2/p')
    # As lib.sh's `datagrams`: a segmented send is one packet with one header.
    copies=$(((bytes - packets * 28) / size))
    if [ "$first" -eq 21000 ]; then
        grep -E '^-?[0-9]+ [01]$' crowd.out | sed "s/^/$side $turn /" >>ways
        copies=$((copies + $(grep -cE '^-?[0-9]+ [01]$' crowd.out)))
    else
        echo "send $side $count $(awk -v ns="$spent" -v n=$((datagrams * count)) 'BEGIN { printf "%.1f", ns / n }')" >>results
    fi
    echo "$side $((datagrams * count)) $((datagrams * count - copies))" >>lost
}
for turn in $(seq "$turns"); do
    for n in 1 10 100; do
        flooded loop 22000 $n
        flooded flexcast 22000 $n
    done
    flooded loop 21000 100 -r 1000
    flooded flexcast 21000 100 -r 1000
    receive plain
    receive shim
    for n in 1 10 100; do
        looped $n
        relayed $n
    done
    [ ! -t 2 ] || printf . >&2
done
[ ! -t 2 ] || echo >&2
mkdir -p "$ROOT/target"
python3 - results "$ROOT/target/bench.json" <<'PY'
import collections, json, statistics, sys
runs = collections.defaultdict(list)
for line in open(sys.argv[1]):
    what, side, receivers, nanoseconds = line.split()
    runs[what, int(receivers), side].append(float(nanoseconds))

def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"

report = []
print(f"CPU time per datagram or copy: median (least to largest) of {len(next(iter(runs.values())))} turns\n")
for what, receivers, ours, theirs, told in [
    ("receive", 1, "shim", "plain", "recv under the shim : plain recv"),
    *(("relay", n, "flexcast", "loop", f"relay, {n} receivers : recv+sendto loop") for n in (1, 10, 100)),
    *(("send", n, "flexcast", "loop", f"flexcast_send, {n} requesters : sendto loop") for n in (1, 10, 100)),
]:
    a, b = runs[what, receivers, ours], runs[what, receivers, theirs]
    ratios = [x / y for x, y in zip(a, b)]
    print(f"{told:46} {spread(a, '.0f'):>24} ns : {spread(b, '.0f'):>24} ns = {spread(ratios, '.3f')}")
    report.append({"what": told, "receivers": receivers, "ours_ns": a, "theirs_ns": b,
                   "ratio_median": statistics.median(ratios), "ratios": ratios})

# --- how long after the call, by turn
ways = collections.defaultdict(list)
for line in open("ways"):
    side, turn, way, joined = line.split()
    ways[side, int(turn)].append((int(way) / 1000, joined == "1"))
turns = sorted({turn for _, turn in ways})
alone = statistics.median(way for (side, _), all in ways.items() if side == "flexcast" for way, joined in all if not joined)
print("\nFrom the call to the last of 100, 1 000 datagrams a second: median (least to largest) of the turns, µs\n")
for side in ("flexcast", "loop"):
    at = [sorted(way for way, _ in ways[side, turn]) for turn in turns]
    quantiles = {q: [v[min(len(v) - 1, int(len(v) * q))] for v in at] for q in (0.5, 0.99, 0.999, 1)}
    told = {"flexcast": "flexcast_send", "loop": "sendto loop"}[side]
    print(f"{told:14}", ", ".join(f"{'max' if q == 1 else f'p{q * 100:g}'} {spread(v, '.0f')}" for q, v in quantiles.items()))
    report.append({"what": f"way, {told}", "quantiles_us": quantiles})
# What came in one packet with another one waited for it; all else was sent by itself.
joined = [way - alone for turn in turns for way, joined in ways["flexcast", turn] if joined]
total = sum(len(ways["flexcast", turn]) for turn in turns)
longest = max(joined, default=0.0)
print(f"in a batch with others: {len(joined)} of {total}; the longest wait that a batch added: {longest:.0f} µs")
report.append({"what": "batched, paced", "batched": len(joined), "of": total, "longest_added_us": longest})

lost = collections.Counter()
for line in open("lost"):
    side, copies, missing = line.split()
    lost[side, "copies"] += int(copies)
    lost[side, "lost"] += int(missing)
print("\n" + ", ".join(f"{side}: {lost[side, 'lost']} of {lost[side, 'copies']} copies lost" for side in ("flexcast", "loop")))
report.append({"what": "lost", "flexcast": lost["flexcast", "lost"], "loop": lost["loop", "lost"]})
json.dump(report, open(sys.argv[2], "w"), indent=1)
sys.exit(lost["flexcast", "lost"] != 0)
PY
