#!/usr/bin/env bash
# The native library: the pair of C programs in legacy-apps/native, built by pkg-config,
# and their twins in Python, through three relays to receivers on two branches.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
native
topo_tree
three_relays

make -s -C "$ROOT/legacy-apps/native" OUT="$WORK"
cp "$ROOT"/legacy-apps/native/*.py .
chmod a+rX ./*.py
export PYTHONDONTWRITEBYTECODE=1

# feed FILE RATE: five datagrams' worth at a time, RATE datagrams a second. An unprivileged
# receive queue holds some 180, which is how long a receiver may wait for its turn.
cat >feed.py <<'PY'
import sys, time
data, rate = open(sys.argv[1], "rb").read(), int(sys.argv[2])
for at in range(0, len(data), 6580):
    sys.stdout.buffer.write(data[at : at + 6580])
    sys.stdout.buffer.flush()
    time.sleep(5 / rate)
PY

# pair ID COUNT RATE SENDER RECEIVER: COUNT datagrams to four receivers, which ask before
# the sender is there.
pair() {
    local id=$1 count=$2 rate=$3 sender=$4 receiver=$5 h n before
    head -c $((1316 * (count - 1) + 600)) /dev/urandom >f
    for h in a1 a2 b1 b2; do bg "$h" "$h-$id" sh -c "exec $receiver 10.98.0.1 $id >$h-$id.o"; done
    mkfifo "in-$id"
    chmod a+r "in-$id"
    bg s "send-$id" sh -c "exec $sender <in-$id"
    exec 9>"in-$id"
    await "r1 has asked for both branches" 20 eval '[ "$(requesters r1 | wc -l)" -eq 2 ]'
    await "r2 has both" 5 eval '[ "$(requesters r2 | wc -l)" -eq 2 ]'
    await "r3 has both" 5 eval '[ "$(requesters r3 | wc -l)" -eq 2 ]'
    before=$(datagrams r1 1316)
    python3 feed.py f "$rate" >&9
    exec 9>&-
    await "the sender ends" 10 ended "send-$id"
    check "with status 0" reap "send-$id"
    for h in a1 a2 b1 b2; do
        await "$h ends with the stream" 5 ended "$h-$id"
        check "with status 0" reap "$h-$id"
        check "$h has the file" cmp f "$h-$id.o"
    done
    n=$(($(datagrams r1 1316) - before))
    check "the sender's link carried one copy: $n whole datagrams of $count" \
        eval '[ "$n" -ge $((count - 1)) ] && [ "$n" -le $((count + 1)) ]'
}
pair 5000 10000 500 ./sender ./receiver
pair 5001 1000 250 'python3 sender.py' 'python3 receiver.py'
conclude
