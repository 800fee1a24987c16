#!/usr/bin/env bash
# A link of 1280 bytes behind a router below the last relay. Over IPv4 the router cuts
# datagrams; over IPv6 it complains to the sender's address, and the relay that
# sends in the sender's name must hear it and cut them itself.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
host m c
link r2 m 10.98.50 fd98:50
link m c 10.98.51 fd98:51
forwarding m
for h in m c; do count_on "$h"; done
on m ip link set eth1 mtu 1280
on c ip link set eth0 mtu 1280
route m default 10.98.50.1
route c default 10.98.51.1
route r2 10.98.51.0/24 10.98.50.2
route r1 10.98.50.0/23 10.98.1.2
ip -n m -6 route add default via fd98:50::1
ip -n c -6 route add default via fd98:51::1
ip -n r2 -6 route add fd98:51::/64 via fd98:50::2
ip -n r1 -6 route add fd98:51::/64 via fd98:1::2
three_relays
check "1000 bytes pass that link in one piece, 1316 do not" \
    eval '{ on s ping -c 1 -W 1 -M do -s 1000 10.98.51.2 && ! on s ping -c 1 -W 1 -M do -s 1316 10.98.51.2; } >ping.out 2>&1'

MAP='239.1.0.0/16=10.98.0.1 [ff3e::8000:0]/96=fd98:0::1'
flex c four "$WORK/join" -b 4000000 -k 239.1.1.1 5000
flex c six "$WORK/join" -b 4000000 -k -i eth0 ff3e::8000:1 5000
flex a1 near "$WORK/join" -b 4000000 -k -i eth0 ff3e::8000:1 5000
for r in four six near; do await "$r joins" 5 says "$r" joined; done
flex s push4 "$WORK/push" -r 200 239.1.1.1 5000
flex s push6 "$WORK/push" -r 200 -i eth0 ff3e::8000:1 5000
await "the stream reaches c" 5 streaming c
await "relay 2 feeds c, over both" 5 \
    eval '[ "$(requesters r2 10.98.51.2 | wc -l) $(requesters r2 "[fd98:51::2]" | wc -l)" = "1 1" ]'
sleep 3
stop push4
stop push6
await "the IPv4 sender ends" 2 ended push4
await "the IPv6 sender ends" 2 ended push6
sleep 0.3
for r in four six near; do leave "$r"; done
check "IPv4: nothing lost" unhurt four
check "IPv6: nothing lost once it came" unhurt six
check "IPv6: it came within a second" [ "$(tally six first)" -le $(($(tally near first) + 200)) ]
check "IPv6: and to the end" [ "$(tally six last)" -eq "$(tally near last)" ]
check "a receiver on a wide link is not concerned" unhurt near
conclude
