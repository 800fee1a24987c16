#!/usr/bin/env bash
# ffmpeg, unmodified, through two relays: it pushes a transport stream by its clock, and
# three ffmpeg receivers write the same frames (framemd5 columns 1, 5 and 6) as the
# sender's command into a file. Started by --wait-for, and waiting in connect.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

transport_stream in.ts 6
push=(ffmpeg -v error -nostdin -re -i in.ts -map 0 -c copy -t 5 -f mpegts)
"${push[@]}" -y reference.ts
ffmpeg -v error -nostdin -i reference.ts -map 0 -c copy -f framemd5 -y reference.o
frames() { grep -v '^#' "$1" | awk -F, '{ print $1, $5, $6 }'; }
frames reference.o >reference.frames
check "the source has $(wc -l <reference.frames) frames" [ "$(wc -l <reference.frames)" -gt 200 ]

receivers=(a1 a2 b1)
# round GROUP: the three receivers have what the sender, started before, sends.
round() {
    for r in "${receivers[@]}"; do
        flex "$r" "$r-$1" ffmpeg -v error -nostdin -i "udp://$1:5000?timeout=20000000" -map 0 -c copy -f framemd5 -y "$r-$1.o"
    done
    guest "a1-$1"
    await "the sender ends" 40 ended "push-$1"
    check "with status 0" reap "push-$1"
}
bg s push-239.1.1.4 "$FLEXCAST" run --map "$MAP" --wait-for 239.1.1.4:5000=3 -- \
    "${push[@]}" 'udp://239.1.1.4:5000?pkt_size=1316&ttl=4'
round 239.1.1.4
map=$MAP
MAP='239.1.0.0/16=10.98.0.1,empty=wait:3:20'
flex s push-239.1.1.5 "${push[@]}" 'udp://239.1.1.5:5000?pkt_size=1316&ttl=4&connect=1'
MAP=$map
round 239.1.1.5
for group in 239.1.1.4 239.1.1.5; do
    for r in "${receivers[@]}"; do
        # It reads ahead before it writes: a short stream is written at its timeout.
        await "$r ends" 30 ended "$r-$group"
        frames "$r-$group.o" >"$r-$group.frames" || true
        check "$r has the frames of $group: $(wc -l <"$r-$group.frames")" cmp reference.frames "$r-$group.frames"
    done
done
conclude
