#!/usr/bin/env bash
# Runs topics of shim-tests/ many times: scripts/soak.sh [TOPIC] N
#
# Promises: stops at the first failure, with that run's whole output and status 1;
# a skipped topic is no success and ends it with status 77. Sums up at its end what
# the runs measured (their lines "figure WHAT: NUMBER UNIT"). Builds what it runs.
set -euo pipefail
cd "$(dirname "$0")/.."

case $# in
1) topics=(shim-tests/*.sh) times=$1 ;;
2) topics=("shim-tests/$1.sh") times=$2 ;;
*) echo "usage: scripts/soak.sh [TOPIC] N" >&2; exit 2 ;;
esac
[[ $times =~ ^[1-9][0-9]*$ ]] || { echo "N is '$times': expected a number from 1" >&2; exit 2; }
[ -e "${topics[0]}" ] || { echo "no topic ${topics[0]}: see shim-tests/" >&2; exit 2; }

cargo build --release --workspace --lib --bins --examples
log=$(mktemp) figures=$(mktemp)
trap 'rm -f "$log" "$figures"' EXIT
sum_up() {
    sort "$figures" | python3 -c '
import itertools, statistics, sys
rows = [line.rstrip("\n").rsplit(": ", 1) for line in sys.stdin]
for what, group in itertools.groupby(rows, lambda row: row[0]):
    pairs = [value.split(" ", 1) for _, value in group]
    n = sorted(float(number) for number, _ in pairs)
    print(f"{what}: median {statistics.median(n):g}, least {n[0]:g}, worst {n[-1]:g} {pairs[0][1]} ({len(n)} times)")
'
}
for run in $(seq "$times"); do
    for topic in "${topics[@]}"; do
        [ "$topic" != shim-tests/lib.sh ] || continue
        # 75: the whole machine stood still, which tells nothing.
        for _ in 1 2 3; do
            status=0
            timeout 180 bash "$topic" >"$log" 2>&1 || status=$?
            [ "$status" -eq 75 ] || break
            grep '^the machine stood still' "$log"
        done
        if [ "$status" -ne 0 ]; then
            cat "$log"
            sum_up
            echo "$topic: status $status in run $run of $times"
            exit "$status"
        fi
        sed -n "s|^figure |$(basename "$topic" .sh), |p" "$log" >>"$figures"
    done
    echo "run $run of $times passed"
done
sum_up
