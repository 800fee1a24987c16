//! Ordinary sending programs, unmodified: what they send is what a receiver gets.
//!
//! Each starts under the library with `empty=wait`, so that its first datagram waits
//! for the receiver, the library's native one in this process. Is not the way through
//! relays to unmodified receivers (shim-tests).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flexcast_runtime::native::{Event, Receiver, ReceiverSettings};
use flexcast_wire::{Channel, ChannelId};

mod support;

use support::enter;

const LIMIT: Duration = Duration::from_secs(30);
const RULE: &str = "239.1.0.0/16=10.0.0.5,empty=wait";

fn listen(group: &str, port: u16) -> Receiver {
    let group: IpAddr = group.parse().unwrap();
    let id = ChannelId::from_group(group, port).unwrap();
    let channel = Channel::new([10, 0, 0, 5].into(), id);
    Receiver::open(ReceiverSettings::new(channel, 7450)).unwrap()
}

/// Everything from the first datagram to the end of the stream.
fn hear(receiver: &mut Receiver, child: &mut Child) -> Vec<Vec<u8>> {
    let (mut heard, deadline) = (Vec::new(), Instant::now() + LIMIT);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.next(Some(left)) {
            Event::Datagram(bytes) => heard.push(bytes.to_vec()),
            Event::Ended if !heard.is_empty() => return heard,
            Event::TimedOut => {
                let status = child.try_wait().unwrap();
                panic!(
                    "{} datagrams and no end; the sender: {status:?}",
                    heard.len()
                );
            }
            _ => {}
        }
    }
}

/// Runs a sender to its end; what was heard, and what it said.
fn send(group: &str, port: u16, command: &mut Command) -> (Vec<Vec<u8>>, String) {
    let mut child = command
        .env("LD_PRELOAD", support::library())
        .env("FLEXCAST_MAP", RULE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let heard = hear(&mut listen(group, port), &mut child);
    let output = child.wait_with_output().unwrap();
    let said = support::text(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}: {said}",
        output.status
    );
    (heard, said)
}

fn legacy(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../legacy-apps");
    root.join(name).canonicalize().unwrap()
}

/// A file of 100 times 1316 bytes, no two pieces alike.
fn file(name: &str) -> (PathBuf, Vec<u8>) {
    let bytes: Vec<u8> = (0..32_900_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

fn numbers(heard: &[Vec<u8>]) -> Vec<u64> {
    let number = |bytes: &Vec<u8>| u64::from_be_bytes(bytes[..8].try_into().unwrap());
    heard.iter().map(number).collect()
}

#[test]
fn the_legacy_senders_in_c_and_python_push() {
    let Some(_world) = enter("the_legacy_senders_in_c_and_python_push") else {
        return;
    };
    let push = support::program(legacy("push.c"), &[]);
    let plain = ["-n", "60", "-r", "2000", "-s", "700", "239.1.1.1"];
    let mut by_c = Command::new(&push);
    let mut connected = Command::new(&push);
    let mut python = Command::new("python3");
    by_c.args(plain).arg("5000");
    connected.arg("-c").args(plain).arg("5001");
    python.arg(legacy("push.py")).args(plain).arg("5002");
    for (port, command) in (5000..).zip([by_c, connected, python].iter_mut()) {
        let (heard, said) = send("239.1.1.1", port, command);
        assert_eq!(
            numbers(&heard),
            (0..60).collect::<Vec<u64>>(),
            "{command:?}"
        );
        assert!(heard.iter().all(|datagram| datagram.len() == 700));
        assert_eq!(said, "sent 60\n");
    }
}

#[test]
fn socat_and_multicat_push_a_file_byte_for_byte() {
    let Some(_world) = enter("socat_and_multicat_push_a_file_byte_for_byte") else {
        return;
    };
    let (path, bytes) = file("socat");
    let name = path.display();
    let (heard, _) = send(
        "239.1.1.2",
        5000,
        Command::new("socat")
            .args(["-u", "-b", "1316", &format!("OPEN:{name}")])
            .arg("UDP4-DATAGRAM:239.1.1.2:5000,ip-multicast-ttl=4"),
    );
    assert_eq!(heard.concat(), bytes);
    assert_eq!(heard.len(), 100);
    std::fs::remove_file(&path).unwrap();

    // multicat paces by the clock of a transport stream: ffmpeg makes one.
    let stream = path.with_extension("ts");
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc=duration=1:size=160x120:rate=25",
        ])
        .args(["-f", "mpegts", "-mpegts_flags", "+resend_headers"])
        .arg(&stream)
        .status();
    assert!(made.expect("ffmpeg is installed").success());
    let ingested = Command::new("ingests")
        .args(["-p", "256"])
        .arg(&stream)
        .status();
    assert!(ingested.expect("multicat is installed").success());
    let mut bytes = std::fs::read(&stream).unwrap();
    let (heard, _) = send(
        "239.1.1.1",
        5000,
        Command::new("multicat")
            .args(["-u", "-U"])
            .arg(&stream)
            .arg("239.1.1.1:5000/ttl=4"),
    );
    // It sends whole datagrams of seven packets.
    bytes.truncate(bytes.len() / 1316 * 1316);
    let heard = heard.concat();
    assert!(!bytes.is_empty() && heard.len() >= bytes.len());
    assert!(heard[..bytes.len()] == bytes, "{} bytes", heard.len());
    let _ = std::fs::remove_file(stream.with_extension("aux"));
    std::fs::remove_file(stream).unwrap();
}

#[test]
fn ffmpeg_pushes_what_it_writes_to_a_file() {
    let Some(_world) = enter("ffmpeg_pushes_what_it_writes_to_a_file") else {
        return;
    };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let own = std::process::id();
    let source = folder.join(format!("ffmpeg-in-{own}.ts"));
    let written = folder.join(format!("ffmpeg-out-{own}.ts"));
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc=duration=2:size=160x120:rate=25",
        ])
        .args(["-f", "mpegts"])
        .arg(&source)
        .status();
    assert!(made.expect("ffmpeg is installed").success());
    let mut copy = Command::new("ffmpeg");
    copy.args(["-nostdin", "-v", "error", "-y"]);
    copy.arg("-i")
        .arg(&source)
        .args(["-map", "0", "-c", "copy", "-f", "mpegts"]);
    assert!(copy.arg(&written).status().unwrap().success());
    let bytes = std::fs::read(&written).unwrap();
    for (port, options) in [
        (5000, "pkt_size=1316&ttl=4"),
        (5001, "pkt_size=1316&ttl=4&connect=1"),
    ] {
        let mut command = Command::new("ffmpeg");
        command
            .args(["-nostdin", "-v", "error", "-re", "-i"])
            .arg(&source);
        command.args(["-map", "0", "-c", "copy", "-f", "mpegts"]);
        command.arg(format!("udp://239.1.1.4:{port}?{options}"));
        let (heard, said) = send("239.1.1.4", port, &mut command);
        assert!(
            heard.concat() == bytes,
            "{options}: {} datagrams",
            heard.len()
        );
        assert_eq!(said, "", "{options}");
    }
    std::fs::remove_file(source).unwrap();
    std::fs::remove_file(written).unwrap();
}

#[test]
fn iperf_pushes_its_numbered_datagrams() {
    let Some(_world) = enter("iperf_pushes_its_numbered_datagrams") else {
        return;
    };
    let mut command = Command::new("iperf");
    command.args([
        "-c",
        "239.1.1.7",
        "-u",
        "-p",
        "5001",
        "-b",
        "4M",
        "-t",
        "1",
        "-T",
        "4",
    ]);
    let (heard, _) = send("239.1.1.7", 5001, &mut command);
    // A signed number begins each; the last ones, negative, are said once or more.
    let number = |bytes: &Vec<u8>| i32::from_be_bytes(bytes[..4].try_into().unwrap());
    let numbers: Vec<i32> = heard.iter().map(number).take_while(|n| *n >= 0).collect();
    assert!(numbers.len() > 300, "{numbers:?}");
    let first = numbers[0];
    assert!(
        numbers.iter().zip(first..).all(|(n, right)| *n == right),
        "{numbers:?}"
    );
}
