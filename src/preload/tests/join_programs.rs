//! Ordinary receiving programs, unmodified: what is sent is what they write, byte for
//! byte, three at a time on one host and one port. The sender is the library's own,
//! in this process. Is not the way through relays (shim-tests).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flexcast_runtime::send::{SendSettings, Sending, SendingChannel};
use flexcast_runtime::NodeSettings;
use flexcast_wire::{Channel, ChannelId};

mod support;

use support::enter;

const MAP: &str = "239.1.0.0/16=10.0.0.5 232.1.0.0/16=10.0.0.5 [ff3e::8000:0]/112=[2001:db8::5]";
const LIMIT: Duration = Duration::from_secs(30);
/// Of a datagram: seven packets of MPEG-TS.
const SIZE: usize = 1316;

fn legacy(name: &str) -> PathBuf {
    let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../legacy-apps");
    apps.join(name)
}

/// A folder of this test's own.
fn folder() -> PathBuf {
    let name = format!("join-programs-{}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

struct Sender {
    _sending: Arc<Sending>,
    channel: SendingChannel,
}

impl Sender {
    fn start(group: &str) -> Sender {
        let settings = SendSettings {
            fp: 7450,
            node: NodeSettings::sender(),
        };
        let sending = Sending::start(settings).expect("FP is free");
        let group: IpAddr = group.parse().unwrap();
        let sender = if group.is_ipv4() {
            "10.0.0.5"
        } else {
            "2001:db8::5"
        };
        let id = ChannelId::from_group(group, 5000).unwrap();
        let channel = Channel::new(sender.parse().unwrap(), id);
        let channel = sending.open(channel, 40_000).expect("it opens");
        Sender {
            _sending: sending,
            channel,
        }
    }

    fn wait_for(&self, receivers: u64) {
        let began = Instant::now();
        while self.channel.receivers() != receivers {
            let now = self.channel.receivers();
            assert!(began.elapsed() < LIMIT, "{now} receivers, not {receivers}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends it in datagrams, at a pace that any receive queue keeps up with.
    fn send(&self, bytes: &[u8]) {
        for datagram in bytes.chunks(SIZE) {
            self.channel
                .send(&[&[datagram][..]], true)
                .expect("it is sent");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Numbers that never repeat at the same place of two datagrams.
fn numbered(datagrams: usize) -> Vec<u8> {
    let words = datagrams * SIZE / 4;
    (0..u32::try_from(words).unwrap())
        .flat_map(u32::to_be_bytes)
        .collect()
}

/// A program under the library; `{o}` in an argument is the file that it writes.
fn start(line: &str, output: &Path) -> Child {
    let mut words = line
        .split(' ')
        .map(|word| word.replace("{o}", output.to_str().unwrap()));
    let mut command = support::preloaded(&support::library(), Some(MAP), words.next().unwrap());
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Ends it, where it does not do so by itself; what it said.
fn end(mut child: Child, by_itself: bool) -> String {
    let began = Instant::now();
    while by_itself && child.try_wait().unwrap().is_none() {
        if began.elapsed() > LIMIT {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            let (out, err) = (support::text(&output.stdout), support::text(&output.stderr));
            panic!("it does not end by itself: {out}{err}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGTERM, so that what is buffered is written.
    let id = child.id().to_string();
    let _ = Command::new("kill").arg(id).stderr(Stdio::null()).status();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    support::text(&output.stdout) + &support::text(&output.stderr)
}

fn wait_until_written(file: &Path, length: usize) -> Vec<u8> {
    let began = Instant::now();
    loop {
        let bytes = std::fs::read(file).unwrap_or_default();
        if bytes.len() >= length || began.elapsed() > Duration::from_secs(5) {
            return bytes;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Three of them: all get the same bytes; what they said.
fn three(test: &str, group: &str, line: &str, bytes: &[u8], first: usize) -> Vec<String> {
    let sender = Sender::start(group);
    let folder = folder();
    let files: Vec<PathBuf> = (0..3).map(|n| folder.join(format!("{test}{n}"))).collect();
    let children: Vec<Child> = files.iter().map(|file| start(line, file)).collect();
    sender.wait_for(3);
    sender.send(bytes);
    let written: Vec<Vec<u8>> = files
        .iter()
        .map(|file| wait_until_written(file, bytes.len() - first))
        .collect();
    let by_itself = line.ends_with(" 100") || line.contains("-n 100");
    let said = children.into_iter().map(|child| end(child, by_itself));
    let said: Vec<String> = said.collect();
    sender.wait_for(0);
    for (n, file) in files.iter().enumerate() {
        let now = std::fs::read(file).unwrap();
        let got = if now.len() > written[n].len() {
            &now
        } else {
            &written[n]
        };
        assert_eq!(got.len(), bytes.len() - first, "{line}: {}", said[n]);
        assert!(
            got[..] == bytes[first..],
            "{line}: other bytes: {}",
            said[n]
        );
    }
    std::fs::remove_dir_all(folder).unwrap();
    said
}

fn compiled() -> PathBuf {
    support::program(legacy("join.c"), &[])
}

#[test]
fn a_c_program_receives_by_every_call_and_shape() {
    let Some(_world) = enter("a_c_program_receives_by_every_call_and_shape") else {
        return;
    };
    let program = compiled();
    let program = program.display();
    for (group, how) in [
        ("239.1.1.1", ""),
        ("239.1.1.1", " -a -m recvmsg -p"),
        ("239.1.1.1", " -g -m poll -p"),
        ("232.1.1.1", " -S 10.0.0.5 -m poll -p"),
        ("232.1.1.1", " -S 10.0.0.5 -g -a"),
        ("ff3e::8000:1", " -m poll -p"),
        ("ff3e::8000:1", " -S 2001:db8::5 -a"),
    ] {
        let line = format!("{program}{how} -n 100 -o {{o}} {group} 5000");
        let said = three("c", group, &line, &numbered(100), 0);
        let from = if group.contains(':') {
            "2001:db8::5"
        } else {
            "10.0.0.5"
        };
        for said in said.iter().filter(|_| how.contains("-p")) {
            assert!(said.contains(&format!("from {from} port 40000")), "{said}");
        }
    }
}

#[test]
fn a_python_program_receives() {
    let Some(_world) = enter("a_python_program_receives") else {
        return;
    };
    for group in ["239.1.1.1", "ff3e::8000:1"] {
        let program = legacy("join.py");
        let line = format!("python3 {} -n 100 -o {{o}} {group} 5000", program.display());
        three("py", group, &line, &numbered(100), 0);
    }
}

#[test]
fn socat_receives() {
    let Some(_world) = enter("socat_receives") else {
        return;
    };
    let line = "socat -u -b 2048 UDP4-RECV:5000,bind=239.1.1.2,reuseaddr,rcvbuf=4000000,\
        ip-add-membership=239.1.1.2:lo OPEN:{o},creat,trunc";
    three("socat", "239.1.1.2", line, &numbered(200), 0);
    let line = "socat -u -b 2048 UDP6-RECV:5000,reuseaddr,\
        ipv6-join-group=[ff3e::8000:2]:v0 OPEN:{o},creat,trunc";
    three("socat6", "ff3e::8000:2", line, &numbered(200), 0);
}

/// Two seconds of a test picture, whole datagrams.
fn picture(folder: &Path) -> Vec<u8> {
    let file = folder.join("picture.ts");
    let status = Command::new("ffmpeg")
        .args(
            "-v error -y -f lavfi -i testsrc=s=320x240:r=25 -c:v mpeg2video -t 2 -f mpegts"
                .split(' '),
        )
        .arg(&file)
        .status()
        .expect("ffmpeg is installed");
    assert!(status.success());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / SIZE * SIZE);
    assert!(bytes.len() > 50 * SIZE);
    bytes
}

#[test]
fn multicat_receives_from_any_source_and_from_one() {
    let Some(_world) = enter("multicat_receives_from_any_source_and_from_one") else {
        return;
    };
    let bytes = picture(&folder());
    three(
        "mc",
        "239.1.1.1",
        "multicat -u @239.1.1.1:5000 {o}",
        &bytes,
        0,
    );
    let line = "multicat -u 10.0.0.5@232.1.1.6:5000 {o}";
    three("ssm", "232.1.1.6", line, &bytes, 0);
}

#[test]
fn ffmpeg_receives_from_any_source_and_from_one() {
    let Some(_world) = enter("ffmpeg_receives_from_any_source_and_from_one") else {
        return;
    };
    let bytes = picture(&folder());
    for (group, more) in [
        ("239.1.1.4", ""),
        ("232.1.1.6", "&sources=10.0.0.5"),
        ("239.1.1.4", "&fifo_size=0"),
    ] {
        let line = format!(
            "ffmpeg -v error -y -f data -i udp://{group}:5000?timeout=3000000{more} \
             -map 0 -c copy -f data {{o}}"
        );
        three("ff", group, &line, &bytes, 0);
    }
}

#[test]
fn iperf_receives_two_runs_and_loses_nothing() {
    let Some(_world) = enter("iperf_receives_two_runs_and_loses_nothing") else {
        return;
    };
    let folder = folder();
    let line = "iperf -s -u -B 239.1.1.7 -p 5001 -i 1 -f k";
    let servers: Vec<Child> = (0..3).map(|_| start(line, &folder)).collect();
    for _ in 0..2 {
        let map = "239.1.0.0/16=10.0.0.5,empty=wait:3";
        let mut client = support::preloaded(&support::library(), Some(map), "iperf");
        client.args("-c 239.1.1.7 -u -p 5001 -b 4M -t 1 -T 4".split(' '));
        let said = support::output(&mut client, LIMIT);
        let said = support::text(&said.stdout) + &support::text(&said.stderr);
        assert!(said.contains("Sent "), "{said}");
        // The server opens its next socket when it has heard the last datagram.
        std::thread::sleep(Duration::from_millis(700));
    }
    for server in servers {
        let id = server.id().to_string();
        let status = Command::new("kill").args(["-INT", &id]).status();
        assert!(status.unwrap().success());
        let output = server.wait_with_output().unwrap();
        let said = support::text(&output.stdout);
        let reports = said.lines().filter(|line| line.contains("0.0000-1.0"));
        let reports: Vec<&str> = reports.filter(|line| line.contains("/")).collect();
        assert!(reports.len() >= 2, "{said}");
        assert!(
            reports
                .iter()
                .all(|line| line.contains(" 0/") && line.contains("(0%)")),
            "{said}"
        );
        assert!(
            said.contains("local 239.1.1.7 port 5001 connected with 10.0.0.5"),
            "{said}"
        );
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Whether a program that the project does not need is not installed; says so.
#[allow(clippy::print_stderr)]
fn is_missing(program: &str) -> bool {
    let silent = Stdio::null;
    let mut command = Command::new(program);
    let command = command.arg("--version").stdout(silent()).stderr(silent());
    let missing = command.status().is_err();
    if missing {
        eprintln!("skipped: {program} is not installed");
    }
    missing
}

#[test]
fn java_receives_on_an_ipv6_socket_and_closes_from_another_thread() {
    let test = "java_receives_on_an_ipv6_socket_and_closes_from_another_thread";
    if is_missing("java") {
        return;
    }
    let Some(_world) = enter(test) else { return };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/Joins.java");
    for group in ["239.1.1.1", "ff3e::8000:1"] {
        let line = format!("java {} {group} 5000 {{o}} 100", source.display());
        let said = three("java", group, &line, &numbered(100), 0);
        let from = if group.contains(':') {
            "2001:db8:0:0:0:0:0:5"
        } else {
            "/10.0.0.5:40000"
        };
        for said in said {
            assert!(said.contains(from) && said.contains("closed"), "{said}");
        }
    }
}

#[test]
fn node_receives() {
    let test = "node_receives";
    if is_missing("node") {
        return;
    }
    let Some(_world) = enter(test) else { return };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/joins.js");
    for group in ["239.1.1.1", "ff3e::8000:1"] {
        let line = format!("node {} {group} 5000 {{o}} 100", source.display());
        let said = three("node", group, &line, &numbered(100), 0);
        let from = if group.contains(':') {
            "2001:db8::5 40000"
        } else {
            "10.0.0.5 40000"
        };
        for said in said {
            assert!(said.contains(from), "{said}");
        }
    }
}
