//! The audience on a moved clock: deadlines to the microsecond, order, limits, turns.

use super::*;
use crate::gate::Gate;
use crate::{Entropy, NodeSettings};
use flexcast_wire::{CookieStamp, Credential, Path, StreamToken};

const START: Time = Time(1_000_000_000);
const OTHER: NodeId = NodeId(77);

/// One audience, its gate, and what it said.
struct Bench {
    gate: Gate,
    audience: Audience,
    state: ChannelState,
    now: Time,
    out: Outbox,
}

/// A request that asks for the stream; tests change what they are about.
fn request() -> Request {
    Request {
        direct: false,
        want: Want::Stream,
        hold_ms: 35_000,
        heartbeat_ms: 1_000,
        parent: NodeId::NONE,
        attempt: 0,
        hop_budget: 32,
        received: 0,
        lost: None,
        receivers_below: 1,
        path_mtu: 0,
        cookies: [CookieStamp::default(); 2],
        credential: Credential::NONE,
    }
}

fn channel() -> Channel {
    "10.0.0.1#5000".parse().unwrap()
}

fn state() -> ChannelState {
    ChannelState {
        verdict: Verdict::Granted,
        reason: Reason::None,
        token: Some(StreamToken(9)),
        app_port: 5000,
        ask: false,
        path: Path::EMPTY,
    }
}

fn address(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1], n))
}

impl Bench {
    fn new(limit: usize) -> Bench {
        Bench::with(NodeSettings::relay(), limit)
    }

    fn with(settings: NodeSettings, limit: usize) -> Bench {
        let mut n = 1;
        let entropy = Entropy::new(move || {
            n += 2;
            n
        });
        Bench {
            gate: Gate::new(START, settings, entropy),
            audience: Audience::new(limit),
            state: state(),
            now: START,
            out: Outbox::new(),
        }
    }

    /// A request of requester `n`, from its address.
    fn ask(&mut self, n: u16, sequence: u32, request: &Request) -> Taken {
        self.ask_from(address(n), n, sequence, request)
    }

    fn ask_from(&mut self, from: SocketAddr, n: u16, sequence: u32, request: &Request) -> Taken {
        let header = Header {
            channel: channel(),
            nonce: Nonce(u64::from(n)),
            node: NodeId::NONE,
            sequence: Sequence(sequence),
            answered: Sequence(0),
        };
        let asked = channel().sender;
        let mut voice = self
            .gate
            .voice(self.now, channel(), self.state, &mut self.out);
        let taken = self
            .audience
            .take(&mut voice, from, asked, None, &header, request);
        if taken == Taken::Entered {
            self.gate.charge(from.ip());
        }
        self.gate.settle(&mut self.audience);
        taken
    }

    /// Moves the clock and does what is due.
    fn at(&mut self, since_start: Duration) {
        self.now = START + since_start;
        let mut voice = self
            .gate
            .voice(self.now, channel(), self.state, &mut self.out);
        self.audience.poll(&mut voice);
        self.gate.settle(&mut self.audience);
    }

    /// What was said since the last call: to whom, and the status.
    fn said(&mut self) -> Vec<(SocketAddr, Status)> {
        let mut said = Vec::new();
        for (letter, bytes) in self.out.iter() {
            match Control::parse(bytes).unwrap().body {
                Body::Status(status) => said.push((letter.to, status)),
                other => panic!("{other:?}"),
            }
        }
        self.out.clear();
        said
    }

    fn said_one(&mut self) -> Status {
        let said = self.said();
        assert_eq!(said.len(), 1, "{said:?}");
        said[0].1
    }

    /// The caller sent datagrams up to this sequence, one after the other.
    fn stream_to(&mut self, last: u32) {
        let next = self.audience.highest.map_or(0, |h| h.0 + 1);
        for n in next..=last {
            self.audience.carried_on(self.now, &[Sequence(n)], &[100]);
        }
    }

    /// Whether requester `n` would get this sequence.
    fn gets(&self, n: u16, sequence: u32) -> bool {
        let fan = self.audience.fan();
        let steady = fan.steady().iter().any(|t| t.to == address(n));
        let mut moving = fan.moving().iter();
        let moving = moving.any(|(t, w)| t.to == address(n) && w.admits(Sequence(sequence)));
        assert!(!(steady && moving), "never twice");
        steady || moving
    }

    fn sources(&self) -> u64 {
        self.gate.entries()
    }
}

#[test]
fn an_end_of_before_it_came_is_none_to_a_requester() {
    let mut bench = Bench::new(10);
    bench.ask(1, 1, &request());
    assert_eq!(bench.said_one().verdict, Verdict::Granted);
    bench.state.verdict = Verdict::Ended;
    bench.ask(1, 2, &request());
    assert_eq!(bench.said_one().verdict, Verdict::Ended);
    bench.ask(2, 1, &request());
    let late = bench.said_one();
    assert_eq!((late.verdict, late.token), (Verdict::Pending, None));
    // Another node fed this one, and it missed the end.
    let fed = Request {
        received: 1,
        ..request()
    };
    bench.ask(3, 1, &fed);
    assert_eq!(bench.said_one().verdict, Verdict::Ended);
    assert!(bench.audience.is_fed());
    bench.audience.expel(Nonce(3));
    assert!(!bench.audience.is_fed());
    bench.state.verdict = Verdict::Granted;
    bench.ask(2, 2, &request());
    assert_eq!(bench.said_one().verdict, Verdict::Granted);
    bench.state.verdict = Verdict::Ended;
    bench.ask(2, 3, &request());
    assert_eq!(bench.said_one().verdict, Verdict::Ended, "now it is news");
}

#[test]
fn an_entry_lives_until_exactly_its_deadline() {
    let mut bench = Bench::new(10);
    let short = Request {
        hold_ms: 5_000,
        ..request()
    };
    assert_eq!(bench.ask(1, 1, &short), Taken::Entered);
    bench.at(ms(5_000) - Duration::from_micros(1));
    assert_eq!((bench.audience.len(), bench.sources()), (1, 1));
    bench.at(ms(5_000));
    assert_eq!((bench.audience.len(), bench.sources()), (0, 0));
    assert!(bench.audience.fan().is_empty());
    assert_eq!(bench.audience.next_event(), Time::NEVER);
}

#[test]
fn a_refresh_renews_the_deadline_and_holds_are_bounded() {
    let mut bench = Bench::new(10);
    for (asked, granted) in [(5_000, 5_000), (100_000, 60_000), (10, 1_000)] {
        let hold = Request {
            hold_ms: asked,
            ..request()
        };
        bench.ask(1, asked + 1_000_000, &hold);
        assert_eq!(bench.said_one().hold_ms, granted, "{asked}");
        bench.audience.expel(Nonce(1));
    }
    bench.ask(
        2,
        1,
        &Request {
            hold_ms: 5_000,
            ..request()
        },
    );
    bench.at(ms(4_000));
    bench.ask(
        2,
        2,
        &Request {
            hold_ms: 5_000,
            ..request()
        },
    );
    bench.at(ms(8_999));
    assert_eq!(bench.audience.len(), 1);
    bench.at(ms(9_000));
    assert_eq!(bench.audience.len(), 0);
}

#[test]
fn requests_count_in_the_order_of_their_sequences() {
    let mut bench = Bench::new(10);
    bench.ask(1, 10, &request());
    bench.said();
    for old in [10, 9, 10 - 5] {
        assert_eq!(bench.ask(1, old, &request()), Taken::Stale);
        let leave = Request {
            want: Want::Leave { none_below: false },
            ..request()
        };
        assert_eq!(bench.ask(1, old, &leave), Taken::Stale);
        let until = Request {
            want: Want::Until(Sequence(5)),
            ..request()
        };
        assert_eq!(bench.ask(1, old, &until), Taken::Stale);
    }
    assert!(bench.said().is_empty(), "nothing answers them");
    assert!(bench.gets(1, 0));
    assert_eq!(bench.ask(1, 11, &request()), Taken::Refreshed);
    // Across the wrap.
    bench.ask(2, u32::MAX, &request());
    assert_eq!(bench.ask(2, 0, &request()), Taken::Refreshed);
    assert_eq!(bench.ask(2, u32::MAX, &request()), Taken::Stale);
}

#[test]
fn a_tombstone_holds_older_requests_off_for_exactly_five_seconds() {
    let mut bench = Bench::new(10);
    bench.ask(1, 10, &request());
    bench.said();
    let leave = Request {
        want: Want::Leave { none_below: true },
        ..request()
    };
    assert_eq!(bench.ask(1, 12, &leave), Taken::Left { none_below: true });
    assert_eq!(bench.said_one().verdict, Verdict::Left);
    assert!(!bench.gets(1, 0));
    assert!(bench.audience.knows(Nonce(1)));
    // Requests that were on the way.
    assert_eq!(bench.ask(1, 11, &request()), Taken::Stale);
    assert_eq!(bench.ask(1, 12, &leave), Taken::Stale);
    // A repeated leave is answered again.
    assert_eq!(bench.ask(1, 13, &leave), Taken::Unknown);
    assert_eq!(bench.said_one().verdict, Verdict::Left);
    bench.at(ms(5_000) - Duration::from_micros(1));
    assert_eq!(bench.ask(1, 11, &request()), Taken::Stale);
    bench.at(ms(5_000));
    assert_eq!(bench.ask(1, 11, &request()), Taken::Entered);
    assert!(bench.gets(1, 0));
}

#[test]
fn a_newer_request_joins_again_before_the_tombstone_is_gone() {
    let mut bench = Bench::new(10);
    bench.ask(1, 10, &request());
    let leave = Request {
        want: Want::Leave { none_below: false },
        ..request()
    };
    bench.ask(1, 11, &leave);
    assert_eq!(bench.ask(1, 12, &request()), Taken::Entered);
    assert!(bench.gets(1, 0));
    assert_eq!(bench.ask(1, 11, &leave), Taken::Stale);
}

#[test]
fn left_goes_where_the_farewell_came_from_and_is_shorter_than_it() {
    // Through a NAT, or from a socket that took over, that is not the entry's address.
    let beside = SocketAddr::from(([192, 0, 2, 1], 9));
    for want in [Want::Until(Sequence(0)), Want::Leave { none_below: false }] {
        let mut bench = Bench::new(10);
        let farewell = Request { want, ..request() };
        bench.ask(1, 10, &request());
        bench.stream_to(9);
        bench.said();
        for sequence in [11, 12] {
            bench.ask_from(beside, 1, sequence, &farewell);
            let longest = bench.out.iter().map(|(_, bytes)| bytes.len()).max();
            assert!(longest.unwrap() < flexcast_wire::REQUEST_LEN + 16);
            let said = bench.said();
            assert_eq!(said.len(), 1);
            assert_eq!((said[0].0, said[0].1.verdict), (beside, Verdict::Left));
        }
        // It renews, moves and enters nothing.
        assert!(!bench.audience.contains(beside));
        bench.at(SETTLE);
        assert_eq!(bench.audience.len(), 0);
    }
}

#[test]
fn a_leave_from_another_port_of_the_same_host_is_answered_there() {
    let mut bench = Bench::new(10);
    bench.ask(1, 10, &request());
    bench.said();
    let leave = Request {
        want: Want::Leave { none_below: false },
        ..request()
    };
    for sequence in [11, 12] {
        bench.ask_from(address(999), 1, sequence, &leave);
        let said = bench.said();
        assert_eq!(said.len(), 1);
        assert_eq!(
            (said[0].0, said[0].1.verdict),
            (address(999), Verdict::Left)
        );
    }
    assert!(!bench.audience.contains(address(1)));
}

#[test]
fn a_sign_of_life_is_asked_for_three_times_and_waited_for_one_second() {
    let mut bench = Bench::new(10);
    bench.ask(1, 1, &request());
    bench.ask(2, 1, &request());
    bench.at(ms(100));
    bench.said();
    assert!(bench.audience.doubt(bench.now, address(1)));
    assert!(bench.audience.doubt(bench.now, address(2)));
    assert!(!bench.audience.doubt(bench.now, address(3)));
    let mut asked = 0;
    for after in [0, 50, 200] {
        bench.at(ms(100 + after) - Duration::from_micros(1));
        assert!(bench.said().is_empty(), "{after}");
        bench.at(ms(100 + after));
        let said = bench.said();
        assert!(said.iter().all(|(_, s)| s.sign_of_life_wanted));
        asked += said.len();
    }
    assert_eq!(asked, 6);
    // The first answers, and the error is repeated (a second one does not count on).
    bench.ask(1, 2, &request());
    assert!(!bench.said_one().sign_of_life_wanted);
    bench.at(ms(600));
    bench.audience.doubt(bench.now, address(2));
    bench.at(ms(1_100) - Duration::from_micros(1));
    assert_eq!(bench.audience.len(), 2);
    bench.at(ms(1_100));
    assert!(bench.gets(1, 0) && !bench.gets(2, 0));
    assert_eq!((bench.audience.len(), bench.sources()), (1, 1));
}

#[test]
fn statuses_come_with_each_heartbeat_granted() {
    let mut bench = Bench::new(10);
    for (n, wanted, granted) in [(1, 1_000, 1_000), (2, 1, 100), (3, 99_000, 10_000)] {
        let ask = Request {
            heartbeat_ms: wanted,
            hold_ms: 60_000,
            ..request()
        };
        bench.ask(n, 1, &ask);
        assert_eq!(bench.said_one().heartbeat_ms, granted);
    }
    let mut heard = [0; 4];
    for step in 1..=20_000 / 50 {
        bench.at(ms(50 * step));
        for (to, _) in bench.said() {
            heard[usize::from(to.port())] += 1;
        }
    }
    assert_eq!(heard, [0, 20, 200, 2]);
}

#[test]
fn under_load_longer_heartbeats_are_granted_up_to_a_minute() {
    let settings = NodeSettings {
        statuses_per_second: 10,
        ..NodeSettings::relay()
    };
    let mut bench = Bench::with(settings, 10_000);
    for n in 1..=1_000 {
        bench.ask(n, 1, &request());
    }
    let granted: Vec<u32> = bench.said().iter().map(|(_, s)| s.heartbeat_ms).collect();
    // Each is told the heartbeat that those before it allow.
    assert_eq!(granted[0], 1_000);
    assert_eq!(granted[20], 2_000);
    assert_eq!(granted[500], 50_000);
    assert_eq!(granted[900], 60_000);
    // With the next refresh all have what 1 000 entries allow.
    bench.ask(1, 2, &request());
    assert_eq!(bench.said_one().heartbeat_ms, 60_000);
}

#[test]
fn a_change_is_told_at_0_50_and_200_ms() {
    let mut bench = Bench::new(10);
    bench.ask(1, 1, &request());
    bench.said();
    bench.at(ms(300));
    bench.audience.tell_all(bench.now);
    let mut times = Vec::new();
    for step in 300..900 {
        bench.at(ms(step));
        times.extend(bench.said().iter().map(|_| step - 300));
    }
    assert_eq!(times, [0, 50, 200]);
}

#[test]
fn a_full_audience_refuses_the_next_and_keeps_those_it_has() {
    let mut bench = Bench::new(2);
    bench.ask(1, 1, &request());
    bench.ask(2, 1, &request());
    bench.said();
    assert_eq!(bench.ask(3, 1, &request()), Taken::Full);
    let refusal = bench.said_one();
    assert_eq!(refusal.verdict, Verdict::RefusedPassing);
    assert_eq!((refusal.reason, refusal.token), (Reason::Full, None));
    assert_eq!(bench.ask(1, 2, &request()), Taken::Refreshed);
    // Another socket at a known address takes that place.
    assert_eq!(bench.ask_from(address(2), 9, 1, &request()), Taken::Entered);
    assert_eq!((bench.audience.len(), bench.sources()), (2, 2));
    assert!(!bench.audience.knows(Nonce(2)));
}

#[test]
fn an_entry_that_moves_keeps_its_place_and_its_counts() {
    let mut bench = Bench::new(10);
    bench.ask(1, 1, &request());
    bench.ask(2, 1, &request());
    bench.stream_to(9);
    assert_eq!(
        bench.ask_from(address(7), 1, 2, &request()),
        Taken::Refreshed
    );
    assert!(bench.gets(7, 10) && !bench.gets(1, 10) && bench.gets(2, 10));
    assert_eq!(bench.sources(), 2);
    bench.stream_to(19);
    bench.said();
    bench.ask_from(address(7), 1, 3, &request());
    let status = bench.said_one();
    assert_eq!((status.datagrams, status.bytes), (20, 2_000));
    assert_eq!(status.highest, Some(Sequence(19)));
}

#[test]
fn an_entry_with_another_parent_stands_by_until_asked_from_k() {
    let mut bench = Bench::new(10);
    bench.stream_to(99);
    let beside = Request {
        parent: OTHER,
        ..request()
    };
    bench.ask(1, 1, &beside);
    let status = bench.said_one();
    assert!(status.standby && status.verdict == Verdict::Granted);
    assert!(!bench.gets(1, 100));
    let from = Request {
        want: Want::From(Sequence(120)),
        ..beside
    };
    bench.ask(1, 2, &from);
    let starts = Some(Handover::StartsAt(Sequence(120)));
    assert_eq!(bench.said_one().handover, starts);
    assert!(!bench.gets(1, 119) && bench.gets(1, 120));
    // A repeat with another K changes nothing: where it starts was said.
    let later = Request {
        want: Want::From(Sequence(150)),
        ..beside
    };
    bench.ask(1, 3, &later);
    assert_eq!(bench.said_one().handover, starts);
    assert!(bench.gets(1, 120));
    // The stream is there: late ones of before are still held back for a while.
    bench.stream_to(120);
    assert!(!bench.gets(1, 119));
    bench.at(SETTLE);
    assert_eq!(bench.audience.fan().steady().len(), 1);
}

#[test]
fn a_start_in_the_past_is_moved_to_the_next_datagram() {
    let mut bench = Bench::new(10);
    bench.stream_to(99);
    let from = Request {
        want: Want::From(Sequence(50)),
        parent: OTHER,
        ..request()
    };
    bench.ask(1, 1, &from);
    let starts = Some(Handover::StartsAt(Sequence(100)));
    assert_eq!(bench.said_one().handover, starts);
}

#[test]
fn a_start_not_reached_begins_after_exactly_two_seconds() {
    let mut bench = Bench::new(10);
    let from = Request {
        want: Want::From(Sequence(500)),
        parent: OTHER,
        ..request()
    };
    bench.ask(1, 1, &from);
    bench.at(TURN - Duration::from_micros(1));
    assert!(!bench.gets(1, 0));
    bench.at(TURN);
    assert!(bench.gets(1, 0));
}

#[test]
fn a_start_whose_old_parent_is_gone_begins_at_once() {
    let mut bench = Bench::new(10);
    let from = Request {
        want: Want::From(Sequence(500)),
        parent: OTHER,
        ..request()
    };
    bench.ask(1, 1, &from);
    // A refresh that names us, adopted meanwhile, waits for J all the same.
    let node = bench.gate.node;
    bench.ask(
        1,
        2,
        &Request {
            parent: node,
            ..request()
        },
    );
    assert!(!bench.gets(1, 0));
    bench.ask(1, 3, &request());
    assert!(bench.gets(1, 0));
}

#[test]
fn until_j_stops_there_and_says_so_with_left() {
    let mut bench = Bench::new(10);
    bench.ask(1, 1, &request());
    bench.stream_to(99);
    bench.said();
    let until = Request {
        want: Want::Until(Sequence(110)),
        ..request()
    };
    bench.ask(1, 2, &until);
    let status = bench.said_one();
    assert_eq!((status.verdict, status.handover), (Verdict::Granted, None));
    assert!(bench.gets(1, 109) && !bench.gets(1, 110));
    bench.stream_to(109);
    bench.at(Duration::ZERO);
    let status = bench.said_one();
    let stopped = Some(Handover::StoppedAt(Sequence(110)));
    assert_eq!((status.verdict, status.handover), (Verdict::Left, stopped));
    // Repeats, while it settles and from the tombstone, hear the same.
    bench.ask(1, 3, &until);
    assert_eq!(bench.said_one().handover, stopped);
    bench.at(SETTLE);
    assert_eq!((bench.audience.len(), bench.sources()), (0, 0));
    bench.said();
    bench.ask(1, 4, &until);
    assert_eq!(bench.said_one().handover, stopped);
}

#[test]
fn a_stop_not_reached_ends_after_exactly_two_seconds() {
    let mut bench = Bench::new(10);
    bench.ask(1, 1, &request());
    bench.stream_to(9);
    let until = Request {
        want: Want::Until(Sequence(500)),
        ..request()
    };
    bench.ask(1, 2, &until);
    bench.at(TURN - Duration::from_micros(1));
    assert!(bench.gets(1, 10));
    bench.said();
    bench.at(TURN);
    assert_eq!(bench.audience.len(), 0);
    let status = bench.said_one();
    let stopped = Some(Handover::StoppedAt(Sequence(10)));
    assert_eq!((status.verdict, status.handover), (Verdict::Left, stopped));
}

#[test]
fn an_until_renews_nothing() {
    let mut bench = Bench::new(10);
    let short = Request {
        hold_ms: 1_000,
        ..request()
    };
    bench.ask(1, 1, &short);
    bench.at(ms(900));
    let until = Request {
        want: Want::Until(Sequence(500)),
        hold_ms: 60_000,
        ..request()
    };
    bench.ask(1, 2, &until);
    bench.at(ms(1_000));
    assert_eq!(bench.audience.len(), 0);
}

#[test]
fn a_new_incarnation_ends_turns_whose_sequences_mean_nothing_now() {
    let mut bench = Bench::new(10);
    let beside = Request {
        parent: OTHER,
        ..request()
    };
    bench.stream_to(99);
    bench.ask(
        1,
        1,
        &Request {
            want: Want::From(Sequence(500)),
            ..beside
        },
    );
    bench.ask(2, 1, &request());
    bench.ask(
        2,
        2,
        &Request {
            want: Want::Until(Sequence(500)),
            ..request()
        },
    );
    bench.ask(3, 1, &beside);
    bench.audience.new_incarnation();
    assert!(bench.gets(1, 3), "starts at once");
    assert!(!bench.gets(2, 3), "has stopped");
    assert!(!bench.gets(3, 3), "still stands by");
    bench.at(Duration::ZERO);
    assert_eq!(bench.audience.len(), 2);
}

#[test]
fn after_a_pause_all_stand_by_until_they_ask() {
    let mut bench = Bench::new(10);
    for n in 1..=3 {
        bench.ask(n, 1, &request());
    }
    bench.ask(
        3,
        2,
        &Request {
            want: Want::Until(Sequence(500)),
            ..request()
        },
    );
    bench.said();
    bench.audience.rest(bench.now);
    assert!((1..=3).all(|n| !bench.gets(n, 0)));
    bench.at(Duration::ZERO);
    let said = bench.said();
    let standby = said.iter().filter(|(_, s)| s.standby).count();
    assert_eq!((standby, said.len()), (2, 3), "the third has left");
    let node = bench.gate.node;
    bench.ask(
        1,
        2,
        &Request {
            parent: node,
            ..request()
        },
    );
    bench.ask(
        2,
        2,
        &Request {
            parent: OTHER,
            ..request()
        },
    );
    assert!(bench.gets(1, 0), "whose parent we still are");
    assert!(!bench.gets(2, 0), "who went elsewhere");
}

#[test]
fn sums_follow_their_entries() {
    let mut bench = Bench::new(10);
    let below = |receivers_below, hop_budget| Request {
        receivers_below,
        hop_budget,
        ..request()
    };
    bench.ask(1, 1, &below(5, 32));
    bench.ask(2, 1, &below(7, 12));
    let sums = |bench: &Bench| {
        (
            bench.audience.receivers_below(),
            bench.audience.hop_budget(),
        )
    };
    assert_eq!(sums(&bench), (12, 32));
    bench.ask(1, 2, &below(1, 200));
    assert_eq!(sums(&bench), (8, 32));
    bench.ask(1, 3, &below(2, 3));
    assert_eq!(sums(&bench), (9, 12));
    bench.audience.expel(Nonce(2));
    assert_eq!(sums(&bench), (2, 3));
    bench.audience.expel(Nonce(1));
    assert_eq!(sums(&bench), (0, 0));
}

#[test]
fn entries_move_to_another_process_whole() {
    let mut bench = Bench::new(10);
    bench.ask(
        1,
        5,
        &Request {
            hold_ms: 7_000,
            receivers_below: 4,
            ..request()
        },
    );
    let records = bench.audience.records();
    let mut other = Bench::new(10);
    let mut voice = other.gate.voice(START, channel(), state(), &mut other.out);
    assert!(other.audience.adopt(&mut voice, &records[0]));
    assert!(!other.audience.adopt(&mut voice, &records[0]), "once");
    assert_eq!(other.audience.records(), records);
    assert!(other.gets(1, 0));
    other.at(Duration::ZERO);
    assert_eq!(other.said_one().verdict, Verdict::Granted);
    assert_eq!(other.ask(1, 5, &request()), Taken::Stale);
    other.at(ms(7_000));
    assert_eq!(other.audience.len(), 0);
}
