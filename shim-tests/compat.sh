#!/usr/bin/env bash
# Porting by recompiling: a quote server and its clients, written for TCP. The same source
# plain, and compiled with flexcast_compat.h, as C and as C++, through three relays: what
# clients print is the same, and the server's link carries one copy for all of them.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
native
make -s -C "$ROOT/legacy-apps" compat compat-cxx OUT="$WORK"
topo_tree
three_relays
readonly COUNT=1600 RATE=400 FIRST=800
leaves=(a1 a2 b1 b2) # the last one's program is C++
cp "$ROOT"/legacy-apps/{quotes,ticker} .
./quotes -p $COUNT >all
tail -n +$((FIRST + 1)) all >wanted
# Each quote is a datagram, the long ones several of 1316 bytes, and each has a trailer.
wire=$(awk '{ n = length($0) + 1; bytes += n + 16 * int((n + 1315) / 1316) } END { print bytes }' all)
carried() { echo $(($(counted r1 stream bytes) - 28 * $(counted r1 stream))); }

# differ RUN SUFFIX ENVIRONMENT...: a run of the pair SUFFIX names; RUN names its files.
differ() {
    local run=$1 suffix=$2 h
    shift 2
    bg s "quotes-$run" env "$@" "$WORK/quotes$suffix" 5000 $COUNT $RATE
    await "$run: the server listens" 5 says "quotes-$run" listening
    for h in "${leaves[@]}"; do
        if [ "$h$suffix" = b2-flexcast ]; then suffix=-flexcast-cxx; fi
        bg "$h" "$h-$run" env "$@" sh -c "exec $WORK/ticker$suffix 10.98.0.1 5000 $FIRST >$h-$run.o"
    done
    for h in "${leaves[@]}"; do
        await "$run: $h ends with the quotes" 20 ended "$h-$run"
        check "$run: with status 0" reap "$h-$run"
        check "$run: $h has printed all from $FIRST on" cmp "$h-$run.o" wanted
    done
    await "$run: the server ends" 5 ended "quotes-$run"
    check "$run: with status 0" reap "quotes-$run"
}
clients() { grep -c ^client "quotes-$1.log"; }

differ plain ''
check "TCP has a connection for each client" [ "$(clients plain)" -eq ${#leaves[@]} ]
check "and relays have seen nothing of it" [ "$(carried)" -eq 0 ]
differ unmapped -flexcast
check "recompiled, without rules, it is the same" [ "$(clients unmapped)" -eq ${#leaves[@]} ]
differ wrong -flexcast FLEXCAST_MAP=10.98.0.1:5OOO
check "with rules that are none it says so once" \
    [ "$(grep -c 'flexcast: FLEXCAST_MAP: .*nothing is mapped' quotes-wrong.log)" -eq 1 ]
check "and is the same" [ "$(clients wrong)" -eq ${#leaves[@]} ]

rules='10.98.0.0/24:5000=10.98.0.1'
before=$(carried)
differ mapped -flexcast "FLEXCAST_MAP=$rules"
check "by Flexcast one socket stands for all clients" [ "$(clients mapped)" -eq 1 ]
n=$(($(carried) - before))
figure "bytes of one copy on the server's link" $n "of $wire"
check "the server's link carried one copy" [ $n -eq "$wire" ]

# By `flexcast run` it is what it is by the variable.
bg s quotes-run "$FLEXCAST" run --map "$rules" -- "$WORK/quotes-flexcast-cxx" 5000 50 400
await "by flexcast run: the server listens" 5 says quotes-run listening
bg a1 a1-run "$FLEXCAST" run --map "$rules" -- "$WORK/ticker-flexcast" 10.98.0.1 5000 0
await "by flexcast run: a1 ends with the quotes" 10 ended a1-run
check "with status 0" reap a1-run
check "and has printed all" cmp a1-run.out <(head -n 50 all)

# What needs a way back is refused, in the program's own words.
bg a3 asks env "FLEXCAST_MAP=$rules" "$WORK/ticker-flexcast" -a hello 10.98.0.1 5000 0
await "a client that asks ends" 5 ended asks
check "with status 1" eval '! reap asks'
check "and says why" says asks 'send: Operation not supported'
conclude
