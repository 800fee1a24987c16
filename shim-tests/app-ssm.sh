#!/usr/bin/env bash
# Source-specific joins by unmodified multicat and ffmpeg, through two relays: the file
# that multicat sends is the same at each.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

transport_stream a.ts 3
ingests -p 256 a.ts 2>ingests.log
flex a1 a1 multicat -u 10.98.0.1@232.1.1.6:5000 a1.o
flex b1 b1 multicat -u 10.98.0.1@232.1.1.6:5000 b1.o
flex a2 a2 ffmpeg -v error -nostdin -f data -i 'udp://232.1.1.6:5000?sources=10.98.0.1&timeout=20000000' -map 0 -c copy -f data -y a2.o
guest a1
guest a2
bg s push "$FLEXCAST" run --map "$MAP" --wait-for 232.1.1.6:5000=3 -- multicat -u -U a.ts 232.1.1.6:5000/ttl=4
await "the sender ends" 30 ended push
check "with status 0" reap push
for r in a1 b1; do same_file "$r" "$r.o" a.ts; done
# ffmpeg writes its last block when its timeout ends it.
await "a2 ends" 30 ended a2
check "a2: sha256 $(sha256sum <a2.o | cut -c 1-16), as sent" cmp a2.o a.ts
conclude
