#!/usr/bin/env bash
# Stream datagrams forged under the sender's address and port. While granted: none
# reaches the program, with or without trailer; the control is a forgery with the
# right token, as a node on the path could send. While pending: one passes, as the
# protocol says (the control), and none under `strict`.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

# forged HOST ARGUMENTS...: 50 datagrams to the port that the program at HOST asks from.
forged() {
    local port address
    port=$(on "$1" ss -Huan | awk '{ sub(/.*:/, "", $4); print $4 }' | sort -u | head -n 1)
    address=$(on "$1" ip -4 -o addr show eth0 | sed 's/.*inet \([0-9.]*\).*/\1/')
    shift
    on r2 "$WORK/forge.py" stream --as "10.98.0.1:$FP" --to "$address:$port" -n 50 "$@" >>forged.out
}

# Pending: no sender runs.
flex a1 open "$WORK/join" -b 4000000 -k 239.1.1.1 5000
MAP='239.1.0.0/16=10.98.0.1,strict'
flex a2 strict "$WORK/join" -b 4000000 -k 239.1.1.1 5000
MAP='239.1.0.0/16=10.98.0.1'
for job in open strict; do await "$job joins" 5 says "$job" joined; done
sleep 1
forged a1 --token 1234567
forged a2 --token 1234567
forged a1
forged a2
sleep 0.3
check "all went out" [ "$(grep -c '^sent' forged.out)" -eq 4 ]
check "they arrived at the hosts" \
    eval '[ "$(counted a1 stream) $(counted a2 stream)" = "100 100" ]'
leave open
leave strict
check "pending: what has a trailer passes, what has none does not (control)" [ "$(tally open foreign)" -eq 50 ]
check "pending under strict: nothing passes" [ "$(tally strict foreign)" -eq 0 ]

# Granted.
flex s push "$WORK/push" -r 200 239.1.1.1 5000
flex a1 granted "$WORK/join" -b 4000000 -k 239.1.1.1 5000
flex a2 insider "$WORK/join" -b 4000000 -k 239.1.1.1 5000
await "the stream reaches a1" 5 streaming a1
await "the stream reaches a2" 5 streaming a2
# A member of the channel is told the token: the control needs it.
plain a3 "$WORK/forge.py" join --to "10.98.0.1:$FP" --channel 239.1.1.1:5000 >member.out
token=$(sed -n 's/^granted //p' member.out)
check "a member knows the token" [ "${#token}" -eq 16 ]
: >forged.out
forged a1
forged a1 --token 1234567
forged a1 --token 1234567 --kind end
forged a2 --token "$token"
check "all went out" [ "$(grep -c '^sent' forged.out)" -eq 4 ]
check "a1 is fed on" eval 'streaming a1; sleep 0.2; streaming a1'
leave granted
leave insider
check "granted: nothing forged passes" [ "$(tally granted foreign)" -eq 0 ]
check "and nothing is lost" [ "$(tally granted lost) $(tally granted twice)" = "0 0" ]
check "granted, with the right token: it passes (control)" [ "$(tally insider foreign)" -eq 50 ]
conclude
