//! The manners of a guest in somebody else's process: nothing exported but hooks,
//! nothing printed, nothing started before it is needed, and programs that have
//! nothing to do with us run as ever.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use flexcast_testbed::World;

mod support;

const LIMIT: Duration = Duration::from_secs(30);

/// Everything that may be exported: functions of the C library that we take.
const HOOKS: &str =
    "socket bind connect __connect listen accept accept4 getsockname getpeername shutdown \
    close __close close_range closefrom fclose dup dup2 __dup2 dup3 fcntl __fcntl fcntl64 \
    send __send sendto sendmsg sendmmsg write __write writev \
    recv __recv recvfrom recvmsg recvmmsg read __read readv \
    __recv_chk __recvfrom_chk __read_chk setsockopt getsockopt ioctl poll __poll ppoll __poll_chk";
/// Those of the roles *pushes* and *listens*, which have to be there.
const SENDING: &str =
    "socket bind connect __connect listen accept accept4 getsockname getpeername shutdown close \
    __close close_range closefrom fclose dup dup2 __dup2 dup3 fcntl __fcntl fcntl64 \
    send __send sendto sendmsg sendmmsg write __write writev setsockopt \
    recv __recv recvfrom recvmsg read __read readv __recv_chk __recvfrom_chk __read_chk";

fn words(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

fn tool(program: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    support::finish(command.args(arguments).arg(file), LIMIT)
}

#[test]
fn nothing_is_exported_but_the_hooks() {
    for library in support::libraries() {
        let said = tool("nm", &["-D", "--defined-only"], &library);
        let exported: BTreeSet<&str> = said.lines().filter_map(|l| l.split(' ').nth(2)).collect();
        let other: Vec<_> = exported.difference(&words(HOOKS)).copied().collect();
        assert_eq!(other, [""; 0], "{library:?}");
        let missing: Vec<_> = words(SENDING).difference(&exported).copied().collect();
        assert_eq!(missing, [""; 0], "{library:?}");
    }
}

/// What the programs of the acceptance tests may call on a socket without us.
const EXPLAINED: [(&str, &str); 13] = [
    ("socketpair", "never mapped"),
    (
        "poll",
        "the descriptor is the kernel's own, ready when the kernel says so",
    ),
    ("ppoll", "as poll"),
    ("__poll_chk", "as poll"),
    ("select", "as poll"),
    ("pselect", "as poll"),
    ("epoll_wait", "as poll"),
    ("epoll_pwait", "as poll"),
    ("epoll_ctl", "as poll"),
    ("ioctl", "FIONBIO, FIONREAD, SIOCGSTAMP: the kernel's own"),
    (
        "splice",
        "os.splice and copying of files, on no socket here",
    ),
    ("sendfile", "as sendfile64"),
    (
        "sendfile64",
        "from a file to a stream socket in these programs",
    ),
];
const SOCKET_CALLS: &str = "socket socketpair bind connect listen accept accept4 getsockname \
    getpeername shutdown close close_range closefrom dup dup2 dup3 fcntl fcntl64 fclose send \
    sendto sendmsg sendmmsg write writev pwritev2 sendfile sendfile64 splice recv recvfrom \
    recvmsg recvmmsg read readv __recv_chk __recvfrom_chk __read_chk getsockopt setsockopt ioctl \
    poll ppoll __poll_chk select pselect epoll_wait epoll_pwait epoll_ctl";

/// The program, and the libraries that it calls sockets through.
fn with_libraries(program: &str) -> Vec<PathBuf> {
    let mut which = Command::new("which");
    // It may be found as a script that looks for the interpreter.
    let mut asked = Command::new(program);
    let found = match program {
        "python3" => support::finish(
            asked.args(["-c", "import sys; print(sys.executable)"]),
            LIMIT,
        ),
        _ => support::finish(which.arg(program), LIMIT),
    };
    let path = std::fs::canonicalize(found.trim()).unwrap();
    let linked = tool("ldd", &[], &path);
    let socket_users = [
        "libavformat",
        "libgio",
        "libgst",
        "libuv",
        "libnode",
        "libpython",
    ];
    let libraries = linked
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    let libraries = libraries.filter(|path| socket_users.iter().any(|user| path.contains(user)));
    let mut all: Vec<PathBuf> = libraries.map(PathBuf::from).collect();
    all.push(path);
    all
}

#[test]
fn no_socket_call_of_the_acceptance_programs_is_missing() {
    let said = tool("nm", &["-D", "--defined-only"], &support::library());
    let exported: BTreeSet<&str> = said.lines().filter_map(|l| l.split(' ').nth(2)).collect();
    let explained: BTreeSet<&str> = EXPLAINED.iter().map(|(name, _)| *name).collect();
    let mut called = BTreeSet::new();
    let mut missing = Vec::new();
    for program in ["socat", "multicat", "iperf", "ffmpeg", "python3"] {
        for file in with_libraries(program) {
            let said = tool("nm", &["-D", "--undefined-only"], &file);
            let names = said
                .lines()
                .filter_map(|line| line.split_whitespace().nth(1));
            for name in names.map(|name| name.split('@').next().unwrap_or(name)) {
                if words(SOCKET_CALLS).contains(name) {
                    called.insert(name.to_owned());
                    if !exported.contains(name) && !explained.contains(name) {
                        missing.push(format!("{name} of {}", file.display()));
                    }
                }
            }
        }
    }
    assert!(called.contains("sendto") && called.len() > 15, "{called:?}");
    assert_eq!(missing, [""; 0]);
}

#[test]
fn thread_local_storage_stays_small() {
    for library in support::libraries() {
        let said = tool("readelf", &["-lW"], &library);
        let line = said.lines().find(|line| line.trim().starts_with("TLS"));
        let size = line.map_or("0x0", |line| line.split_whitespace().nth(5).unwrap());
        let size = u64::from_str_radix(size.trim_start_matches("0x"), 16).unwrap();
        assert!(size <= 4096, "{library:?}: {size} bytes a thread");
    }
}

#[test]
fn nothing_starts_before_the_first_mapped_use() {
    let program = support::program("guest.c", &[]);
    let native = support::finish(Command::new(&program).arg("idle"), LIMIT);
    assert!(native.starts_with("threads 1 "), "{native}");
    for map in [None, Some("239.1.0.0/16=self,empty=wait")] {
        let mut command = support::preloaded(&support::library(), map, &program);
        assert_eq!(
            support::finish(command.arg("idle"), LIMIT),
            native,
            "{map:?}"
        );
    }
}

#[test]
fn the_first_mapped_use_starts_threads_and_leaves_the_signal_mask() {
    let library = support::library();
    let test = "the_first_mapped_use_starts_threads_and_leaves_the_signal_mask";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let program = support::program("guest.c", &[]);
    let mut command = support::preloaded(&library, Some("239.1.0.0/16=self"), &program);
    let said = support::finish(command.args(["pushes", "239.1.1.1"]), LIMIT);
    let threads: u32 = said.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(
        threads > 1,
        "requests are answered in the background: {said}"
    );
    assert!(said.ends_with("blocked 0\n"), "{said}");
}

#[test]
fn children_of_a_process_that_sends_never_hang() {
    let library = support::library();
    let Some(_world) = World::enter("children_of_a_process_that_sends_never_hang") else {
        return;
    };
    let program = support::program("guest.c", &[]);
    let mut command = support::preloaded(&library, Some("239.1.0.0/16=self"), &program);
    let said = support::finish(command.args(["forks", "239.1.1.1"]), LIMIT);
    assert_eq!(said, "children in trouble: 0\n");
}

#[test]
fn a_handler_that_sends_or_exits_never_hangs() {
    let library = support::library();
    let Some(_world) = World::enter("a_handler_that_sends_or_exits_never_hangs") else {
        return;
    };
    let program = support::program("signals.c", &[]);
    for round in 0..40 {
        let time = (5_000 + round * 137).to_string();
        for arguments in [&[time.as_str()][..], &[time.as_str(), "tick"]] {
            let mut command = support::preloaded(&library, Some("239.1.0.0/16=self"), &program);
            support::finish(command.args(arguments), Duration::from_secs(5));
        }
    }
}

/// Other allocators are where a library that allocates too early hangs.
#[test]
fn other_allocators_get_along_with_us() {
    let library = support::library();
    let Some(_world) = World::enter("other_allocators_get_along_with_us") else {
        return;
    };
    let map = Some("239.1.0.0/16=self");
    let checked = support::program("guest.c", &["-fsanitize=address"]);
    let plain = support::program("guest.c", &[]);
    let asan = support::finish(Command::new("cc").arg("-print-file-name=libasan.so"), LIMIT);
    let mut runs = vec![(checked, format!("{} {}", asan.trim(), library.display()))];
    let jemalloc = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    if Path::new(jemalloc).exists() {
        runs.push((plain.clone(), format!("{jemalloc} {}", library.display())));
        runs.push((plain, format!("{} {jemalloc}", library.display())));
    }
    for (program, libraries) in runs {
        for mode in ["idle", "pushes", "forks"] {
            let mut command = support::preloaded(&library, map, &program);
            let command = command.env("LD_PRELOAD", &libraries);
            let said = support::finish(command.args([mode, "239.1.1.1"]), LIMIT);
            assert!(!said.is_empty(), "{libraries}");
        }
    }
}

#[test]
fn wrong_settings_are_said_in_one_line_and_change_nothing() {
    let program = support::program("guest.c", &[]);
    let native = support::finish(Command::new(&program).arg("idle"), LIMIT);
    for (name, value, said) in [
        ("FLEXCAST_MPA", "239.1.0.0/16", "did you mean FLEXCAST_MAP?"),
        ("FLEXCAST_MAP", "239.1.0.0/99=self", "FLEXCAST_MAP"),
        ("FLEXCAST_CONFIG", "/nowhere/flexcast.toml", "ENOENT"),
    ] {
        let mut command = support::preloaded(&support::library(), None, &program);
        let output = support::output(command.arg("idle").env(name, value), LIMIT);
        let err = support::text(&output.stderr);
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.starts_with("flexcast: ") && err.contains(said), "{err}");
        assert!(output.status.success(), "{name}={value}");
        assert_eq!(support::text(&output.stdout), native);
    }
}

#[test]
fn a_configuration_file_maps_and_a_log_file_tells() {
    let library = support::library();
    let Some(_world) = World::enter("a_configuration_file_maps_and_a_log_file_tells") else {
        return;
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let own = std::process::id();
    let config = folder.join(format!("guest-{own}.toml"));
    let log = folder.join(format!("guest-{own}.log"));
    let text = format!(
        "map = [\"239.1.0.0/16=10.0.0.9\"]\nlog = \"warn,{}\"\n",
        log.display()
    );
    std::fs::write(&config, text).unwrap();
    let program = support::program("guest.c", &[]);
    let mut command = support::preloaded(&library, None, &program);
    let command = command
        .args(["pushes", "239.1.1.1"])
        .env("FLEXCAST_CONFIG", &config);
    // There is no route, and it is no sender: the call succeeds, one line tells why.
    support::finish(command, LIMIT);
    let told = std::fs::read_to_string(&log).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    let right = "datagrams to 239.1.1.1:5000 are dropped: this host is no sender of rule";
    assert!(told.contains(right), "{told}");
    std::fs::remove_file(config).unwrap();
    std::fs::remove_file(log).unwrap();
}

/// Programs that sockets of ours mean nothing to, each with what it should say.
#[test]
fn everyday_programs_run_as_ever() {
    let root = env!("CARGO_MANIFEST_DIR");
    let everyday: [(&str, &[&str]); 6] = [
        ("git", &["-C", root, "rev-list", "--max-parents=0", "HEAD"]),
        ("rustc", &["--version"]),
        ("python3", &["-c", "import asyncio, subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(asyncio.run(asyncio.sleep(0.01, 7)))'.replace('print', 'import asyncio; print', 1)], capture_output=True, text=True).stdout)"]),
        ("sh", &["-c", "echo a | cat | tr a b; (exec 5>&1; echo c >&5)"]),
        ("perl", &["-e", "print join(',', map { $_ * 2 } 1..5)"]),
        ("node", &["-e", "require('dgram').createSocket('udp4').bind(0, '127.0.0.1', function () { console.log('bound'); this.close() })"]),
    ];
    let map = "239.1.0.0/16=self 10.0.0.0/8";
    let mut run = 0;
    for (program, arguments) in everyday {
        let installed = Command::new("which").arg(program).output().unwrap();
        if !installed.status.success() {
            continue;
        }
        let native = support::finish(Command::new(program).args(arguments), LIMIT);
        for library in support::libraries() {
            let mut command = support::preloaded(&library, Some(map), program);
            let said = support::finish(command.args(arguments), LIMIT);
            assert_eq!(said, native, "{program} under {library:?}");
        }
        run += 1;
    }
    assert!(run >= 4, "git, rustc, python3 and sh are there");
}

#[test]
#[allow(clippy::print_stdout)] // The figures are what the test is read for.
fn a_foreign_descriptor_costs_nanoseconds() {
    let program = support::program("guest.c", &[]);
    let library = support::libraries().pop().unwrap();
    let mut native = Command::new(&program);
    let native = support::finish(native.arg("cost"), LIMIT);
    let mut ours = support::preloaded(&library, Some("239.1.0.0/16=self"), &program);
    let ours = support::finish(ours.arg("cost"), LIMIT);
    for (native, ours) in native.lines().zip(ours.lines()) {
        let (call, before) = native.split_once(' ').unwrap();
        let after = ours.rsplit_once(' ').unwrap().1;
        let (before, after): (f64, f64) = (before.parse().unwrap(), after.parse().unwrap());
        println!("{call}: {before} ns, {after} ns under the library");
        // A look-up with a lock would cost tens; a busy machine costs some, too.
        assert!(
            after - before < 30.0,
            "{call}: {before} ns, then {after} ns"
        );
    }
}
