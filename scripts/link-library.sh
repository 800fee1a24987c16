#!/usr/bin/env bash
# Links the shared library: scripts/link-library.sh FOLDER [ARCHIVE]
# from ARCHIVE (default: target/release/libflexcast.a) to FOLDER/libflexcast.so.VERSION,
# with the two links by which programs find it (.so.0) and compilers do (.so).
# CC and LDFLAGS choose the compiler and the linker.
#
# Promises: what it exports is flexcast_* alone, under the version of
# src/flexcast/libflexcast.map; nothing is undefined. Is not part of cargo: rustc hands the
# linker a nameless version script of its own for a shared library, and GNU ld takes no
# second one. Works with GNU ld and lld.
set -euo pipefail
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: link-library.sh FOLDER [ARCHIVE]" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
archive=$(realpath -m "${2:-$root/target/release/libflexcast.a}")
[ -e "$archive" ] || { echo "$archive is missing: cargo build --release -p flexcast" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")

mkdir -p "$1"
cd "$1"
name=libflexcast.so.$version
# A library in use is replaced, never written over.
new=$(mktemp "$name.XXXXXX")
trap 'rm -f "$new"' EXIT
# -z nodelete: its threads run on after a dlclose, and so must their code stay.
# Of the whole archive (nothing refers to the calls yet), what no call needs is left out.
# shellcheck disable=SC2086 # several words are meant
"${CC:-cc}" -shared -o "$new" ${LDFLAGS:-} \
    -Wl,-soname,libflexcast.so.0 \
    -Wl,--version-script="$root/src/flexcast/libflexcast.map" \
    -Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,-z,nodelete -Wl,--gc-sections \
    -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -lpthread -ldl -lm
chmod 755 "$new"
mv "$new" "$name"
ln -sf "$name" libflexcast.so.0
ln -sf libflexcast.so.0 libflexcast.so
