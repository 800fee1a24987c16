//! What a relay says of itself to `flexcast status`: over an abstract unix socket
//! of its network namespace, as JSON. Anybody on the host may ask; nothing can be
//! changed here. Is not metrics over HTTP.

use std::rc::Rc;
use std::time::Duration;

use flexcast_engine::{RelayReport, Time};
use flexcast_udp::process::{self, Epoll, Interest, PollFd};
use flexcast_udp::unix::{Listener, Stream};
use flexcast_udp::Errno;
use flexcast_wire::Malformed;
use serde::{Deserialize, Serialize};

use crate::complaints::Heard;
use crate::downstream::Downstream;
use crate::error::ServiceError;
use crate::watch::Watch;

/// Largest message on the socket.
const CHUNK: usize = 32 * 1024;

/// A relay, at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusReport {
    /// The relay's node id, hexadecimal.
    pub node: String,
    /// Its process.
    pub pid: i32,
    /// The port of requests.
    pub port: u16,
    /// Whether it is going away.
    pub draining: bool,
    /// Whether requests are being captured.
    pub capturing: bool,
    /// Why not; empty while they are.
    pub not_capturing: String,
    /// Whether super-packets (UDP_SEGMENT) are used.
    pub segmentation_offload: bool,
    /// Requesters in all channels.
    pub requesters: u64,
    /// Stream copies sent down.
    pub copies_sent: u64,
    /// Copies refused by the kernel, each for one requester.
    pub copies_refused: u64,
    /// Copies dropped because the socket was full.
    pub copies_dropped: u64,
    /// Control datagrams taken in.
    pub control_received: u64,
    /// Requests with a valid cookie.
    pub requests_validated: u64,
    /// Challenges sent.
    pub challenges_sent: u64,
    /// Requests met with silence, over the budget of challenges.
    pub requests_silenced: u64,
    /// Refusals because a table was full.
    pub refused_full: u64,
    /// Refusals for a loop or a used-up hop budget.
    pub refused_loop: u64,
    /// Control that was not for this relay.
    pub strange: u64,
    /// ICMP errors about stream copies that met nobody.
    pub icmp_unreachable: u64,
    /// ICMP errors about stream copies too large for a link below.
    pub icmp_too_big: u64,
    /// Leaves and ICMP errors meant for other nodes, passed on to them.
    pub passed_on: u64,
    /// Malformed datagrams dropped, by reason.
    pub malformed: Vec<(String, u64)>,
    /// The channels.
    pub channels: Vec<ChannelLine>,
}

/// A channel at a relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChannelLine {
    /// S#ID.
    pub channel: String,
    /// granted, pending, …
    pub verdict: String,
    /// Why a refusal; empty otherwise.
    pub reason: String,
    /// Whom the relay asks.
    pub upstream: Option<String>,
    /// Node ids from S down to this relay.
    pub path: Vec<String>,
    /// Stream datagrams passed on, once each.
    pub datagrams: u64,
    /// Stream bytes passed on, trailers included.
    pub bytes: u64,
    /// Datagrams missed from upstream.
    pub lost: u64,
    /// Datagrams that came twice.
    pub duplicates: u64,
    /// Receivers at and below the requesters.
    pub receivers_below: u64,
    /// Age in seconds.
    pub age: f64,
    /// The requesters.
    pub requesters: Vec<RequesterLine>,
}

/// A requester of a channel at a relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequesterLine {
    /// Address and port.
    pub address: String,
    /// The address that it asked, which its stream comes from.
    pub asked: String,
    /// Granted without stream, as another node feeds it.
    pub standby: bool,
    /// Seconds since it entered.
    pub age: f64,
    /// Seconds since its last request.
    pub idle: f64,
    /// Stream datagrams sent to it.
    pub datagrams: u64,
    /// Stream bytes sent to it.
    pub bytes: u64,
    /// Datagrams it reports as lost, where it can know.
    pub lost: Option<u64>,
    /// Receivers at and below it.
    pub receivers_below: u32,
}

impl StatusReport {
    pub(crate) fn new(
        report: &RelayReport,
        port: u16,
        watch: &Watch,
        downstream: &Downstream,
        heard: Heard,
        passed_on: u64,
    ) -> StatusReport {
        let counters = &report.counters;
        let sent = downstream.sent;
        let malformed = Malformed::ALL
            .iter()
            .map(|m| (m.to_string(), counters.malformed[m.index()]))
            .filter(|(_, n)| *n > 0)
            .collect();
        StatusReport {
            node: report.node.to_string(),
            pid: process::pid(),
            port,
            draining: report.draining,
            capturing: watch.captures(),
            not_capturing: watch.why().to_owned(),
            segmentation_offload: downstream.segments(),
            requesters: report.entries,
            copies_sent: sent.copies,
            copies_refused: sent.refused,
            copies_dropped: sent.dropped,
            control_received: counters.received,
            requests_validated: counters.validated,
            challenges_sent: counters.challenged,
            requests_silenced: counters.silenced,
            refused_full: counters.refused_full,
            refused_loop: counters.refused_loop,
            strange: counters.strange,
            icmp_unreachable: heard.unreachable,
            icmp_too_big: heard.too_big,
            passed_on,
            malformed,
            channels: report.channels.iter().map(line).collect(),
        }
    }
}

fn line(c: &flexcast_engine::ChannelSummary) -> ChannelLine {
    let reason = format!("{:?}", c.state.reason).to_lowercase();
    ChannelLine {
        channel: c.channel.to_string(),
        verdict: format!("{:?}", c.state.verdict).to_lowercase(),
        reason: if reason == "none" {
            String::new()
        } else {
            reason
        },
        upstream: c.upstream.map(|a| a.to_string()),
        path: c
            .state
            .path
            .nodes()
            .iter()
            .map(ToString::to_string)
            .collect(),
        datagrams: c.datagrams,
        bytes: c.bytes,
        lost: c.lost,
        duplicates: c.duplicates,
        receivers_below: c.receivers_below,
        age: c.age.as_secs_f64(),
        requesters: c
            .requesters
            .iter()
            .map(|r| RequesterLine {
                address: r.address.to_string(),
                asked: r.asked.to_string(),
                standby: r.standby,
                age: r.age.as_secs_f64(),
                idle: r.idle.as_secs_f64(),
                datagrams: r.datagrams,
                bytes: r.bytes,
                lost: r.lost,
                receivers_below: r.receivers_below,
            })
            .collect(),
    }
}

/// The name of the abstract socket of a relay on port `fp`.
fn name(fp: u16) -> Vec<u8> {
    format!("flexcast-relay/{fp}").into_bytes()
}

/// A report is made anew after this, or after ten times what making it took: who
/// asks often does not hold up the stream.
const STALE: Duration = Duration::from_millis(20);
/// Askers who have not read their report yet.
const WAITING: usize = 16;

/// Answers whoever connects.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: Listener,
    report: Rc<[u8]>,
    stale_at: Time,
    waiting: Vec<Asker>,
}

/// Somebody with the part of the report that is not sent yet.
#[derive(Debug)]
struct Asker {
    stream: Stream,
    report: Rc<[u8]>,
    sent: usize,
}

impl Door {
    pub(crate) fn open(fp: u16) -> Result<Door, ServiceError> {
        let listener = Listener::bind(&name(fp)).map_err(|errno| match errno {
            Errno::EADDRINUSE => ServiceError::AnotherRelay {
                port: fp,
                process: Stream::connect(&name(fp))
                    .and_then(|stream| stream.peer())
                    .map_or_else(|_| String::new(), |peer| format!(" (process {})", peer.pid)),
            },
            errno => ServiceError::of("the status socket")(errno),
        })?;
        Ok(Door {
            listener,
            report: Rc::new([]),
            stale_at: Time(0),
            waiting: Vec::new(),
        })
    }

    /// Accepts who waits and sends each the report; the end is the connection's.
    pub(crate) fn answer(
        &mut self,
        now: Time,
        epoll: &Epoll,
        token: u64,
        report: impl FnOnce() -> StatusReport,
    ) {
        if now >= self.stale_at {
            let json = serde_json::to_vec(&report()).unwrap_or_default();
            let took = Time(process::boottime_us()).since(now);
            self.report = json.into();
            self.stale_at = now + STALE.max(took * 10);
        }
        while let Ok(stream) = self.listener.accept() {
            let mut asker = Asker {
                stream,
                report: Rc::clone(&self.report),
                sent: 0,
            };
            if !asker.send() && self.waiting.len() < WAITING {
                let _ = epoll.add(asker.stream.fd.as_raw(), token, Interest::WRITE);
                self.waiting.push(asker);
            }
        }
    }

    /// Sends more to those whose queues were full.
    pub(crate) fn go_on(&mut self) {
        self.waiting.retain_mut(|asker| !asker.send());
    }
}

impl Asker {
    /// Whether all is sent, or nobody reads it any more.
    fn send(&mut self) -> bool {
        while self.sent < self.report.len() {
            let end = self.report.len().min(self.sent + CHUNK);
            match self.stream.send(&self.report[self.sent..end], &[]) {
                Ok(_) => self.sent = end,
                Err(Errno::EAGAIN) => return false,
                Err(_) => return true,
            }
        }
        true
    }
}

/// Why a relay's status could not be had.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody answers on this port.
    #[error(
        "no relay runs on port {0} in this network namespace: start one with `flexcast relay`"
    )]
    NoRelay(u16),
    /// It did not answer in time or the connection broke.
    #[error("the relay on port {0} did not answer: {1}")]
    Silent(u16, String),
}

/// Asks the relay on port `fp` of this network namespace.
///
/// # Errors
/// [`StatusError`].
pub fn ask_status(fp: u16) -> Result<StatusReport, StatusError> {
    let stream = Stream::connect(&name(fp)).map_err(|_| StatusError::NoRelay(fp))?;
    let silent = |why: &dyn std::fmt::Display| StatusError::Silent(fp, why.to_string());
    let mut json = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let limit = Time(process::boottime_us()) + Duration::from_secs(2);
    let mut at_end = false;
    loop {
        match stream.recv(&mut chunk) {
            // Twice: where the last message and the close come while the kernel looks
            // (unix_dgram_recvmsg), the first of these overtakes the message.
            Ok((0, _)) if at_end => break,
            Ok((n, _)) => {
                at_end = n == 0;
                json.extend_from_slice(&chunk[..n]);
            }
            Err(Errno::EAGAIN) => {
                let now = Time(process::boottime_us());
                if now >= limit {
                    return Err(silent(&"no answer within 2 s"));
                }
                let mut fds = [PollFd::new(stream.fd.as_raw(), PollFd::IN)];
                let _ = process::poll(&mut fds, Some(100_000));
            }
            Err(e) => return Err(silent(&e)),
        }
    }
    serde_json::from_slice(&json).map_err(|e| silent(&e))
}
