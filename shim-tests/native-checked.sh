#!/usr/bin/env bash
# The C pair of the native library under valgrind and under AddressSanitizer, which look
# for leaks, too: 10 000 datagrams through three relays, none lost, and nothing found.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
topo_tree
three_relays
native
native_pair all asan

# What background threads hold at the end is "possibly" lost to valgrind: Rust's maps are
# reached by pointers into the middle of a block, as glibc's thread blocks are.
lost=definite,indirect
memcheck="valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=$lost --errors-for-leak-kinds=$lost"
export ASAN_OPTIONS=detect_leaks=1:exitcode=9 UBSAN_OPTIONS=halt_on_error=1:exitcode=9

# Both find what is wrong with a program that is wrong.
cat >wrong.c <<'C'
#include <stdlib.h>
int main(int argc, char **argv)
{
	volatile char *volatile p = malloc(4);
	(void)argv;
	if (argc > 1)
		return p[4] == 1 && p[5] == 2;
	return p = NULL, 0;
}
C
cc -g -o wrong wrong.c
cc -g -fsanitize=address,undefined -o wrong-asan wrong.c
chmod a+rx wrong wrong-asan
for wrong in "$memcheck ./wrong" "$memcheck ./wrong read" ./wrong-asan './wrong-asan read'; do
    bg s wrong sh -c "exec $wrong"
    await "$wrong ends" 20 ended wrong
    status=0
    reap wrong || status=$?
    check "it was found" [ "$status" -eq 9 ]
done

# quiet ID: none of the pair had anything to say. valgrind before 3.20 has not heard of
# pidfd_open and says so; to the library that is a container which refuses it, and it
# passes descriptors the other way.
quiet() {
    local name
    for name in send a1 a2 b1 b2; do
        sed -E '/unhandled .*-linux syscall: 434$/,/bug_reports.html.$/d' "$name-$1.log" >found
        check "$name: nothing found" [ ! -s found ]
    done
}
STARTUP=20
pair 5000 10000 500 "$memcheck ./sender" \
    "$memcheck ./receiver 10.98.0.1 5000" './receiver-asan 10.98.0.1 5000'
quiet 5000
pair 5001 10000 500 ./sender-asan \
    "env FLEXCAST_PATH=user $memcheck ./receiver 10.98.0.1 5001" \
    './receiver-asan 10.98.0.1 5001' "$memcheck ./receiver 10.98.0.1 5001" \
    'env FLEXCAST_PATH=user ./receiver-asan 10.98.0.1 5001'
quiet 5001
conclude
