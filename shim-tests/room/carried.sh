# What links carry, and what they lose on purpose. Sourced by lib.sh.
# Promises: counters are the kernel's (nftables); nothing is lost but what `lose` says.
# shellcheck shell=bash

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

# copies HOST [SIZE]: tenths of a copy of the stream that the link to HOST carried in two
# seconds, by what the sender's link carried meanwhile. That one is read before and
# after, as reading takes its time on a busy machine.
copies() {
    local size=${2:-1316} sent at
    sent=-$(datagrams r1 "$size") at=-$(datagrams "$1" "$size") sent=$((sent - $(datagrams r1 "$size")))
    sleep 2
    sent=$((sent + $(datagrams r1 "$size"))) at=$((at + $(datagrams "$1" "$size"))) sent=$((sent + $(datagrams r1 "$size")))
    echo $((at * 20 / (sent > 0 ? sent : 1)))
}
