#!/usr/bin/env bash
# IPv6 throughout: push and join through two relays, any source and one source, one
# copy on each link. The control: a group that the map does not name stays unheard.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

MAP='[ff3e::8000:0]/96=fd98:0::1'
receivers=(a1 a2 b1 b2)
flex a1 a1 "$WORK/join" -b 4000000 -k -i eth0 ff3e::8000:1 5000
flex a2 a2 "$WORK/join" -b 4000000 -k -g -i eth0 ff3e::8000:1 5000
flex b1 b1 "$WORK/join" -b 4000000 -k -i eth0 -S fd98:0::1 ff3e::8000:1 5000
flex b2 b2 "$WORK/join" -b 4000000 -k -a -i eth0 -m recvmsg -p ff3e::8000:1 5000
flex b3 stranger "$WORK/join" -b 4000000 -k -i eth0 -S fd98:0::77 ff3e::8000:1 5000
for r in "${receivers[@]}" stranger; do await "$r joins" 5 says "$r" joined; done
guest a1
flex_for 4 '[ff3e::8000:1]' s push "$WORK/push" -n 500 -r 200 -i eth0 ff3e::8000:1 5000
await "the sender ends" 20 ended push
check "with status 0" reap push
sleep 0.3
for h in r1 r2 r3 "${receivers[@]}"; do
    n=$(datagrams "$h" 1316 48)
    check "the link to $h carried $n of 500" [ "$n" -eq 500 ]
done
for r in "${receivers[@]}"; do check "$r has all" complete "$r" 500; done
check "the source is the sender's address: $(grep from b2.log)" grep -q '^from fd98::1 port ' b2.log
leave stranger
check "another source's receiver hears none" [ "$(tally stranger received)" -eq 0 ]

# push.py and join.py, with a file.
head -c $((1316 * 200)) /dev/urandom >in
flex a3 copy "$WORK/join.py" -i eth0 -o copy ff3e::8000:2 5000
await "join.py joins" 5 says copy joined
flex_for 1 '[ff3e::8000:2]' s file "$WORK/push.py" -r 200 -f in ff3e::8000:2 5000
await "push.py ends" 20 ended file
sleep 0.3
stop copy
await "join.py ends" 2 ended copy
check "the file is the same" cmp in copy
conclude
