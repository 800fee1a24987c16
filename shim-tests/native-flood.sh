#!/usr/bin/env bash
# The native library, flat out: flood's datagrams, sent in batches, reach a hundred
# requesters once each, and one that reads in order, whatever way the sender leaves.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
native
make -s -C "$ROOT/legacy-apps/native" OUT="$WORK" "$WORK/flood" "$WORK/receiver"
host s c
link s c 10.98.0
count_on c

# numbered FILE COUNT: bodies of 1316 bytes, numbered from 0 on.
cat >numbered.py <<'PY'
import sys
data, count = open(sys.argv[1], "rb").read(), int(sys.argv[2])
numbers = [int.from_bytes(data[at + 8 : at + 16], "big") for at in range(0, len(data), 1316)]
sys.exit(numbers != list(range(count)))
PY

# leaving ID COUNT HOW [RATE]: COUNT datagrams; then the program is gone at once.
leaving() {
    local id=$1 count=$2 how=$3 rate=() before carried packets
    [ -z "${4:-}" ] || rate=(-r "$4")
    bg s "flood-$id" ./flood "${rate[@]}" -n "$count" -l "$how" "$((0xEF010101 << 16 | id))"
    await "the sender listens" 10 says "flood-$id" listening
    bg c "crowd-$id" ./crowd.py --ask "10.98.0.1:$FP" --channel "239.1.1.1:$id" 20000 100
    bg c "receiver-$id" sh -c "exec stdbuf -o0 ./receiver 10.98.0.1 $((0xEF010101 << 16 | id)) >o-$id"
    await "a hundred are in" 20 says "crowd-$id" "there are"
    await "the sender is ready" 10 says "flood-$id" ready
    sleep 1 # the receiver, too: it cannot say so
    before=$(datagrams c 1316) packets=$(counted c stream)
    stop "flood-$id" USR1
    await "the sender is gone" 10 ended "flood-$id"
    check "with status 0" reap "flood-$id"
    await "all are there" 5 eval '[ $(($(datagrams c 1316) - before)) -ge $((count * 101)) ]'
    carried=$(($(datagrams c 1316) - before)) packets=$(($(counted c stream) - packets))
    check "by $how: each datagram once to each: $carried" [ "$carried" -eq $((count * 101)) ]
    if [ "${#rate[@]}" -eq 0 ]; then
        check "in batches: $packets packets" [ "$packets" -lt $((carried * 9 / 10)) ]
    else
        check "each by itself, but for what was late: $packets packets" [ "$packets" -gt $((carried / 4)) ]
    fi
    await "the receiver has them" 5 eval '[ "$(stat -c %s "o-$id")" -ge $((count * 1316)) ]'
    check "in order" python3 numbered.py "o-$id" "$count"
    for job in "crowd-$id" "receiver-$id"; do
        stop "$job" 2>/dev/null || true # the receiver may have heard the end
        await "$job ends" 10 ended "$job"
        reap "$job" || true
    done
}
leaving 5000 150 close
leaving 5001 150 exit
leaving 5002 150 fork
leaving 5003 1000 close 500
conclude
