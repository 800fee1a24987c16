#!/usr/bin/env bash
# Installs the Debian packages that tests and the demonstration need:
# scripts/install-tools.sh [TOOL...] (default: all of them)
#
# Promises: installs only what is missing, and only as root; otherwise names the
# packages and exits 1. Is not needed where all tools are there: then it is silent.
set -euo pipefail
# An ordinary user of Debian has no sbin in PATH.
PATH=$PATH:/usr/sbin:/sbin

# tool=package
needed=(
    ip=iproute2 nft=nftables unshare=util-linux setpriv=util-linux gcc=gcc c++=g++ make=make pkg-config=pkgconf
    python3=python3 socat=socat multicat=multicat ffmpeg=ffmpeg iperf=iperf strace=strace
    pgrep=procps ss=iproute2 ping=iputils-ping nm=binutils valgrind=valgrind
    groff=groff-base mandoc=mandoc man=man-db
)

missing=()
for pair in "${needed[@]}"; do
    [ $# -eq 0 ] || [[ " $* " = *" ${pair%%=*} "* ]] || continue
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    printf 'missing packages: %s (as root: apt-get install %s)\n' "${missing[*]}" "${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
