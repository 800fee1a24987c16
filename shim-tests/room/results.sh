# What programs received, and what relays say of themselves. Sourced by lib.sh.
# Promises: reads only; `leave` and `same_file` end the program first. Is not a verdict.
# shellcheck shell=bash

# leave NAME: a `join -k` is ended; its line is shown and read by `tally`.
leave() {
    stop "$1" 2>/dev/null || true
    reap "$1" || true
    printf '       %s: %s\n' "$1" "$(cat "$WORK/$1.out")"
}
# tally NAME received|lost|twice|reordered|'longest gap'|first|last|foreign
tally() { sed -n "s/.*\b$2 \([0-9]*\).*/\1/p" "$WORK/$1.out"; }
# unhurt NAME: of the stream between its first and its last nothing is missing.
unhurt() { [ "$(tally "$1" lost) $(tally "$1" twice) $(tally "$1" foreign)" = '0 0 0' ]; }

# complete NAME COUNT: it leaves, and its line says all came, once each, in order.
complete() {
    leave "$1"
    unhurt "$1" && [ "$(tally "$1" received) $(tally "$1" reordered)" = "$2 0" ]
}

# transport_stream FILE SECONDS: MPEG-TS of ffmpeg's test picture and tone, its size a
# multiple of 1316, at most some 200 datagrams a second.
transport_stream() {
    ffmpeg -v error -nostdin -f lavfi -i testsrc2=size=640x360:rate=25 -f lavfi -i sine=frequency=440 \
        -t "$2" -c:v mpeg2video -b:v 1500k -c:a mp2 -f mpegts -y "$1"
    truncate -s $(($(stat -c %s "$1") / 1316 * 1316)) "$1"
}
# same_file NAME COPY ORIGINAL: NAME's program has written all of it, and nothing else.
same_file() {
    await "$1 has $(stat -c %s "$3") bytes" 5 eval "[ \"\$(stat -c %s '$2')\" -ge $(stat -c %s "$3") ]"
    sleep 0.3
    stop "$1" 2>/dev/null || true
    await "$1 ends" 30 ended "$1"
    check "$1: sha256 $(sha256sum <"$2" | cut -c 1-16), as sent" cmp "$2" "$3"
}

# status_of HOST EXPRESSION: of the relay there; EXPRESSION is Python's, over `r`.
status_of() {
    on "$1" "$FLEXCAST" status --json |
        python3 -c 'import json, sys; r = json.load(sys.stdin); print(eval(sys.argv[1]))' "$2"
}
# requesters HOST [ADDRESS]: addresses and ports of those that the relay there feeds.
requesters() {
    status_of "$1" '"\n".join(q["address"] for c in r["channels"] if c["verdict"] == "granted"
        for q in c["requesters"] if not q["standby"])' |
        grep -F -- "${2:-}"
}
