#!/usr/bin/env bash
# A relay of the native library's two halves, in C at r1 and in Rust at r2, beside a real
# one at r3: the stream passes byte for byte and once over each link, its end too; nobody
# is told more than the sender said; what nobody wants any more stops; IPv6 likewise.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
examples=${FLEXCAST_EXAMPLES:-$ROOT/target/release/examples}
[ -x "$examples/relay" ] || { echo "not ok $examples/relay is missing: cargo build --release --examples"; exit 1; }
cp "$examples/relay" relay-rust
topo_tree
native
native_pair all

bg r1 powerless ./relay
await "without a capability it ends" 5 ended powerless
check "with status 1" eval '! reap powerless'
check "and says which: $(cat powerless.log)" says powerless 'CAP_NET_ADMIN.*EPERM'
for r in r1 r2; do passing_rules "$r"; done
passing r1 relay-r1 ./relay
passing r2 relay-r2 ./relay-rust
relay r3
bg_on r3 second ./relay
await "beside a relay it ends" 5 ended second
check "and says who has the port: $(cat second.log)" says second "held by process ${PIDS[relay-r3]}"
reap second || true

receivers=(a1 a2 b1 b2)
for h in "${receivers[@]}"; do bg "$h" "$h" "$FLEXCAST" recv -v -e -o "$h.o" 10.98.0.1#77; done
for h in "${receivers[@]}"; do await "$h is told that it waits" 5 says "$h" 'pending'; done
check "none was granted" eval '! says a1 granted && ! says b1 granted'
links=(r1 r2 r3 a1 b2)
for h in "${links[@]}"; do bg_on "$h" "tap-$h" "$WORK/tap.py" eth0 "$FP" 1332; done
for h in "${links[@]}"; do await "the tap at $h listens" 5 says "tap-$h" listening; done
head -c $((1316 * 1000)) /dev/urandom >f
bg s send "$FLEXCAST" send --rate 500pps --wait 4:10 self#77 f
await "the sender ends" 20 ended send
check "with status 0" reap send
for h in "${receivers[@]}"; do
    await "$h ends at the stream's end" 5 ended "$h"
    check "$h has the file" cmp f "$h.o"
    check "$h counts: $(tail -n 1 "$h.log")" grep -q '1000 datagrams, 1316000 bytes, 0 lost, 0 duplicates' "$h.log"
done
for h in "${links[@]}"; do
    stop "tap-$h"
    await "the tap at $h ends" 2 ended "tap-$h"
    grep ' ........01f1eca5$' "tap-$h.out" >"data-$h" || true
    grep ' ........03f1eca5$' "tap-$h.out" >"end-$h" || true
    check "$h: 1000 datagrams, the bytes of the sender's link, in order" \
        eval '[ "$(wc -l <"data-'"$h"'")" -eq 1000 ] && cmp data-r1 "data-'"$h"'"'
    check "$h: the same end, $(wc -l <"end-$h") times" \
        eval 'cmp <(sort -u end-r1) <(sort -u end-'"$h"') && [ "$(sort -u end-'"$h"' | wc -l)" -eq 1 ]'
done

# Those who come and go; the relays below r1 are still there.
mkfifo in && chmod a+r in
for h in a1 b1; do bg "$h" "$h" sh -c "exec ./receiver 10.98.0.1 5000 >$h.p"; done
bg s sender sh -c 'exec ./sender <in'
exec 9>in
(while head -c 6580 /dev/zero; do sleep 0.02; done) >&9 &
PIDS[feed]=$!
await "the stream reaches a1" 5 streaming a1
await "the stream reaches b1" 5 streaming b1
bg a2 a2 sh -c 'exec ./receiver 10.98.0.1 5000 >a2.p'
await "a second one at r2 is served" 5 streaming a2
stop a1 && stop a2
# A signal's default action says nothing: ICMP, and no sign of life within 1 s.
await "r2's branch is silent" 3.5 eval 'silent a1 && silent a2 && silent r2'
check "r3's goes on" eval 'streaming b1; sleep 0.1; streaming b1'
stop b1
await "every link is silent" 4.5 silent r1
kill "${PIDS[feed]}" 2>/dev/null || true
exec 9>&-
for r in relay-r1 relay-r2; do check "$r lives, and says nothing: $(cat $r.log)" eval '! ended '$r' && [ ! -s '$r'.log ]'; done

# IPv6, and another sender's channel of the same number at the same time.
head -c $((1000 * 500)) /dev/urandom >g
bg a3 a3 "$FLEXCAST" recv -e -o a3.6 '[fd98:23::2]#77'
bg b3 other "$FLEXCAST" send --size 1000 --rate 250pps --wait 1:10 '[fd98:23::2]#77' g
for h in a1 b2; do bg "$h" "$h-6" "$FLEXCAST" recv -e -o "$h.6" '[fd98:0::1]#77'; done
bg s send6 "$FLEXCAST" send --rate 500pps --wait 2:10 '[fd98:0::1]#77' f
for h in a1 b2; do
    await "$h ends at the end of the IPv6 stream" 20 ended "$h-6"
    check "$h has the file" cmp f "$h.6"
done
await "a3 ends with its own sender's stream" 5 ended a3
check "and has that one's file" cmp g a3.6
conclude
