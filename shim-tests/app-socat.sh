#!/usr/bin/env bash
# socat, unmodified, through two relays: a file pushed flat out is the same at three
# receivers. 140 datagrams fit a default receive queue.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

head -c $((1316 * 139 + 700)) /dev/urandom >f
receivers=(a1 a2 b1)
for r in "${receivers[@]}"; do
    flex "$r" "$r" socat -u -b 2048 UDP4-RECV:5000,bind=239.1.1.2,reuseaddr,rcvbuf=4000000,ip-add-membership=239.1.1.2:eth0 "OPEN:$r.o,creat,trunc"
done
guest a1
MAP='239.1.0.0/16=10.98.0.1,empty=wait:3'
flex s push socat -u -b 1316 OPEN:f UDP4-DATAGRAM:239.1.1.2:5000,ip-multicast-ttl=4
guest push
await "the sender ends" 20 ended push
check "with status 0" reap push
for r in "${receivers[@]}"; do same_file "$r" "$r.o" f; done
check "one copy on the sender's link: $(counted r1 stream bytes) bytes" \
    [ "$(counted r1 stream bytes)" -lt $((140 * 1450)) ]
conclude
