//! A requester that is moved to a sender and away from it again, by hand: whether the
//! stream begins and stops at exactly the sequences that the sender says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flexcast_udp::{process, recv_one, send_one, Class, Family, UdpSocket};
use flexcast_wire::{
    Body, Channel, Control, CookieStamp, Credential, Handover, Header, Kind, NodeId, Nonce,
    Request, Sequence, Status, Trailer, Verdict, Want, FLEXCAST_PORT,
};

const PATIENCE: Duration = Duration::from_secs(5);
const FORMER: NodeId = NodeId(1);

pub(crate) struct Moved {
    socket: UdpSocket,
    channel: Channel,
    nonce: Nonce,
    sequence: Sequence,
    cookie: CookieStamp,
    data: Vec<Sequence>,
}

/// What came of a move.
pub(crate) struct Outcome {
    pub(crate) count: usize,
}

impl Moved {
    pub(crate) fn new(channel: Channel) -> Moved {
        let socket = UdpSocket::new(Family::of(channel.sender)).unwrap();
        let any = SocketAddr::new(socket.family().any(), 0);
        socket.bind(any).unwrap();
        socket.set_receive_buffer(4 << 20).unwrap();
        Moved {
            socket,
            channel,
            nonce: Nonce(process::random_u64().unwrap() | 1),
            sequence: Sequence(1),
            cookie: CookieStamp::default(),
            data: Vec::new(),
        }
    }

    fn ask(&mut self, want: Want, parent: NodeId) {
        self.sequence = self.sequence.next();
        let request = Request {
            direct: false,
            want,
            hold_ms: 35_000,
            heartbeat_ms: 1_000,
            parent,
            attempt: 0,
            hop_budget: 32,
            received: 0,
            lost: None,
            receivers_below: 1,
            path_mtu: 0,
            cookies: [self.cookie, CookieStamp::default()],
            credential: Credential::NONE,
        };
        let header = Header {
            channel: self.channel,
            nonce: self.nonce,
            node: NodeId::NONE,
            sequence: self.sequence,
            answered: Sequence(0),
        };
        let body = Body::Request(request);
        let mut bytes = Vec::new();
        Control { header, body }.emit(&mut bytes);
        let to = SocketAddr::new(self.channel.sender, FLEXCAST_PORT);
        send_one(&self.socket, to, None, Class::Control, &[&bytes]).unwrap();
    }

    /// Takes what comes until a status is the wanted one, or for a time.
    fn listen(&mut self, limit: Duration, mut wanted: impl FnMut(&Status) -> bool) -> bool {
        let until = Instant::now() + limit;
        let mut buffer = vec![0; 70_000];
        while Instant::now() < until {
            let Ok(received) = recv_one(&self.socket, &mut buffer) else {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            };
            let (_, trailer) = Trailer::split(received.payload).unwrap();
            if trailer.kind != Kind::Control {
                self.data.push(trailer.sequence);
                continue;
            }
            let control = Control::parse(received.payload).unwrap();
            let node = control.header.node;
            match control.body {
                Body::Challenge(challenge) => {
                    let cookie = challenge.cookie;
                    self.cookie = CookieStamp { node, cookie };
                    self.ask(Want::Stream, FORMER);
                }
                Body::Status(status) => {
                    let cookie = status.cookie;
                    self.cookie = CookieStamp { node, cookie };
                    if wanted(&status) {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }

    /// There and away again.
    pub(crate) fn turn(mut self) -> Outcome {
        self.ask(Want::Stream, FORMER);
        let mut highest = None;
        assert!(self.listen(PATIENCE, |status| {
            highest = status.highest;
            status.standby
        }));
        let highest = highest.expect("the stream has begun");
        self.listen(Duration::from_millis(20), |_| false);
        assert_eq!(self.data, [], "standby is without stream");
        // Some are ahead of the stream, some behind it.
        let ahead = process::random_u64().unwrap().is_multiple_of(2);
        let k = highest.plus(if ahead { 70 } else { 0 });
        self.ask(Want::From(k), FORMER);
        let mut start = None;
        assert!(self.listen(PATIENCE, |status| match status.handover {
            Some(Handover::StartsAt(at)) => {
                start = Some(at);
                true
            }
            _ => false,
        }));
        let start = start.unwrap();
        assert!(start.reaches(k));
        while self.data.len() < 40 {
            assert!(!self.listen(Duration::from_millis(5), |_| false));
        }
        let j = self.data.last().unwrap().plus(20);
        self.ask(Want::Until(j), self.cookie.node);
        let mut stop = None;
        assert!(self.listen(PATIENCE, |status| match status.handover {
            Some(Handover::StoppedAt(at)) if status.verdict == Verdict::Left => {
                stop = Some(at);
                true
            }
            _ => false,
        }));
        let stop = stop.unwrap();
        assert!(stop.reaches(j));
        self.listen(Duration::from_millis(30), |_| false);
        let count = u32::try_from(self.data.len()).unwrap();
        let expected: Vec<Sequence> = (0..count).map(|n| start.plus(n)).collect();
        assert_eq!(self.data, expected, "from {start:?} on, without a gap");
        assert_eq!(start.plus(count), stop, "up to where it was said to stop");
        let count = self.data.len();
        Outcome { count }
    }
}
