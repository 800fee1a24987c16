#!/usr/bin/env bash
# A sender killed with -9 and started again, at once and after a while: its stream is
# back 3.5 s after the kill or 1.5 s after the start, whichever is later (a second's
# margin here), and nothing of the old stream mixes in.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays

# The receivers write files: numbers begin again with each start of the sender.
for r in a1 b1; do flex "$r" "$r" "$WORK/join" -o "$r.out1" 239.1.1.1 5000; done
for r in a1 b1; do await "$r joins" 5 says "$r" joined; done
size() { stat -c %s "$WORK/$1.out1" 2>/dev/null || echo 0; }
# grows HOST: its program has written more since `mark`.
declare -A MARK=()
mark() { for r in a1 b1; do MARK[$r]=$(size "$r"); done; }
grows() { [ "$(size "$1")" -gt $((${MARK[$1]} + 8192)) ]; }

flex s push-0 "$WORK/push" -r 200 239.1.1.1 5000
mark
for r in a1 b1; do await "the stream reaches $r" 5 grows "$r"; done

# restart NUMBER PAUSE: killed, started after PAUSE; back at both by the deadline.
restart() {
    local killed started due
    killed=$(milliseconds)
    stop "push-$(($1 - 1))" KILL
    await "the sender is gone" 1 ended "push-$(($1 - 1))"
    sleep "$2"
    # What was under way is written; from here on only a new stream adds to it.
    mark
    started=$(milliseconds)
    flex s "push-$1" "$WORK/push" -r 200 239.1.1.1 5000
    due=$((killed + 3500 > started + 1500 ? killed + 3500 : started + 1500))
    for r in a1 b1; do
        await "back at $r" "$(((due + 1000 - $(milliseconds)) / 1000)).9" grows "$r"
    done
    figure "back after a pause of $2 s, from the start" $(($(milliseconds) - started)) ms
    check "in time: $(($(milliseconds) - due)) ms after the deadline" [ "$(milliseconds)" -le $((due + 1000)) ]
}
restart 1 0
restart 2 0.5
restart 3 5
stop push-3
await "the sender ends" 2 ended push-3
for r in a1 b1; do
    stop "$r"
    reap "$r" || true
    check "$r wrote whole datagrams, and each run of the sender without a hole" python3 - "$WORK/$r.out1" <<'PY'
import sys
data = open(sys.argv[1], "rb").read()
numbers = [int.from_bytes(data[i : i + 8], "big") for i in range(0, len(data), 1316)]
breaks = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
print(f"       {len(numbers)} datagrams in {len(breaks) + 1} runs, that begin at {[0] + breaks}")
sys.exit(len(data) % 1316 != 0 or len(breaks) != 3 or max(numbers) > 10**6)
PY
done
conclude
