#!/usr/bin/env bash
# The main job in one command: scripts/demo.sh [FILE]
#
# ffmpeg pushes MPEG-TS (its own test picture, or FILE) to a multicast address in a
# network without multicast; six unmodified receivers join behind three relays.
# Promises: builds what it runs, needs no root, leaves nothing behind; exit status 0
# only when all six received what the same ffmpeg command writes to a file. Is not
# a measurement of speed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${SHIM_TEST_INSIDE:-}" != "$$" ]; then
    "$here/install-tools.sh"
    cargo build --release --workspace --manifest-path "$here/../Cargo.toml"
    [ $# -eq 0 ] || set -- "$(realpath "$1")"
fi
# shellcheck source=shim-tests/lib.sh
. "$here/../shim-tests/lib.sh"
ours
topo_tree
MAP='239.1.0.0/16=10.98.0.1'
group=239.1.1.4 port=5000

cd "$WORK"
if [ $# -gt 0 ]; then
    cp "$1" in
else
    ffmpeg -v error -f lavfi -i testsrc2=size=640x360:rate=25 -f lavfi -i sine=frequency=440 \
        -t 6 -c:v mpeg2video -b:v 1500k -c:a mp2 -f mpegts in
fi
push=(ffmpeg -v error -nostdin -re -i in -map 0 -c copy -t 5 -f mpegts)
"${push[@]}" -y reference.ts
md5=(-map 0 -c copy -f framemd5)
ffmpeg -v error -nostdin -i reference.ts "${md5[@]}" -y reference.md5

three_relays
listen="ip-add-membership=$group:eth0"
url="udp://$group:$port?timeout=20000000"
flex a1 a1 ffmpeg -v error -nostdin -i "$url" "${md5[@]}" -y a1.md5
flex a2 a2 socat -u -b 2048 "UDP4-RECV:$port,bind=$group,reuseaddr,rcvbuf=4000000,$listen" OPEN:a2.ts,creat,trunc
flex a3 a3 multicat -u "@$group:$port" a3.ts
flex b1 b1 ./join -o b1.ts "$group" "$port"
flex b2 b2 ./join.py -o b2.ts "$group" "$port"
flex b3 b3 ffmpeg -v error -nostdin -i "$url" "${md5[@]}" -y b3.md5
bg s push "$FLEXCAST" run --map "$MAP" --wait-for "$group:$port=6" -- \
    "${push[@]}" "udp://$group:$port?pkt_size=1316&ttl=4"
await "the sender ends" 60 ended push
check "with status 0" reap push
sleep 0.5
for r in a1 a2 a3 b1 b2 b3; do
    # ffmpeg reads ahead before it writes: it ends by its own timeout of 20 s.
    case $r in a1 | b3) ;; *) stop "$r" TERM || true ;; esac
    await "$r ends" 30 ended "$r"
done

# frames FILE: columns 1, 5 and 6 of a framemd5 (stream, size, checksum), as one sum.
frames() { grep -v '^#' "$1" | awk -F, '{ print $1 $5 $6 }' | sha256sum | cut -c 1-16; }
bytes() { sha256sum <"$1" | cut -c 1-16; }
printf '\n%-10s %-18s %s\n' receiver received 'written to a file'
for r in a1 a2 a3 b1 b2 b3; do
    if [ -e "$r.md5" ]; then
        got=$(frames "$r.md5") wanted=$(frames reference.md5)
    else
        got=$(bytes "$r.ts") wanted=$(bytes reference.ts)
    fi
    printf '%-10s %-18s %s\n' "$r" "$got" "$wanted"
    check "$r has what ffmpeg writes to a file" [ "$got" = "$wanted" ]
done

# Bytes with headers: a segmented send passes a link here as one packet.
one=$(counted a1 stream bytes)
kb() { printf '%d kB (unicast: %d kB)' $(($(counted "$1" stream bytes) / 1000)) $((one * $2 / 1000)); }
cat <<TREE

  sender
    |  $(kb r1 6)
  relay 1
    +-- relay 2   $(kb r2 3)
    |     +-- a1 ffmpeg     $(kb a1 1)
    |     +-- a2 socat      $(kb a2 1)
    |     +-- a3 multicat   $(kb a3 1)
    +-- relay 3   $(kb r3 3)
          +-- b1 join       $(kb b1 1)
          +-- b2 join.py    $(kb b2 1)
          +-- b3 ffmpeg     $(kb b3 1)
TREE
conclude
