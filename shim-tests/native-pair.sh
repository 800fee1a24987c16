#!/usr/bin/env bash
# The native library: the pair of C programs in legacy-apps/native, built by pkg-config as
# C and as C++, and their twins in Rust and in Python, through three relays to receivers on
# two branches.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
examples=${FLEXCAST_EXAMPLES:-$ROOT/target/release/examples}
for program in sender receiver; do
    [ -x "$examples/$program" ] ||
        { echo "not ok $examples/$program is missing: cargo build --release --examples"; exit 1; }
    cp "$examples/$program" "$program-rust"
done
topo_tree
three_relays
native
native_pair all cxx
cp "$ROOT"/legacy-apps/native/*.py .
chmod -R a+rX ./*.py
export PYTHONDONTWRITEBYTECODE=1

pair 5000 10000 500 ./sender './receiver 10.98.0.1 5000'
pair 5001 1000 250 'python3 sender.py' 'python3 receiver.py 10.98.0.1 5001'
pair 5002 1000 250 ./sender-rust './receiver-rust 10.98.0.1#5002'
pair 5003 1000 250 ./sender-cxx './receiver-cxx 10.98.0.1 5003'
conclude
