#!/usr/bin/env bash
# iperf 2, unmodified, through two relays: three servers on the group count 0 lost. The
# last datagram, by which a server knows the end, is not among those it counts.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

receivers=(a1 a2 b1)
for r in "${receivers[@]}"; do flex "$r" "$r" iperf -s -u -B 239.1.1.7 -p 5001 -i 1 -f k; done
for r in "${receivers[@]}"; do await "$r listens" 10 shim_loaded "$r"; done
guest a1
MAP='239.1.0.0/16=10.98.0.1,empty=wait:3'
flex s push iperf -c 239.1.1.7 -u -p 5001 -b 4M -t 3 -T 4
guest push
await "the sender ends" 30 ended push
check "with status 0" reap push
sent=$(sed -n 's/.* Sent \([0-9]*\) datagrams.*/\1/p' push.out)
check "it sent ${sent:-nothing}" [ "${sent:-0}" -gt 900 ]
# The line of the whole time has "LOST/TOTAL" in it.
for r in "${receivers[@]}"; do
    await "$r reports" 5 says "$r" '0\.0*-[23]\.[0-9]* sec.*/'
    line=$(grep -E '0\.0*-[23]\.[0-9]* sec.*/' "$r.out" | tail -n 1)
    check "$r: $line" grep -qE "[^0-9]0/ *$((sent - 1)) " <<<"$line"
done
conclude
