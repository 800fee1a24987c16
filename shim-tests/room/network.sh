# Hosts, links and routes of a topic. Sourced by lib.sh.
# Promises: everything is made inside the topic's own namespaces. Is not traffic.
# shellcheck shell=bash

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
