//! A relay that asks by sockets of somebody else's: what it says before one is lent, with
//! which nonce it asks, and what becomes of those below when it is taken away. Is not the
//! program that lends them (`runtime`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_engine::{
    Entropy, NodeSettings, Order, Outbox, Relay, Requester, RequesterSettings, Route, Sender, Time,
};
use flexcast_wire::{Body, Channel, Control, NodeId, Nonce, Reason, Verdict, Want};

const BELOW: &str = "10.0.1.2:4000";
const ABOVE: &str = "10.0.0.2:5000";
const LENT: Nonce = Nonce(77);

fn entropy(mut state: u64) -> Entropy {
    Entropy::new(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state ^ state >> 29
    })
}

fn channel() -> Channel {
    "10.0.0.1#5".parse().unwrap()
}

fn sender_address() -> SocketAddr {
    SocketAddr::new(channel().sender, 7450)
}

/// A receiver, a relay, and the sender; what each says reaches the next at once.
struct Chain {
    now: Time,
    receiver: Requester,
    relay: Relay,
    sender: Sender,
    /// What is said upward comes back to the relay, as in a ring of routes.
    ring: bool,
    /// Requests that went up: the nonce, and whether it was a leave.
    asked: Vec<(Nonce, bool)>,
}

fn hear(now: Time, requester: &mut Requester, control: &Control<'_>, out: &mut Outbox) {
    match &control.body {
        Body::Challenge(c) => requester.on_challenge(now, &control.header, c.cookie, out),
        Body::Status(s) => requester.on_status(now, &control.header, s, out),
        _ => {}
    }
}

/// Who says something.
#[derive(Clone, Copy)]
enum By {
    Receiver,
    Relay,
    Sender,
}

impl Chain {
    fn new() -> Chain {
        let now = Time(1_000_000);
        let settings = RequesterSettings::default();
        let (nonce, own) = (Nonce(9), NodeId::NONE);
        let asking = settings.clone();
        Chain {
            now,
            receiver: Requester::new(now, channel(), nonce, own, sender_address(), settings),
            relay: Relay::new(now, 7450, NodeSettings::relay(), asking, entropy(1)),
            sender: Sender::new(now, NodeSettings::sender(), entropy(2)),
            ring: false,
            asked: Vec::new(),
        }
    }

    fn attach(&mut self) -> bool {
        let settings = RequesterSettings::default();
        let at = sender_address();
        self.relay.attach(self.now, channel(), LENT, at, settings)
    }

    /// Lets everybody talk until nobody has anything to say.
    fn talk(&mut self) {
        let (mut a, mut b, mut c) = (Outbox::new(), Outbox::new(), Outbox::new());
        self.receiver.poll(self.now, &mut a);
        self.carry(By::Receiver, &a, 0);
        self.relay.poll(self.now, &mut b);
        self.carry(By::Relay, &b, 0);
        self.sender.poll(self.now, &mut c);
        self.carry(By::Sender, &c, 0);
        let mut d = Outbox::new();
        self.relay.poll(self.now, &mut d);
        self.carry(By::Relay, &d, 0);
    }

    fn carry(&mut self, said: By, letters: &Outbox, depth: u32) {
        assert!(depth < 20, "they never come to an end");
        for (letter, bytes) in letters.iter() {
            let control = Control::parse(bytes).unwrap();
            let mut out = Outbox::new();
            let by = match (said, letter.route) {
                (By::Receiver, _) => {
                    self.ask_relay(BELOW, &control, &mut out);
                    By::Relay
                }
                (By::Relay, Route::Upstream(_)) => self.ask_above(&control, &mut out),
                (By::Relay, Route::Node(_)) if control.header.nonce == LENT => {
                    let relay = &mut self.relay;
                    relay.on_answer(self.now, channel(), &control, &mut out);
                    By::Relay
                }
                (By::Relay, Route::Node(_)) => {
                    hear(self.now, &mut self.receiver, &control, &mut out);
                    By::Receiver
                }
                (By::Sender, _) => {
                    let relay = &mut self.relay;
                    relay.on_answer(self.now, channel(), &control, &mut out);
                    By::Relay
                }
            };
            self.carry(by, &out, depth + 1);
        }
    }

    fn ask_relay(&mut self, from: &str, control: &Control<'_>, out: &mut Outbox) {
        let (from, asked) = (from.parse().unwrap(), channel().sender);
        let mut own = |_| Some(IpAddr::from([10, 0, 1, 1]));
        let relay = &mut self.relay;
        relay.on_control(self.now, from, asked, &mut own, control, out);
    }

    fn ask_above(&mut self, control: &Control<'_>, out: &mut Outbox) -> By {
        let Body::Request(request) = &control.body else {
            panic!("{control:?}");
        };
        if control.header.nonce != LENT {
            // Nobody carries what is said before a socket was lent.
            return By::Sender;
        }
        let leave = matches!(request.want, Want::Leave { .. });
        self.asked.push((control.header.nonce, leave));
        if self.ring {
            self.ask_relay(ABOVE, control, out);
            return By::Relay;
        }
        let (from, asked) = (ABOVE.parse().unwrap(), channel().sender);
        let sender = &mut self.sender;
        sender.on_control(self.now, from, asked, control, out);
        By::Sender
    }

    fn verdict(&self) -> Option<Verdict> {
        self.receiver.verdict().map(|(verdict, _)| verdict)
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = self.now + Duration::from_millis(50);
            self.talk();
        }
    }
}

#[test]
fn before_a_socket_is_lent_a_channel_waits_and_then_it_is_as_the_node_above_says() {
    let mut chain = Chain::new();
    assert!(!chain.attach(), "nobody wants it yet");
    chain.talk();
    assert_eq!(chain.verdict(), Some(Verdict::Pending));
    assert_eq!(chain.relay.unattached(), [channel()]);
    assert_eq!(chain.relay.next_order(), Some(Order::Open(channel())));
    assert!(chain.attach());
    assert!(!chain.attach(), "once");
    assert_eq!(chain.relay.unattached(), []);
    chain.talk();
    assert_eq!(chain.verdict(), Some(Verdict::Pending), "and no more");
    assert!(chain.asked.iter().all(|asked| *asked == (LENT, false)));
    let token = chain.sender.open(chain.now, channel(), 0);
    chain.talk();
    assert_eq!(chain.verdict(), Some(Verdict::Granted));
    let above = chain.relay.above(&channel()).unwrap();
    assert_eq!(above.token, Some(token));
    let path = [chain.sender.node(), chain.relay.node()];
    assert_eq!(above.path.nodes(), &path[..1]);
    assert_eq!(chain.receiver.parent().unwrap().path.nodes(), path);
}

#[test]
fn those_below_a_channel_that_is_given_up_are_refused_for_the_moment_and_it_is_left() {
    let mut chain = Chain::new();
    chain.talk();
    assert!(chain.attach());
    chain.sender.open(chain.now, channel(), 0);
    chain.talk();
    assert_eq!(chain.verdict(), Some(Verdict::Granted));
    let mut out = Outbox::new();
    let mut requester = chain.relay.detach(chain.now, &channel(), &mut out).unwrap();
    assert!(chain
        .relay
        .detach(chain.now, &channel(), &mut out)
        .is_none());
    let (letter, bytes) = out.iter().next().expect("they are told");
    assert_eq!(
        (out.len(), letter.to.to_string()),
        (1, BELOW.to_owned()),
        "each once"
    );
    let control = Control::parse(bytes).unwrap();
    hear(chain.now, &mut chain.receiver, &control, &mut Outbox::new());
    let refused = Some((Verdict::RefusedPassing, Reason::Overload));
    assert_eq!(chain.receiver.verdict(), refused);
    requester.leave(chain.now, true);
    let mut leave = Outbox::new();
    requester.poll(chain.now, &mut leave);
    chain.carry(By::Relay, &leave, 0);
    assert_eq!(chain.asked.last(), Some(&(LENT, true)));
    assert!(chain.sender.is_deserted(channel().id));
    assert_eq!(chain.relay.report(chain.now).entries, 0);
    let orders: Vec<Order> = std::iter::from_fn(|| chain.relay.next_order()).collect();
    assert_eq!(orders, [Order::Open(channel()), Order::Close(channel())]);
}

#[test]
fn a_channel_that_nobody_lends_a_socket_is_forgotten_with_the_last_who_asked() {
    let mut chain = Chain::new();
    chain.talk();
    assert_eq!(chain.relay.is_deserted(&channel()), Some(false));
    chain.receiver.leave(chain.now, false);
    chain.pass(Duration::from_secs(1));
    assert_eq!(chain.relay.is_deserted(&channel()), None);
    assert!(chain.asked.is_empty());
}

#[test]
fn a_lent_socket_keeps_its_nonce_through_a_loop() {
    let mut chain = Chain::new();
    chain.ring = true;
    chain.talk();
    assert!(chain.attach());
    let mut rounds = 0;
    for _ in 0..300 {
        chain.pass(Duration::from_millis(50));
        assert_ne!(chain.verdict(), Some(Verdict::Granted));
        let before = chain.relay.counters().refused_loop;
        rounds = rounds.max(before);
    }
    assert!(rounds > 1, "it was seen, and asked again after the pause");
    assert!(chain.asked.len() > 2, "by the lent socket's nonce");
}
