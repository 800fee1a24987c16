#!/usr/bin/env bash
# multicat, unmodified, through two relays: it paces a transport stream by its clock,
# and the file is the same at three receivers.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

transport_stream a.ts 3
ingests -p 256 a.ts 2>ingests.log
receivers=(a1 a2 b1)
for r in "${receivers[@]}"; do flex "$r" "$r" multicat -u @239.1.1.1:5000 "$r.ts"; done
guest a1
bg s push "$FLEXCAST" run --map "$MAP" --wait-for 239.1.1.1:5000=3 -- multicat -u -U a.ts 239.1.1.1:5000/ttl=4
await "the sender ends" 30 ended push
check "with status 0" reap push
for r in "${receivers[@]}"; do same_file "$r" "$r.ts" a.ts; done
conclude
