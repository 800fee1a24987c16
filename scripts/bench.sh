#!/usr/bin/env bash
# What Flexcast costs, in ratios: scripts/bench.sh [TURNS]
#
#   receive   thread CPU time per recv of an unmodified program, under the shim against
#             plain kernel multicast, on one link
#   relay     CPU time per copy with 1, 10 and 100 receivers, against a plain loop of
#             recv and sendto in the relay's place, both driven flat out
#
# Promises: alternates the two sides of each ratio TURNS times (default 5), sender and
# receiver (or relay) on processors of their own; prints medians with the least and the
# largest value, and writes target/bench.json. Needs no root. Is not a test: nothing
# fails here, and absolute figures are this machine's.
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
    chain pre { type filter hook prerouting priority -400; iifname "eth0" udp dport 20000-20999 ip dscp 0 drop; }
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
    bg c drain taskset -c $working "${under[@]}" ./drain $count 239.1.1.1 5000
    await "a receiver" 10 says drain joined
    bg s push taskset -c $sending "${under[@]}" ./push -r 12000 239.1.1.1 5000
    await "its $count datagrams" 60 ended drain
    reap drain
    stop push
    reap push || true
    sed -n "s/.* \([0-9.]*\) ns each/receive $1 1 \1/p" drain.out >>results
}
# --- relay
relayed() {
    local pid cpu copies
    bg_on r relay-r taskset -c $working "$FLEXCAST" relay
    await "the relay" 5 says relay-r capturing
    bg s push taskset -c $sending "$FLEXCAST" run --map 239.1.0.0/16=10.98.0.1 -- ./push -r 0 239.1.1.1 5000
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
    bg r loop taskset -c $working ./loop 6000 10.98.1.2 20000 "$1"
    await "the loop" 5 says loop listening
    bg s push taskset -c $sending ./push -r 0 10.98.0.2 6000
    sleep 3.5
    for job in loop push crowd; do
        stop $job
        await "$job" 5 ended $job
        reap $job || true
    done
    sed -n "s/.* \([0-9.]*\) ns each/relay loop $1 \1/p" loop.out >>results
}
for _ in $(seq "$turns"); do
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
]:
    a, b = runs[what, receivers, ours], runs[what, receivers, theirs]
    ratios = [x / y for x, y in zip(a, b)]
    print(f"{told:38} {spread(a, '.0f'):>24} ns : {spread(b, '.0f'):>24} ns = {spread(ratios, '.3f')}")
    report.append({"what": told, "receivers": receivers, "ours_ns": a, "theirs_ns": b,
                   "ratio_median": statistics.median(ratios), "ratios": ratios})
json.dump(report, open(sys.argv[2], "w"), indent=1)
PY
