#!/usr/bin/env bash
# scripts/install.sh as an ordinary user: what it puts in place is found and works (program,
# preload library, native library, pages, completions), and removed it leaves nothing.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
archive=$ROOT/target/release/libflexcast.a
[ -e "$archive" ] || { echo "not ok $archive is missing: cargo build --release"; exit 1; }

# The sources and what was built of them, where another user may read them.
mkdir -p tree/src/flexcast tree/scripts tree/target/release
cp "$ROOT"/{Cargo.toml,README.md,CHANGELOG.md,LICENSE} tree
cp "$ROOT"/scripts/{install,link-library}.sh tree/scripts
cp -r "$ROOT"/src/flexcast/{include,man,flexcast.pc.in,libflexcast.map} tree/src/flexcast
mv flexcast libflexcast_preload.so tree/target/release
cp "$archive" tree/target/release
chmod -R a+rX tree
mkdir -m 777 home
P=$WORK/home/p
put() { plain s env HOME="$WORK/home" TMPDIR="$WORK/home" tree/scripts/install.sh --no-build "$@"; }
files() { (cd "$1" && find . \( -type f -o -type l \) -printf '%P\n' | sort); }

check "it installs" put --prefix "$P"
check "what it says is what is there" cmp <(files "$P") <(sed -n 's/^f //p' "$P/share/flexcast/manifest" | sort)
for file in bin/flexcast include/flexcast{,_compat}.h lib/pkgconfig/flexcast.pc \
    lib/libflexcast{.a,.so,.so.0,_preload.so} share/man/man1/flexcast{,-run,-doctor}.1 \
    share/man/man3/flexcast{,_send,_compat}.3 share/man/man7/flexcast.7 share/man/man8/flexcast-relay.8; do
    check "$file" [ -s "$P/$file" ]
done
FLEXCAST=$P/bin/flexcast
check "the program runs" on s "$FLEXCAST" --version
for page in "$P"/share/man/man*/*; do
    plain s man -l "$page" >page.out 2>page.err </dev/null || echo "status $?" >>page.err
    [ -s page.out ] && [ ! -s page.err ] || check "man -l ${page##*/}: $(cat page.err)" false
done
check "man finds a call's page" eval 'plain s man -M "$P/share/man" 3 flexcast_send | grep -q EPIPE'
check "completions: bash" bash -c ". '$P/share/bash-completion/completions/flexcast' && complete -p flexcast"
check "completions: zsh and fish" grep -q wait-for "$P/share/zsh/site-functions/_flexcast" \
    "$P/share/fish/vendor_completions.d/flexcast.fish"

# Programs: unmodified ones, and the pair built by pkg-config.
three_relays
flex a1 join ./join -k 239.1.1.1 5000
guest join
check "with the library that was installed" grep -q "$P/lib/libflexcast_preload.so" "/proc/$(program join)/maps"
MAP='239.1.0.0/16=10.98.0.1,empty=wait' flex s push ./push -n 100 -r 500 239.1.1.1 5000
await "the sender ends" 20 ended push
await "the receiver has all" 5 complete join 100
export PKG_CONFIG_PATH=$P/lib/pkgconfig LD_LIBRARY_PATH=$P/lib
check "pkg-config knows its version" [ "$(pkg-config --modversion flexcast)" = "$("$FLEXCAST" --version | cut -d ' ' -f 2)" ]
native_pair all
pair 5000 500 250 ./sender './receiver 10.98.0.1 5000'
cc -o receiver-static "$ROOT/legacy-apps/native/receiver.c" -D_DEFAULT_SOURCE -I "$P/include" \
    "$P/lib/libflexcast.a" -lpthread -ldl -lm
check "the static library needs no other" eval '! ldd receiver-static | grep -q flexcast'

# An older one is replaced, a stranger's file stays.
echo 'f lib/old' >>"$P/share/flexcast/manifest"
touch "$P/lib/old" "$P/lib/stranger"
check "it installs over itself" put --prefix "$P"
check "of the older one nothing is left" [ ! -e "$P/lib/old" ]
check "it removes itself" put --prefix "$P" --uninstall
check "and no other's file" [ "$(files "$P")" = lib/stranger ]
check "it says that nothing is there" eval '! put --prefix "$P" --uninstall 2>says && grep -q manifest says'
rm "$P/lib/stranger"
rmdir "$P/lib" "$P"
check "packaged, it goes elsewhere" put --prefix /usr --destdir "$WORK/home/d"
check "and knows where it will be" grep -qx prefix=/usr home/d/usr/lib/pkgconfig/flexcast.pc
check "it removes itself from there" put --prefix /usr --destdir "$WORK/home/d" --uninstall
find home -mindepth 1 ! -path home/d >left
check "and leaves nothing: $(tr "\n" " " <left)" [ ! -s left ]
check "a prefix that LD_PRELOAD cannot name is refused" eval '! put --prefix "/a b" 2>says && grep -q spaces says'
conclude
