#!/usr/bin/env bash
# Runs topics of shim-tests/ many times: scripts/soak.sh [TOPIC] N
#
# Promises: stops at the first failure, with that run's whole output and status 1;
# a skipped topic is no success and ends it with status 77. Builds what it runs.
set -euo pipefail
cd "$(dirname "$0")/.."

case $# in
1) topics=(shim-tests/*.sh) times=$1 ;;
2) topics=("shim-tests/$1.sh") times=$2 ;;
*) echo "usage: scripts/soak.sh [TOPIC] N" >&2; exit 2 ;;
esac
[[ $times =~ ^[1-9][0-9]*$ ]] || { echo "N is '$times': expected a number from 1" >&2; exit 2; }
[ -e "${topics[0]}" ] || { echo "no topic ${topics[0]}: see shim-tests/" >&2; exit 2; }

cargo build --release --workspace
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for run in $(seq "$times"); do
    for topic in "${topics[@]}"; do
        [ "$topic" != shim-tests/lib.sh ] || continue
        status=0
        timeout 120 bash "$topic" >"$log" 2>&1 || status=$?
        if [ "$status" -ne 0 ]; then
            cat "$log"
            echo "$topic: status $status in run $run of $times"
            exit "$status"
        fi
    done
    echo "run $run of $times passed"
done
