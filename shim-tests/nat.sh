#!/usr/bin/env bash
# Receivers behind a NAT (nftables masquerade) below a relay: requests open the way,
# the stream comes back through it. Then a relay starts on the NAT router itself.
# The control: without a request nothing gets in.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
host n c d
link r2 n 10.98.60
link n c 192.168.1
link n d 192.168.2
forwarding n
for h in n c d; do count_on "$h"; done
route n default 10.98.60.1
route c default 192.168.1.1
route d default 192.168.2.1
route r1 10.98.60.0/24 10.98.1.2
on n nft -f - <<'NFT'
table ip nat {
    chain post { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }
}
table ip guard {
    chain through {
        type filter hook forward priority 0; policy accept;
        iifname "eth0" ct state new drop
    }
}
NFT
three_relays

flex s push "$WORK/push" -r 200 239.1.1.1 5000
for h in c d; do flex "$h" "$h" "$WORK/join" -b 4000000 -k 239.1.1.1 5000; done
for h in c d; do await "the stream reaches $h" 5 streaming "$h"; done
check "the relay sees the router's address, twice" \
    eval '[ "$(requesters r2 10.98.60.2: | wc -l) $(requesters r2 192.168 | wc -l)" = "2 0" ]'
route s 192.168.0.0/16 10.98.0.2
route r1 192.168.0.0/16 10.98.1.2
route r2 192.168.0.0/16 10.98.60.2
check "the NAT router answers, but nobody gets in unasked" \
    eval '{ on s ping -c 1 -W 1 10.98.60.2 && ! on s ping -c 1 -W 1 192.168.1.2; } >ping.out 2>&1'
sleep 12 # a refresh later
for h in c d; do check "$h is still fed" eval "streaming $h; sleep 0.1; streaming $h"; done

relay n
await "the relay on the NAT router feeds both" 15 eval '[ "$(requesters n | wc -l)" -eq 2 ]'
check "by their own addresses" eval '[ "$(requesters n 192.168 | wc -l)" -eq 2 ]'
sleep 2
n=$(copies n)
check "$n tenths of a copy to the NAT router" eval '[ "$n" -ge 8 ] && [ "$n" -le 12 ]'
for h in c d; do
    leave "$h"
    check "$h lost nothing" unhurt "$h"
    check "$h was fed all along" [ "$(tally "$h" received)" -gt 2500 ]
done
await "the NAT router's link is silent" 1.5 silent n
conclude
