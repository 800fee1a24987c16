#!/usr/bin/env bash
# Nothing mapped, nothing changed: a program that touches no mapped address makes the
# same system calls with the shim as without it (but getpid), has no further thread or descriptor,
# and does its work, kernel multicast included. The control: where the address is
# mapped, the calls do differ.
# shellcheck source=shim-tests/lib.sh
. "$(dirname "$0")/lib.sh"
ours
host s c
link s c 10.98.0
for h in s c; do on $h ip route add 224.0.0.0/4 dev eth0; done

# pair WAY: 200 datagrams from push to join, traced; WAY is native, unmapped, mapped.
pair() {
    local under=()
    case $1 in
    unmapped) under=("$FLEXCAST" run --map 239.9.0.0/16=10.98.0.1 --map 10.97.0.0/16=10.98.0.1 --) ;;
    mapped) under=("$FLEXCAST" run --map 239.1.0.0/16=10.98.0.1 --) ;;
    esac
    bg c "join-$1" strace -f -qq -o "trace-join-$1" "${under[@]}" "$WORK/join" -b 4000000 -k 239.1.1.1 5000
    await "$1: the receiver joins" 10 says "join-$1" joined
    [ "$1" = native ] || await "$1: the shim is in it" 5 shim_loaded "join-$1"
    program=$(program "join-$1")
    ls "/proc/$program/task" | wc -l >"threads-$1"
    ls "/proc/$program/fd" >"descriptors-$1"
    sleep 0.3
    bg s "push-$1" strace -f -qq -o "trace-push-$1" "${under[@]}" "$WORK/push" -n 200 -r 400 239.1.1.1 5000
    await "$1: the sender ends" 10 ended "push-$1"
    check "$1: with status 0" reap "push-$1"
    sleep 0.3
    kill "$program"
    await "$1: the receiver ends" 5 ended "join-$1"
}
# calls FILE: from the first socket on; pids, addresses of memory and idle waits apart,
# and getpid, by which the shim knows a forked child where a socket comes or goes.
calls() {
    sed -n '/ socket(/,$p' "$1" | grep -vE ' getpid\(\)|EAGAIN|SIGTERM|ERESTART|rt_sigreturn|clock_nanosleep' |
        sed -E 's/^[0-9]+ +//; s/0x[0-9a-f]+/ADDRESS/g; s/longest gap [0-9]+ ms/longest gap/; s/= [0-9]+$/= N/; s/write\(1, .*/write(1)/'
}
for way in native unmapped mapped; do pair $way; done
for way in native unmapped; do
    check "$way: all arrived: $(cat "join-$way.out")" grep -q '^received 200, lost 0, twice 0,' "join-$way.out"
done
for program in join push; do
    for way in native unmapped mapped; do calls "trace-$program-$way" >"calls-$program-$way"; done
    n=$(wc -l <"calls-$program-native")
    check "$program: the same $n calls after its start" \
        diff "calls-$program-native" "calls-$program-unmapped"
    check "$program: mapped they differ (control)" \
        eval '! cmp -s "calls-$program-native" "calls-$program-mapped"'
done
check "one thread" [ "$(cat threads-native) $(cat threads-unmapped)" = "1 1" ]
check "the same descriptors" diff descriptors-native descriptors-unmapped
check "mapped there are more threads (control)" [ "$(cat threads-mapped)" -gt 1 ]

# Programs of other kinds give the same answers.
same() {
    plain c "$@" >native.txt 2>&1 || true
    plain c "$FLEXCAST" run --map 239.1.0.0/16=10.98.0.1 -- "$@" >shim.txt 2>&1 || true
    check "the same answer: $1 ${2:0:20}" cmp native.txt shim.txt
    check "and there is one" [ -s native.txt ]
    cmp -s native.txt shim.txt || head -n 3 native.txt shim.txt
}
same socat -u -b 1316 "OPEN:$WORK/push" -
same python3 -c 'import threading, os, socket
a, b = socket.socketpair()
t = threading.Thread(target=lambda: b.sendall(b"x" * 100000)); t.start()
n = 0
while n < 100000: n += len(a.recv(65536))
t.join(); print(n, [os.dup(a.fileno()), os.dup2(b.fileno(), 77)])
pid = os.fork()
if not pid: os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(("::1", 0)); u.sendto(b"self", u.getsockname())
print(u.recvfrom(10)[0], u.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))'
same ffmpeg -v error -nostdin -f lavfi -i testsrc2=size=64x64 -t 0.2 -f framemd5 -
conclude
