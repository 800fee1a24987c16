#!/usr/bin/env bash
# Installs Flexcast, and removes it:
#   scripts/install.sh --prefix DIR [--destdir DIR] [--no-build]
#   scripts/install.sh --prefix DIR [--destdir DIR] --uninstall
# --prefix   where it is to be used from, such as /usr/local
# --destdir  where that is for now (packaging): files go to DESTDIR/PREFIX
# --no-build takes what `cargo build --release` has made before
#
# Promises: whatever it puts there stands in PREFIX/share/flexcast/manifest beforehand,
# and --uninstall removes that, the folders that it made, if nobody else uses them, and
# nothing else. Installed over an older one, it leaves nothing of that. Files in use are
# replaced, never written over. Needs no root where PREFIX needs none.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
umask 022

prefix='' destdir='' build=1 uninstall=''
fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}
value() { [ $# -ge 2 ] || fail "$1 needs a folder" 2; }
while [ $# -gt 0 ]; do
    case $1 in
    --prefix=* | --destdir=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --prefix) value "$@" && prefix=$2 && shift 2 ;;
    --destdir) value "$@" && destdir=$2 && shift 2 ;;
    --no-build) build='' && shift ;;
    --uninstall) uninstall=1 && shift ;;
    *) fail "$1: expected --prefix DIR, --destdir DIR, --no-build or --uninstall" 2 ;;
    esac
done
[[ $prefix = /* ]] || fail "--prefix is '$prefix': expected an absolute path, such as /usr/local" 2
# LD_PRELOAD and pkg-config separate by these.
[[ ! $prefix =~ [[:space:]:] ]] || fail "--prefix is '$prefix': a path without spaces and colons is needed" 2
prefix=${prefix%/}
target=$destdir$prefix
manifest=share/flexcast/manifest

# remove MANIFEST [KEPT]: what it names, but what KEPT names, too.
remove() {
    local kind path
    while read -r kind path; do
        [[ $path != /* && /$path/ != */../* ]] || fail "$1: not a manifest of ours"
        [ "$kind" = f ] || continue
        [ $# -eq 2 ] && grep -Fxq "f $path" "$2" || rm -f "$target/$path"
    done <"$1"
    # The deepest first.
    grep '^d ' "$1" | cut -c 3- | sort -r | while read -r path; do
        rmdir --ignore-fail-on-non-empty "$(realpath -ms "$target/$path")" 2>/dev/null || true
    done
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -e "$target/$manifest" ]; then cp "$target/$manifest" "$work/before"; fi
if [ -n "$uninstall" ]; then
    [ -e "$work/before" ] || fail "$target/$manifest is missing: nothing to remove was installed there"
    remove "$work/before"
    exit
fi

if [ -n "$build" ]; then
    cargo build --release --manifest-path "$root/Cargo.toml" \
        -p flexcast -p flexcast-cli -p flexcast-preload
fi
built=${CARGO_TARGET_DIR:-$root/target}/release
for file in flexcast libflexcast_preload.so libflexcast.a; do
    [ -e "$built/$file" ] || fail "$built/$file is missing: cargo build --release"
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")

# Everything as it is to stand there.
stage=$work/stage
put() { install -D -m "$1" "$2" "$stage/$3"; }
put 755 "$built/flexcast" bin/flexcast
put 755 "$built/libflexcast_preload.so" lib/libflexcast_preload.so
put 644 "$built/libflexcast.a" lib/libflexcast.a
"$root/scripts/link-library.sh" "$stage/lib" "$built/libflexcast.a"
for header in "$root"/src/flexcast/include/*.h; do put 644 "$header" "include/${header##*/}"; done
sed "s|@PREFIX@|$prefix|; s|@VERSION@|$version|" "$root/src/flexcast/flexcast.pc.in" >"$work/pc"
put 644 "$work/pc" lib/pkgconfig/flexcast.pc
mkdir "$work/man"
"$built/flexcast" man "$work/man"
for page in "$work"/man/* "$root"/src/flexcast/man/*; do
    put 644 "$page" "share/man/man${page##*.}/${page##*/}"
done
for shell in bash zsh fish; do "$built/flexcast" completions $shell >"$work/$shell"; done
put 644 "$work/bash" share/bash-completion/completions/flexcast
put 644 "$work/zsh" share/zsh/site-functions/_flexcast
put 644 "$work/fish" share/fish/vendor_completions.d/flexcast.fish
for file in README.md CHANGELOG.md LICENSE; do put 644 "$root/$file" "share/doc/flexcast/$file"; done

# What will stand there, and the folders that are made for it, now or before.
{
    (cd "$stage" && find . \( -type f -o -type l \) -printf 'f %P\n')
    echo "f $manifest"
    while read -r folder; do
        [ -d "$target/$folder" ] || echo "d $folder"
    done < <(cd "$stage" && find . -type d -printf '%P\n' | sed 's/^$/./' && dirname "$manifest")
    [ ! -e "$work/before" ] || grep '^d ' "$work/before"
} | sort -u >"$work/manifest"
install -D -m 644 "$work/manifest" "$target/$manifest"

while read -r kind path; do
    [ "$kind" = f ] && [ "$path" != "$manifest" ] || continue
    mkdir -p "$(dirname "$target/$path")"
    # By another name first, so that what is in use or half there is never seen.
    cp -dp --no-preserve=ownership "$stage/$path" "$target/$path.new"
    mv -fT "$target/$path.new" "$target/$path"
done <"$work/manifest"
[ ! -e "$work/before" ] || remove "$work/before" "$work/manifest"

if [ "$(id -u)" -eq 0 ] && [ -z "$destdir" ]; then
    # So that programs find the library, where PREFIX/lib is a place for that.
    ldconfig || true
fi
