# The room of a topic: namespaces, links, counters, endpoints, deadlines. Sourced
# first by each script of this directory, which then runs inside a user, network
# and mount namespace of its own.
#
#            s 10.98.0.1              no multicast anywhere: there is no route
#            |                        for groups and no multicast router
#            r1
#          /    \
#        r2      r3
#      / | \    / | \
#     a1 a2 a3 b1 b2 b3               10.98.11.2 .12.2 .13.2  .21.2 .22.2 .23.2
#
# Promises: needs no root, leaves no process, namespace or file behind, also when
# it fails; endpoints run as user 1000 without any capability, from a folder that
# anyone may read. Exit status 0 passed, 1 failed, 77 skipped with the reason on
# the last line, 75 failed while the whole machine stood still: to be run again. Is
# not a test by itself.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOPIC=$(basename "$0" .sh)
FP=7450
MAP='239.1.0.0/16=10.98.0.1 232.1.0.0/16=10.98.0.1'

# enter COMMAND...: into a user namespace, root there. Root of the machine maps a
# second user, 1000, so that endpoints are truly another user; an ordinary user may
# map only itself, and endpoints get a user namespace of their own (`ENDPOINT`).
enter() {
    local holder both=$'0 0 1\n1000 1000 1'
    [ "$(id -u)" -eq 0 ] || exec unshare -Ur "$@"
    unshare -U sleep 5 &
    holder=$!
    until [ "$(readlink "/proc/$holder/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.01; done
    # cat, as the kernel takes a map in one write only.
    if ! { cat <<<"$both" >"/proc/$holder/uid_map" && cat <<<"$both" >"/proc/$holder/gid_map"; } 2>/dev/null; then
        kill "$holder"
        exec unshare -Ur "$@" # root of a container that has no user 1000
    fi
    # shellcheck disable=SC2016 # for the inner shell
    exec nsenter -U -t "$holder" -S 0 -G 0 sh -c 'kill "$0"; exec "$@"' "$holder" "$@"
}

if [ "${SHIM_TEST_INSIDE:-}" != "$$" ]; then
    # exec keeps the process id, so an inherited variable cannot be mistaken.
    # A process namespace: when its first process ends, the kernel ends all others.
    # shellcheck disable=SC2016 # for the inner shell
    enter unshare -nmpf --mount-proc --kill-child bash -c \
        'mount -t tmpfs -o mode=755 none /run && mkdir /run/netns && SHIM_TEST_INSIDE=$$ exec bash "$@"' \
        - "$(realpath "$0")" "$@"
fi

# In this namespace's own /run: gone with it, whatever kills the topic.
WORK=/run/topic
mkdir -m 1777 "$WORK"
cd "$WORK"
# What another user may run: nothing of the caller's own folders.
[ ! -O /etc ] || PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=$WORK
if grep -q '^ *1000 ' /proc/self/uid_map; then
    ENDPOINT=(setpriv --reuid=1000 --regid=1000 --clear-groups --bounding-set=-all --inh-caps=-all)
else
    ENDPOINT=(unshare --user --map-user=1000 --map-group=1000 --keep-caps
        setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all)
fi
failures=0
declare -A PIDS=() NICS=()

# No deadline means anything while a suspended or swamped machine runs nobody.
watch_the_clock() {
    local before now never
    exec {never}<> <(:)
    before=${EPOCHREALTIME/./}
    while :; do
        read -rt 0.1 -u "$never" || true
        now=${EPOCHREALTIME/./}
        [ $((now - before)) -lt 600000 ] || echo $(((now - before) / 1000)) >>"$WORK/stood-still"
        before=$now
    done
}
watch_the_clock &
PIDS[clock]=$!

finish() {
    local status=$? name
    trap - EXIT
    if [ "$status" -eq 1 ] && [ -s "$WORK/stood-still" ]; then
        echo "the machine stood still for $(tr '\n' ' ' <"$WORK/stood-still")ms: run again"
        status=75
    fi
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        for name in "$WORK"/*.log; do
            [ -s "$name" ] || continue
            printf -- '--- %s\n' "$(basename "$name")"
            tail -n 20 "$name"
        done
    fi
    for name in "${!PIDS[@]}"; do
        kill -9 "${PIDS[$name]}" 2>/dev/null || true
        wait "${PIDS[$name]}" 2>/dev/null || true
    done
    exit "$status"
}
trap finish EXIT

# --- verdicts

# check DESCRIPTION COMMAND...: one line, and the topic fails at its end.
check() {
    local what=$1
    shift
    if "$@"; then
        printf 'ok     %s\n' "$what"
    else
        printf 'not ok %s\n' "$what"
        failures=$((failures + 1))
    fi
}

# await DESCRIPTION SECONDS COMMAND...: polls until COMMAND succeeds; prints the
# figure. A deadline missed ends the topic.
await() {
    local what=$1 limit=$2 from now
    shift 2
    from=$(milliseconds)
    while ! "$@" 2>/dev/null; do
        now=$(milliseconds)
        if [ $((now - from)) -gt "$(awk -v s="$limit" 'BEGIN { printf "%d", s * 1000 }')" ]; then
            printf 'not ok %s: not within %s s\n' "$what" "$limit"
            exit 1
        fi
        sleep 0.02
    done
    printf 'ok     %s: %d ms of %s s\n' "$what" $(($(milliseconds) - from)) "$limit"
}

milliseconds() { printf '%d\n' $(($(date +%s%N) / 1000000)); }

# figure WHAT NUMBER UNIT: what was measured; scripts/soak.sh gathers these lines.
figure() { printf 'figure %s: %s %s\n' "$1" "$2" "$3"; }

# conclude: the last line of each topic.
conclude() { [ "$failures" -eq 0 ]; }

# --- hosts and links

# host NAME...: network namespaces.
host() {
    local name
    for name in "$@"; do
        ip netns add "$name"
        # No detection of duplicate addresses: IPv6 neighbours answer at once.
        on "$name" sh -c 'for d in all default; do
            echo 0 >/proc/sys/net/ipv6/conf/$d/accept_dad
            echo 0 >/proc/sys/net/ipv6/conf/$d/dad_transmits
        done'
        ip -n "$name" link set lo up
        NICS[$name]=0
    done
}

# link A B NET4 [NET6]: a veth pair, A at .1 and B at .2 (::1 and ::2); interfaces
# are eth0, eth1, ... in the order of links. `link s r1 10.98.0 fd98:0`.
link() {
    local a=$1 b=$2 nic_a nic_b end name nic address
    nic_a=eth${NICS[$a]} nic_b=eth${NICS[$b]}
    NICS[$a]=$((NICS[$a] + 1)) NICS[$b]=$((NICS[$b] + 1))
    ip link add "$nic_a" netns "$a" type veth peer name "$nic_b" netns "$b"
    for end in "$a $nic_a 1" "$b $nic_b 2"; do
        read -r name nic address <<<"$end"
        ip -n "$name" addr add "$3.$address/24" dev "$nic"
        [ -z "${4:-}" ] || ip -n "$name" -6 addr add "$4::$address/64" dev "$nic" nodad
        ip -n "$name" link set "$nic" up
    done
}

# route HOST DESTINATION VIA, for either family.
route() { ip -n "$1" route add "$2" via "$3"; }

# forwarding HOST...: routers.
forwarding() {
    local name
    for name in "$@"; do
        on "$name" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    done
}

# topo_tree: the drawing above. IPv6 likewise: fd98:0::1, fd98:11::2, ...
topo_tree() {
    local r n
    host s r1 r2 r3 a1 a2 a3 b1 b2 b3
    link s r1 10.98.0 fd98:0
    link r1 r2 10.98.1 fd98:1
    link r1 r3 10.98.2 fd98:2
    for n in 1 2 3; do
        link r2 "a$n" "10.98.1$n" "fd98:1$n"
        link r3 "b$n" "10.98.2$n" "fd98:2$n"
        route "a$n" default "10.98.1$n.1"
        route "b$n" default "10.98.2$n.1"
        ip -n "a$n" -6 route add default via "fd98:1$n::1"
        ip -n "b$n" -6 route add default via "fd98:2$n::1"
        for r in 1 2; do
            route r1 "10.98.$r$n.0/24" "10.98.$r.2"
            ip -n r1 -6 route add "fd98:$r$n::/64" via "fd98:$r::2"
        done
    done
    route s default 10.98.0.2
    ip -n s -6 route add default via fd98:0::2
    for r in 1 2; do
        route "r$((r + 1))" default "10.98.$r.1"
        ip -n "r$((r + 1))" -6 route add default via "fd98:$r::1"
    done
    forwarding r1 r2 r3
    for n in r1 r2 r3 a1 a2 a3 b1 b2 b3 s; do count_on "$n"; done
}

# packets_are_datagrams: segmented sends are cut into datagrams before each link of the
# tree, as they are before a wire; counters then count datagrams.
packets_are_datagrams() {
    local h nic
    for h in "${!NICS[@]}"; do
        for nic in $(seq 0 $((NICS[$h] - 1))); do ip -n "$h" link set dev "eth$nic" gso_max_segs 1; done
    done
}

# --- what links carry

# count_on HOST: counts what arrives on eth0, towards the receivers' side, and on
# all interfaces for control. Ends of streams (24 bytes of UDP) are left out. A
# segmented send counts its bytes, not its packets, so datagrams are read as bytes
# over the known datagram size (`datagrams`).
count_on() {
    on "$1" nft -f - <<NFT
table inet count {
    counter stream { }
    counter control { }
    counter unicast { }
    chain pre {
        type filter hook prerouting priority -350; policy accept;
        iifname "eth0" udp sport $FP udp length != 24 ip dscp 0 counter name stream
        iifname "eth0" udp sport $FP udp length != 24 ip6 dscp 0 counter name stream
        ip dscp cs6 meta l4proto udp counter name control
        ip6 dscp cs6 meta l4proto udp counter name control
        iifname "eth0" meta l4proto udp udp sport != $FP udp dport != $FP counter name unicast
    }
}
table inet lossy {
    counter lost { }
    chain pre {
        type filter hook prerouting priority -340; policy accept;
    }
}
NFT
}

# counted HOST stream|control|unicast [packets|bytes]
counted() {
    on "$1" nft list counter inet count "$2" |
        sed -n "s/.*packets \([0-9]*\) bytes \([0-9]*\).*/\1 \2/p" |
        awk -v what="${3:-packets}" '{ print what == "bytes" ? $2 : $1 }'
}

# lose HOST PERCENT control|stream|unicast: of what arrives at HOST; 0 takes it back.
lose() {
    on "$1" nft flush chain inet lossy pre
    [ "$2" -gt 0 ] || return 0
    case $3 in
    control) set -- "$1" "$2" "ip dscp cs6 meta l4proto udp" ;;
    stream) set -- "$1" "$2" "udp sport $FP ip dscp 0" ;;
    unicast) set -- "$1" "$2" "udp sport != $FP udp dport != $FP" ;;
    esac
    on "$1" nft add rule inet lossy pre "$3" numgen random mod 100 '<' "$2" counter name lost drop
}
# dropped HOST: how many `lose` took so far.
dropped() { on "$1" nft list counter inet lossy lost | sed -n 's/.*packets \([0-9]*\) .*/\1/p'; }

# --- programs

on() {
    local name=$1
    shift
    ip netns exec "$name" "$@"
}

# plain HOST COMMAND...: as an ordinary user's program runs, without any capability.
plain() {
    local name=$1
    shift
    ip netns exec "$name" "${ENDPOINT[@]}" "$@"
}

# bg HOST NAME COMMAND...: in the background; output in $WORK/NAME.out and .log,
# pid in ${PIDS[NAME]}. `bg_on` keeps the capabilities (relays).
bg() {
    local name=$1 job=$2
    shift 2
    bg_on "$name" "$job" "${ENDPOINT[@]}" "$@"
}
bg_on() {
    local name=$1 job=$2
    shift 2
    ip netns exec "$name" "$@" >"$WORK/$job.out" 2>"$WORK/$job.log" </dev/null &
    PIDS[$job]=$!
}

# ended NAME: whether the program is gone; reap NAME: its exit status.
ended() { ! kill -0 "${PIDS[$1]}" 2>/dev/null; }
reap() {
    local pid=${PIDS[$1]}
    unset "PIDS[$1]"
    wait "$pid"
}
# stop NAME [SIGNAL]
stop() { kill -"${2:-TERM}" "${PIDS[$1]}"; }

says() { grep -q -- "$2" "$WORK/$1.log" "$WORK/$1.out"; }

# program NAME: the pid of the program itself: `flexcast run --wait-for` and strace
# stay as its parent, everything else becomes it.
program() {
    local child
    child=$(pgrep -P "${PIDS[$1]}" | head -n 1)
    echo "${child:-${PIDS[$1]}}"
}
# Neither root (in its own user namespace, where it has one) nor any capability.
unprivileged() {
    local proc
    proc=/proc/$(program "$1")
    [ "$(grep -cE '^Cap(Inh|Prm|Eff|Bnd|Amb):[[:space:]]*0*$' "$proc/status")" -eq 5 ] &&
        { [ "$(stat -c %u "$proc")" -ne 0 ] ||
            [ "$(readlink "$proc/ns/user")" != "$(readlink /proc/self/ns/user)" ]; }
}
shim_loaded() { grep -q libflexcast_preload "/proc/$(program "$1")/maps"; }
# guest NAME: a program under the shim, as an ordinary user has it.
guest() {
    await "the shim is in $1" 5 shim_loaded "$1"
    check "$1 is neither root nor has it a capability" unprivileged "$1"
}

# ours: brings the built programs to a folder that anyone may read.
ours() {
    local binary=${FLEXCAST_BIN:-$ROOT/target/release/flexcast}
    local library=${FLEXCAST_PRELOAD:-$ROOT/target/release/libflexcast_preload.so}
    for file in "$binary" "$library"; do
        [ -e "$file" ] || { echo "not ok $file is missing: cargo build --release"; exit 1; }
    done
    "$binary" relay --help >/dev/null 2>&1 || skip "this flexcast has no 'relay'"
    # Exporting no setsockopt, it could not take a join.
    nm -D --defined-only "$library" | grep ' setsockopt$' >/dev/null ||
        skip "this libflexcast_preload.so takes no calls"
    cp "$binary" "$library" "$WORK"
    legacy
    chmod -R a+rX "$WORK"
    FLEXCAST=$WORK/flexcast
}
# legacy: the ordinary programs and the helpers in Python, in $WORK.
legacy() {
    make -s -C "$ROOT/legacy-apps" all
    cp "$ROOT"/legacy-apps/{push,join,drain,loop,push.py,join.py} \
        "$ROOT"/shim-tests/{forge,tap,crowd}.py "$WORK"
}
skip() {
    echo "skipped: $1"
    exit 77
}

# flex HOST NAME COMMAND...: an ordinary program under `flexcast run`, by $MAP.
flex() {
    local name=$1 job=$2 rule rules=()
    shift 2
    for rule in $MAP; do rules+=(--map "$rule"); done
    bg "$name" "$job" "$FLEXCAST" run "${rules[@]}" -- "$@"
}

# flex_for COUNT GROUP HOST NAME COMMAND...: a sender to GROUP, port 5000, started when
# COUNT receivers are there. What paces itself by the clock would otherwise catch up in a
# burst that overflows queues.
flex_for() {
    local count=$1 group=$2 host=$3 job=$4
    shift 4
    bg "$host" "$job" "$FLEXCAST" run --map "$MAP" --wait-for "$group:5000=$count:20" -- "$@"
}

# relay HOST [OPTION...]: started, and seen to capture.
relay() {
    local name=$1
    shift
    bg_on "$name" "relay-$name" "$FLEXCAST" relay "$@"
    await "relay at $name captures" 5 says "relay-$name" capturing
}

# datagrams HOST SIZE [HEADERS]: stream datagrams of SIZE bytes and the trailer that
# arrived. Exact also for segmented sends, which pass a veth as one packet with
# one header: (bytes - packets * headers) / (SIZE + 16). HEADERS: 28, IPv6: 48.
datagrams() {
    local packets bytes
    packets=$(counted "$1" stream)
    bytes=$(counted "$1" stream bytes)
    echo $(((bytes - packets * ${3:-28}) / ($2 + 16)))
}

# streaming HOST: more of the stream has come since the last call for HOST.
declare -A LAST_BYTES=()
streaming() {
    local bytes before=${LAST_BYTES[$1]:-0}
    bytes=$(counted "$1" stream bytes)
    LAST_BYTES[$1]=$bytes
    [ "$bytes" -gt "$before" ]
}
# silent HOST: no stream for 150 ms, from now on.
silent() {
    streaming "$1" || true
    sleep 0.15
    ! streaming "$1"
}

# three_relays: where most topics begin.
three_relays() {
    local name
    for name in r1 r2 r3; do relay "$name"; done
}

# leave NAME: a `join -k` is ended; its line is shown and read by `tally`.
leave() {
    stop "$1" 2>/dev/null || true
    reap "$1" || true
    printf '       %s: %s\n' "$1" "$(cat "$WORK/$1.out")"
}
# tally NAME received|lost|twice|reordered|'longest gap'|first|last|foreign
tally() { sed -n "s/.*\b$2 \([0-9]*\).*/\1/p" "$WORK/$1.out"; }
# unhurt NAME: of the stream between its first and its last nothing is missing.
unhurt() { [ "$(tally "$1" lost) $(tally "$1" twice) $(tally "$1" foreign)" = '0 0 0' ]; }

# complete NAME COUNT: it leaves, and its line says all came, once each, in order.
complete() {
    leave "$1"
    unhurt "$1" && [ "$(tally "$1" received) $(tally "$1" reordered)" = "$2 0" ]
}

# transport_stream FILE SECONDS: MPEG-TS of ffmpeg's test picture and tone, its size a
# multiple of 1316, at most some 200 datagrams a second.
transport_stream() {
    ffmpeg -v error -nostdin -f lavfi -i testsrc2=size=640x360:rate=25 -f lavfi -i sine=frequency=440 \
        -t "$2" -c:v mpeg2video -b:v 1500k -c:a mp2 -f mpegts -y "$1"
    truncate -s $(($(stat -c %s "$1") / 1316 * 1316)) "$1"
}
# same_file NAME COPY ORIGINAL: NAME's program has written all of it, and nothing else.
same_file() {
    await "$1 has $(stat -c %s "$3") bytes" 5 eval "[ \"\$(stat -c %s '$2')\" -ge $(stat -c %s "$3") ]"
    sleep 0.3
    stop "$1" 2>/dev/null || true
    await "$1 ends" 30 ended "$1"
    check "$1: sha256 $(sha256sum <"$2" | cut -c 1-16), as sent" cmp "$2" "$3"
}

# status_of HOST EXPRESSION: of the relay there; EXPRESSION is Python's, over `r`.
status_of() {
    on "$1" "$FLEXCAST" status --json |
        python3 -c 'import json, sys; r = json.load(sys.stdin); print(eval(sys.argv[1]))' "$2"
}
# requesters HOST [ADDRESS]: addresses and ports of those that the relay there feeds.
requesters() {
    status_of "$1" '"\n".join(q["address"] for c in r["channels"] if c["verdict"] == "granted"
        for q in c["requesters"] if not q["standby"])' |
        grep -F -- "${2:-}"
}
