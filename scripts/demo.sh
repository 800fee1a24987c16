#!/usr/bin/env bash
# The main job in one command: scripts/demo.sh [FILE]
#
# ffmpeg pushes 5 s of MPEG-TS (its own test picture, or FILE) to a multicast address
# in a network without multicast; six unmodified receivers join behind three relays.
# Promises: builds what it runs, needs no root, leaves nothing behind; where socat,
# multicat or ffmpeg are missing and cannot be installed, says so and takes the
# programs of legacy-apps/ in their place. Exit status 0 only when all six received
# what the same command writes to a file, and each link carried one copy. Is not a
# measurement of speed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${SHIM_TEST_INSIDE:-}" != "$$" ]; then
    [ $# -eq 0 ] || [ -s "$1" ] || { echo "FILE is '$1': there is none, or it is empty" >&2; exit 2; }
    "$here/install-tools.sh" ip nft unshare setpriv gcc make python3
    "$here/install-tools.sh" ffmpeg socat multicat ||
        echo "going on without: programs of legacy-apps/ take their place"
    cargo build --release --workspace --manifest-path "$here/../Cargo.toml"
    [ $# -eq 0 ] || set -- "$(realpath "$1")"
fi
# shellcheck source=shim-tests/lib.sh
. "$here/../shim-tests/lib.sh"
# shellcheck source=shim-tests/room/draw.sh
. "$here/../shim-tests/room/draw.sh"
ours
topo_tree
packets_are_datagrams
MAP='239.1.0.0/16=10.98.0.1'
group=239.1.1.4 port=5000
have() { command -v "$1" >/dev/null; }

# What is sent, and what the same command writes to a file.
if have ffmpeg; then
    if [ $# -gt 0 ]; then cp "$1" in; else transport_stream in 6; fi
    push=(ffmpeg -v error -nostdin -re -i in -map 0 -c copy -t 5 -f mpegts)
    to="udp://$group:$port?pkt_size=1316&ttl=4"
    "${push[@]}" -y reference || {
        echo "FILE is '${1:-}': ffmpeg makes no MPEG-TS of it (see above); give another, or none" >&2
        exit 2
    }
    md5=(-map 0 -c copy -f framemd5)
    ffmpeg -v error -nostdin -i reference "${md5[@]}" -y reference.md5
else
    if [ $# -gt 0 ]; then head -c 1316000 "$1" >in && truncate -s %1316 in; else head -c 1316000 /dev/urandom >in; fi
    cp in reference
    push=(./push -r 200 -f in)
    to="$group $port"
fi

cat <<TXT

The network: a sender, three relays, six hosts; no multicast anywhere, unicast routes
only. One rule on every host, $MAP: 10.98.0.1 sends these groups.
TXT
three_relays
declare -A PROGRAM=()
# receiver HOST PROGRAM: as an ordinary user runs it, writing HOST.got or HOST.md5.
receiver() {
    local join="ip-add-membership=$group:eth0"
    PROGRAM[$1]=$2
    case $2 in
    ffmpeg) set -- "$1" ffmpeg -v error -nostdin -i "udp://$group:$port?timeout=10000000" "${md5[@]}" -y "$1.md5" ;;
    socat) set -- "$1" socat -u -b 2048 "UDP4-RECV:$port,bind=$group,reuseaddr,rcvbuf=4000000,$join" "OPEN:$1.got,creat,trunc" ;;
    multicat) set -- "$1" multicat -u "@$group:$port" "$1.got" ;;
    *) set -- "$1" "./$2" -o "$1.got" "$group" "$port" ;;
    esac
    printf '%s$ flexcast run --map %s -- %s\n' "$1" "$MAP" "${*:2}"
    flex "$1" "$1" "${@:2}"
}
or_else() { if have "$1"; then echo "$1"; else echo "$2"; fi; }
printf '\nThe receivers join %s:\n' "$group:$port"
receiver a1 "$(or_else ffmpeg join)"
receiver a2 "$(or_else socat join.py)"
receiver a3 "$(or_else multicat join)"
receiver b1 join
receiver b2 join.py
receiver b3 "$(or_else ffmpeg join)"

printf '\nThe sender waits for all six and starts:\n'
# shellcheck disable=SC2206 # ADDRESS PORT of `push` are two words
push+=($to)
printf 's$ flexcast run --map %s --wait-for %s=6 -- %s\n' "$MAP" "$group:$port" "${push[*]}"
bg s push "$FLEXCAST" run --map "$MAP" --wait-for "$group:$port=6" -- "${push[@]}"
await "the sender ends" 60 ended push
check "with status 0" reap push
! have ffmpeg || echo "(ffmpeg receivers end 10 s after the last datagram)"
sleep 0.5
for r in a1 a2 a3 b1 b2 b3; do
    [ "${PROGRAM[$r]}" = ffmpeg ] || stop "$r" TERM || true
    await "$r ends" 40 ended "$r" >/dev/null
done

# frames FILE: columns 1, 5 and 6 of a framemd5 (stream, size, checksum), as one sum.
frames() { grep -v '^#' "$1" | awk -F, '{ print $1 $5 $6 }' | sha256sum | cut -c 1-16; }
bytes() { sha256sum <"$1" | cut -c 1-16; }
printf '\n%-10s %-10s %-10s %-18s %-18s\n' receiver program 'sum of' received 'written to a file'
# multicat fills ffmpeg's shorter datagrams up with null packets: its frames count.
if have ffmpeg && have multicat; then
    ffmpeg -v error -nostdin -i a3.got "${md5[@]}" -y a3.md5
fi
different=0
for r in a1 a2 a3 b1 b2 b3; do
    if [ -e "$r.md5" ]; then
        of=frames got=$(frames "$r.md5") wanted=$(frames reference.md5)
    else
        of=bytes got=$(bytes "$r.got") wanted=$(bytes reference)
    fi
    verdict=equal
    [ "$got" = "$wanted" ] || { verdict=DIFFERENT && different=$((different + 1)); }
    printf '%-10s %-10s %-10s %-18s %-18s %s\n' "$r" "${PROGRAM[$r]}" "$of" "$got" "$wanted" "$verdict"
done

labels=()
for r in a1 a2 a3 b1 b2 b3; do labels+=("$r=${PROGRAM[$r]}"); done
draw_tree "${labels[@]}"
echo
one=$(counted r1 stream)
one_copy() {
    local h
    for h in r2 r3 a1 a2 a3 b1 b2 b3; do [ "$(counted "$h" stream)" -eq "$one" ] || return 1; done
    # No datagram holds more than 1316 bytes.
    [ $((one * 1316)) -ge "$(stat -c %s reference)" ]
}
check "each link carried one copy" one_copy
check "six receivers have what the sender's command writes to a file" [ "$different" -eq 0 ]
conclude
