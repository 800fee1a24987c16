//! The two ends of a stream: a sender in this process, the library's own, and a program
//! under the preload library, told what to do line by line (`programs/commands.c`).
//!
//! Promises: what must come to be is waited for, up to a limit. Is not a world.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flexcast_runtime::send::{SendSettings, Sending, SendingChannel};
use flexcast_runtime::NodeSettings;
use flexcast_wire::{Body, Channel, ChannelId, Control, Trailer};

use super::{library, program};

pub(crate) const FP: u16 = 7450;

/// This process's sender.
pub(crate) fn sending() -> Arc<Sending> {
    let settings = SendSettings {
        fp: FP,
        node: NodeSettings::sender(),
    };
    Sending::start(settings).expect("FP is free")
}

/// What the next datagram to a node that does not answer asks for.
pub(crate) fn asked_for(node: &UdpSocket) -> Channel {
    let mut bytes = [0; 2048];
    let (length, _) = node.recv_from(&mut bytes).expect("a request comes");
    let (body, trailer) = Trailer::split(&bytes[..length]).expect("it has a trailer");
    let control = Control::parse_body(body, &trailer).expect("it is control");
    assert!(matches!(control.body, Body::Request(_)), "{control:?}");
    control.header.channel
}

/// The sender of one channel.
pub(crate) struct Sender {
    pub(crate) sending: Arc<Sending>,
    pub(crate) channel: SendingChannel,
}

impl Sender {
    /// Of a group's channel on port 5000.
    pub(crate) fn start(group: &str, sender: &str) -> Sender {
        let group: IpAddr = group.parse().unwrap();
        let id = ChannelId::from_group(group, 5000).unwrap();
        Sender::of(Channel::new(sender.parse().unwrap(), id))
    }

    pub(crate) fn of(channel: Channel) -> Sender {
        let sending = sending();
        let channel = sending.open(channel, 40_000).expect("it opens");
        Sender { sending, channel }
    }

    pub(crate) fn send(&self, text: &str) {
        let parts = [text.as_bytes()];
        self.channel.send(&[&parts[..]], true).expect("it is sent");
    }

    /// Waits for this number of receivers; how long that took.
    pub(crate) fn counts(&self, receivers: u64, limit: Duration) -> Duration {
        let began = Instant::now();
        while self.channel.receivers() != receivers {
            let now = self.channel.receivers();
            assert!(
                began.elapsed() < limit,
                "{now} receivers, not {receivers}, after {limit:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        began.elapsed()
    }
}

/// The program under the library.
pub(crate) struct Receiver {
    pub(crate) child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Receiver {
    pub(crate) fn start(
        rule: &str,
        group: &str,
        wrapped_by: &[&str],
        path: Option<&str>,
    ) -> Receiver {
        Receiver::start_under(&library(), rule, group, wrapped_by, path)
    }

    pub(crate) fn start_under(
        library: &Path,
        rule: &str,
        group: &str,
        wrapped_by: &[&str],
        path: Option<&str>,
    ) -> Receiver {
        let program = program("commands.c", &[]);
        let mut command = match wrapped_by.split_first() {
            None => Command::new(&program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        command
            .args([group, "5000"])
            .env("LD_PRELOAD", library)
            .env("FLEXCAST_MAP", rule)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(path) = path {
            command.env("FLEXCAST_PATH", path);
        }
        let mut child = command.spawn().expect("the program starts");
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Receiver {
            child,
            to,
            from: BufReader::new(from),
        }
    }

    pub(crate) fn tell(&mut self, line: &str) -> String {
        writeln!(self.to, "{line}").expect("it reads");
        let mut answer = String::new();
        self.from.read_line(&mut answer).expect("it answers");
        answer.trim_end().to_owned()
    }

    pub(crate) fn joins(&mut self, how: &str) {
        assert_eq!(self.tell(&format!("join {how}")), "joined");
    }

    /// Tells the last line, and waits for the end.
    pub(crate) fn ends(mut self, line: &str) {
        writeln!(self.to, "{line}").expect("it reads");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{line}: {status}");
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
