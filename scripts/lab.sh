#!/usr/bin/env bash
# A shell in the network of README's picture: scripts/lab.sh [< COMMANDS]
#
#   on HOST COMMAND…   runs it there, as an ordinary user's program
#   relay HOST…        starts relays (r1, r2, r3), and waits until they capture
#   unrelay HOST       ends one: it drains (`unrelay HOST KILL`: kill -9)
#   links              draws the tree with the datagrams that each link carried
#
# Promises: builds what it runs, needs no root, reaches no network of this machine; all
# ends with the shell. `flexcast`, `push` and `join` are in the path, FLEXCAST_MAP is
# set. Is not a test: README's tour runs here, and shim-tests/tour.sh checks it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${SHIM_TEST_INSIDE:-}" != "$$" ]; then
    "$here/install-tools.sh" ip nft unshare setpriv gcc make python3 pgrep
    cargo build --release --workspace --manifest-path "$here/../Cargo.toml"
fi
# shellcheck source=shim-tests/lib.sh
. "$here/../shim-tests/lib.sh"
ours
topo_tree
packets_are_datagrams

{
    declare -f await milliseconds counted says
    declare -p WORK FP FLEXCAST ENDPOINT
    cat "$ROOT/shim-tests/room/draw.sh"
    cat <<'RC'
in_host() { ip netns exec "$@"; }
eval "$(declare -f counted | sed 's/\bon "\$1"/in_host "$1"/')"
on() { in_host "$1" "${ENDPOINT[@]}" "${@:2}"; }
relay() {
    local h
    for h in "$@"; do
        ip netns exec "$h" "$FLEXCAST" relay >"$WORK/relay-$h.out" 2>"$WORK/relay-$h.log" &
        echo $! >"$WORK/relay-$h.pid"
        disown # so that `wait` waits for programs only
        await "the relay at $h captures" 5 says "relay-$h" capturing
    done
}
unrelay() {
    local pid
    pid=$(cat "$WORK/relay-$1.pid")
    kill -"${2:-TERM}" "$pid"
    await "the relay at $1 ends" 12 eval "! kill -0 $pid"
}
links() { draw_tree; }
set +e
PS1='lab$ '
export PATH=$WORK:$PATH FLEXCAST_MAP='239.1.0.0/16=10.98.0.1'
RC
} >"$WORK/rc"
if [ -t 0 ]; then
    sed -n '3,9s/^# \?//p' "$0"
    bash --rcfile "$WORK/rc" -i || true
else
    BASH_ENV=$WORK/rc bash
fi
