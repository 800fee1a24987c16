//! The requester on a moved clock, and a node's words put in by hand.

use super::*;
use flexcast_wire::{Control, Path};

const START: Time = Time(1_000_000_000);
const NODE: NodeId = NodeId(0xA);
const OTHER: NodeId = NodeId(0xB);
const TOKEN: StreamToken = StreamToken(9);

/// A requester, its clock, and what the nodes have said.
struct Bench {
    requester: Requester,
    now: Time,
    out: Outbox,
    /// The nodes' own sequences.
    said: u32,
}

/// A request that went out: when, to where, and what.
struct Asked {
    at: Duration,
    to: SocketAddr,
    sequence: Sequence,
    request: Request,
}

fn channel() -> Channel {
    "10.0.0.1#5000".parse().unwrap()
}

fn granted() -> Status {
    Status {
        verdict: Verdict::Granted,
        standby: false,
        sign_of_life_wanted: false,
        ask: false,
        handover: None,
        app_port: 0,
        hold_ms: 35_000,
        heartbeat_ms: 1_000,
        token: Some(TOKEN),
        cookie: [1; 16],
        datagrams: 0,
        bytes: 0,
        highest: Some(Sequence(100)),
        reason: Reason::None,
        own_address: Some("10.0.0.7".parse().unwrap()),
        path: Path::EMPTY,
    }
}

impl Bench {
    fn new() -> Bench {
        Bench::with(RequesterSettings::default())
    }

    fn with(settings: RequesterSettings) -> Bench {
        let ask = SocketAddr::new(channel().sender, 7450);
        let nonce = Nonce(0x1234_5678_9ABC);
        Bench {
            requester: Requester::new(START, channel(), nonce, NodeId::NONE, ask, settings),
            now: START,
            out: Outbox::new(),
            said: 0,
        }
    }

    /// One that is fed by [`NODE`] from the start on.
    fn fed() -> Bench {
        let mut bench = Bench::new();
        assert_eq!(bench.run(Duration::ZERO).len(), 1);
        bench.hear(NODE, &granted());
        assert!(bench.requester.is_granted());
        assert!(bench.asked().is_empty());
        bench
    }

    fn header(&mut self, node: NodeId) -> Header {
        self.said += 1;
        Header {
            channel: channel(),
            nonce: self.requester.nonce(),
            node,
            sequence: Sequence(self.said),
            answered: self.requester.sequence,
        }
    }

    fn hear(&mut self, node: NodeId, status: &Status) {
        let header = self.header(node);
        self.requester
            .on_status(self.now, &header, status, &mut self.out);
    }

    fn challenge(&mut self, node: NodeId, cookie: u8) {
        let header = self.header(node);
        let cookie = [cookie; 16];
        self.requester
            .on_challenge(self.now, &header, cookie, &mut self.out);
    }

    /// What went out since the last call.
    fn asked(&mut self) -> Vec<Asked> {
        let at = self.now.since(START);
        let mut asked = Vec::new();
        for (letter, bytes) in self.out.iter() {
            let control = Control::parse(bytes).unwrap();
            let Body::Request(request) = control.body else {
                panic!("requesters send requests");
            };
            asked.push(Asked {
                at,
                to: letter.to,
                sequence: control.header.sequence,
                request,
            });
        }
        self.out.clear();
        asked
    }

    /// Runs for so long; what went out.
    fn run(&mut self, lasting: Duration) -> Vec<Asked> {
        let end = self.now + lasting;
        let mut asked = Vec::new();
        while !self.requester.is_gone() && self.requester.next_time() <= end {
            self.now = self.now.max(self.requester.next_time());
            self.requester.poll(self.now, &mut self.out);
            asked.extend(self.asked());
        }
        self.now = end;
        asked
    }

    /// Runs, answering each request as `status` says, and each heartbeat.
    fn run_answered(&mut self, seconds: u64, status: &Status) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..seconds * 100 {
            let asked = self.run(ms(10));
            if !asked.is_empty() || self.now.since(START).as_millis().is_multiple_of(1_000) {
                self.hear(NODE, status);
            }
            times.extend(asked.iter().map(|a| a.at));
        }
        times
    }
}

fn pauses(times: &[Duration]) -> Vec<u64> {
    let pairs = times.windows(2);
    let pause = |p: &[Duration]| u64::try_from((p[1] - p[0]).as_millis()).unwrap();
    pairs.map(pause).collect()
}

#[test]
fn it_asks_at_once_with_sequences_that_start_from_the_clock() {
    let mut bench = Bench::new();
    let asked = bench.run(Duration::ZERO);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].to, "10.0.0.1:7450".parse().unwrap());
    assert_eq!(
        asked[0].sequence,
        Sequence(1_000_001),
        "ms since boot, and one"
    );
    assert_eq!(asked[0].request.cookies, [CookieStamp::default(); 2]);
    assert_eq!(asked[0].request.parent, NodeId::NONE);
    assert_eq!(asked[0].request.hop_budget, 32);
}

#[test]
fn unanswered_it_repeats_after_100_ms_doubling_to_a_second() {
    let mut bench = Bench::new();
    let asked = bench.run(ms(30_000));
    let times: Vec<Duration> = asked.iter().map(|a| a.at).collect();
    let pauses = pauses(&times);
    assert_eq!(pauses[..4], [100, 200, 400, 800]);
    assert!(
        pauses[4..].iter().all(|p| (800..=1_000).contains(p)),
        "{pauses:?}"
    );
    assert!(pauses.len() > 25);
    let attempts: Vec<u8> = asked.iter().map(|a| a.request.attempt).collect();
    assert!(attempts.iter().zip(0..).all(|(a, n)| *a == n));
}

#[test]
fn four_challenges_in_a_row_are_answered_at_once_and_then_the_timer_rules() {
    let mut bench = Bench::new();
    bench.run(Duration::ZERO);
    for n in 1..=4 {
        bench.challenge(NODE, n);
        assert_eq!(bench.asked().len(), 1, "challenge {n}");
    }
    for n in 5..9 {
        bench.challenge(NODE, n);
        assert!(bench.asked().is_empty(), "challenge {n}");
    }
    let asked = bench.run(ms(100));
    assert_eq!(asked.len(), 1, "the retry");
    assert_eq!(asked[0].request.cookies[0].cookie, [8; 16], "with the last");
}

#[test]
fn requests_carry_the_cookies_of_the_last_two_nodes_and_fresh_ones() {
    let mut bench = Bench::new();
    bench.run(Duration::ZERO);
    bench.challenge(NODE, 1);
    bench.challenge(OTHER, 2);
    let stamp = |node, cookie| CookieStamp {
        node,
        cookie: [cookie; 16],
    };
    let last = bench.asked().pop().unwrap().request;
    assert_eq!(last.cookies, [stamp(OTHER, 2), stamp(NODE, 1)]);
    bench.challenge(NodeId(0xC), 3);
    let last = bench.asked().pop().unwrap().request;
    assert_eq!(last.cookies, [stamp(NodeId(0xC), 3), stamp(OTHER, 2)]);
    let fresh = Status {
        cookie: [7; 16],
        ..granted()
    };
    bench.hear(OTHER, &fresh);
    let next = bench.run(ms(12_000)).remove(0).request;
    assert_eq!(next.cookies, [stamp(NodeId(0xC), 3), stamp(OTHER, 7)]);
}

#[test]
fn refreshes_come_every_ten_seconds_give_or_take_a_fifth() {
    let mut bench = Bench::fed();
    let pauses = pauses(&bench.run_answered(600, &granted()));
    assert!(
        pauses.iter().all(|p| (7_900..=12_100).contains(p)),
        "{pauses:?}"
    );
    let differ = pauses.iter().max().unwrap() - pauses.iter().min().unwrap();
    assert!(differ > 1_000, "jitter spreads them: {pauses:?}");
}

#[test]
fn pending_it_asks_every_second_and_after_ten_minutes_every_five() {
    let mut bench = Bench::new();
    let pending = Status {
        verdict: Verdict::Pending,
        token: None,
        ..granted()
    };
    let times = bench.run_answered(1_200, &pending);
    let (first, then): (Vec<_>, Vec<_>) = times.iter().partition(|t| t.as_secs() < 600);
    assert!(pauses(&first).iter().all(|p| (700..=1_300).contains(p)));
    assert!(pauses(&then)[1..]
        .iter()
        .all(|p| (3_900..=6_100).contains(p)));
    // After the end of a stream it begins with every second anew.
    bench.run_answered(100, &granted());
    let ended = Status {
        verdict: Verdict::Ended,
        ..granted()
    };
    let times = bench.run_answered(60, &ended);
    assert!(times.len() > 45, "{} in 60 s", times.len());
}

#[test]
fn refused_for_now_it_tries_again_within_1_to_10_s_and_for_good_each_minute() {
    for (verdict, from, to) in [
        (Verdict::RefusedPassing, 1_000, 10_000),
        (Verdict::RefusedFinal, 45_000, 75_000),
    ] {
        let mut bench = Bench::new();
        let refused = Status {
            verdict,
            reason: Reason::Full,
            token: None,
            ..granted()
        };
        bench.run(Duration::ZERO);
        for _ in 0..10 {
            let before = bench.now;
            bench.hear(NODE, &refused);
            while bench.asked().is_empty() {
                bench.now = bench.requester.next_time();
                bench.requester.poll(bench.now, &mut bench.out);
            }
            let pause = u64::try_from(bench.now.since(before).as_millis()).unwrap();
            assert!((from..=to).contains(&pause), "{verdict:?}: {pause}");
        }
        assert_eq!(bench.requester.verdict(), Some((verdict, Reason::Full)));
    }
}

#[test]
fn three_heartbeats_without_a_status_and_a_little_are_silence() {
    let mut bench = Bench::fed();
    assert!(bench.run(ms(2_999)).is_empty());
    assert!(bench.requester.parent().is_some());
    let asked = bench.run(ms(302));
    assert!(!asked.is_empty());
    assert_eq!(
        asked[0].request.parent,
        NodeId::NONE,
        "there is none any more"
    );
    assert!(bench.requester.parent().is_none());
    // The verdict stays what it was, and the token: the stream may flow on.
    assert!(bench.requester.is_granted());
    assert_eq!(bench.requester.token(), Some(TOKEN));
    bench.hear(OTHER, &granted());
    assert_eq!(bench.requester.parent().unwrap().node, OTHER);
    let leave = bench.run(Duration::ZERO);
    assert_eq!(leave[0].request.want, Want::Leave { none_below: false });
    assert!(leave[0].request.direct && leave[0].request.parent == NODE);
}

#[test]
fn with_heartbeats_above_10_s_an_unanswered_refresh_is_silence() {
    for (heartbeat_ms, noticed) in [(10_000, false), (40_000, true)] {
        let mut bench = Bench::fed();
        let rare = Status {
            heartbeat_ms,
            ..granted()
        };
        bench.hear(NODE, &rare);
        let asked = bench.run(ms(15_500));
        let anew = asked.iter().any(|a| a.request.parent == NodeId::NONE);
        assert_eq!(anew, noticed, "{heartbeat_ms}");
    }
}

#[test]
fn a_changed_number_below_is_told_at_once_and_at_most_every_200_ms() {
    let mut bench = Bench::fed();
    bench.run(ms(1_000));
    bench.hear(NODE, &granted());
    let mut told = Vec::new();
    for n in 2..102 {
        bench.requester.set_below(n, 32);
        let asked = bench.run(ms(10));
        if !asked.is_empty() {
            bench.hear(NODE, &granted());
        }
        told.extend(asked);
    }
    told.extend(bench.run(ms(300)));
    assert_eq!(told[0].at, ms(1_000), "at once");
    assert_eq!(told.last().unwrap().request.receivers_below, 101);
    let times: Vec<Duration> = told.iter().map(|a| a.at).collect();
    assert!(
        pauses(&times).iter().all(|p| (200..=210).contains(p)),
        "{times:?}"
    );
}

#[test]
fn a_leave_is_said_three_times_or_until_left() {
    let mut bench = Bench::fed();
    let leave = |bench: &mut Bench| {
        bench.requester.leave(bench.now, true);
        bench.run(ms(1_000))
    };
    let asked = leave(&mut bench);
    let times: Vec<Duration> = asked.iter().map(|a| a.at).collect();
    assert_eq!(times, [ms(0), ms(50), ms(200)]);
    for one in &asked {
        assert_eq!(one.request.want, Want::Leave { none_below: true });
        assert_eq!((one.request.parent, one.request.direct), (NODE, false));
    }
    assert!(bench.requester.is_gone());

    let mut bench = Bench::fed();
    bench.requester.leave(bench.now, false);
    assert_eq!(bench.run(ms(20)).len(), 1);
    let left = Status {
        verdict: Verdict::Left,
        ..granted()
    };
    bench.hear(NODE, &left);
    assert!(bench.requester.is_gone());
}

#[test]
fn a_sign_of_life_is_given_at_once_on_both_ways() {
    let mut bench = Bench::fed();
    let wanted = Status {
        sign_of_life_wanted: true,
        ..granted()
    };
    bench.hear(NODE, &wanted);
    let asked = bench.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|a| a.request.want == Want::Stream));
    assert!(asked.iter().any(|a| a.request.direct));
}

/// Another node, standing by, has answered twice, and more often until the stream's
/// pace is known.
fn candidate(bench: &mut Bench) {
    let mut standby = Status {
        standby: true,
        own_address: Some("10.0.0.8".parse().unwrap()),
        ..granted()
    };
    bench.run(ms(50));
    bench.requester.set_below(2, 32);
    assert_eq!(bench.run(ms(200)).len(), 1, "something to answer");
    bench.hear(OTHER, &standby);
    let asked = bench.asked();
    let second = asked.iter().find(|a| !a.request.direct).unwrap();
    assert_eq!(second.request.want, Want::Stream, "it must answer twice");
    assert_eq!(second.request.parent, NODE);
    for seen in 1..6 {
        bench.hear(OTHER, &standby);
        let asked = bench.run(ms(200));
        let all = asked.iter().filter(|a| a.request.want == Want::Stream);
        assert_eq!(all.count(), asked.len(), "no K before the pace is known");
        assert!(
            asked.iter().any(|a| a.request.direct),
            "the parent is asked"
        );
        assert!(asked.iter().any(|a| !a.request.direct), "so is the other");
        standby.highest = Some(Sequence(100 + 20 * seen));
    }
    bench.hear(OTHER, &standby);
}

#[test]
fn a_node_that_answers_twice_is_asked_from_k_until_it_says_j() {
    let mut bench = Bench::fed();
    candidate(&mut bench);
    let mut asked = bench.asked();
    asked.extend(bench.run(ms(200)));
    let from: Vec<&Asked> = asked
        .iter()
        .filter(|a| matches!(a.request.want, Want::From(_)))
        .collect();
    let times: Vec<Duration> = from.iter().map(|a| a.at).collect();
    assert!(pauses(&times).iter().all(|p| *p == 50), "{times:?}");
    assert!(from.len() >= 4);
    let starts = Status {
        handover: Some(Handover::StartsAt(Sequence(340))),
        ..granted()
    };
    bench.hear(OTHER, &starts);
    assert_eq!(bench.requester.parent().unwrap().node, OTHER);
    let until: Vec<Asked> = bench
        .asked()
        .into_iter()
        .chain(bench.run(ms(8_000)))
        .collect();
    let until: Vec<&Asked> = until
        .iter()
        .filter(|a| a.request.want == Want::Until(Sequence(340)))
        .collect();
    let times: Vec<Duration> = until.iter().map(|a| a.at).collect();
    let pauses = pauses(&times);
    assert_eq!(pauses[..5], [50; 5], "six in 250 ms");
    assert!(pauses[6..].iter().all(|p| *p == 200), "{pauses:?}");
    let lasting = *times.last().unwrap() - times[0];
    assert!((ms(5_000)..=ms(5_300)).contains(&lasting), "{lasting:?}");
    // Straight to it at first; by S:FP in turn, for where that does not arrive.
    assert!(until[..3].iter().all(|a| a.request.direct));
    assert!(until[3..].iter().any(|a| !a.request.direct));
    assert!(until.iter().all(|a| a.request.parent == NODE));
}

#[test]
fn left_ends_the_repeats_and_older_words_of_it_are_not_heard() {
    let mut bench = Bench::fed();
    candidate(&mut bench);
    let starts = Status {
        handover: Some(Handover::StartsAt(Sequence(340))),
        ..granted()
    };
    bench.hear(OTHER, &starts);
    let late = bench.header(NODE);
    let left = Status {
        verdict: Verdict::Left,
        handover: Some(Handover::StoppedAt(Sequence(340))),
        ..granted()
    };
    bench.hear(NODE, &left);
    bench.asked();
    let (now, out) = (bench.now, &mut bench.out);
    bench.requester.on_status(now, &late, &granted(), out);
    assert_eq!(bench.requester.parent().unwrap().node, OTHER);
    bench.hear(OTHER, &starts);
    assert!(bench.run(ms(1_000)).is_empty());
}

#[test]
fn another_token_at_the_new_node_is_taken_at_once() {
    let mut bench = Bench::fed();
    bench.run(ms(50));
    bench.requester.set_below(2, 32);
    bench.run(ms(200));
    while bench.requester.next_event().is_some() {}
    let restarted = Status {
        standby: true,
        token: Some(StreamToken(10)),
        ..granted()
    };
    bench.hear(OTHER, &restarted);
    assert_eq!(bench.requester.parent().unwrap().node, OTHER);
    assert_eq!(bench.requester.token(), Some(StreamToken(10)));
    let token = RequesterEvent::Token(Some(StreamToken(10)));
    assert_eq!(bench.requester.next_event(), Some(token));
    let asked = bench.asked();
    let on_path = |a: &&Asked| !a.request.direct && a.request.want == Want::Stream;
    let stream = asked.iter().find(on_path);
    assert_eq!(stream.unwrap().request.parent, OTHER);
}

#[test]
fn a_node_that_speaks_without_being_asked_is_left() {
    let mut bench = Bench::fed();
    bench.run_answered(30, &granted());
    let mut header = bench.header(OTHER);
    header.answered = Sequence(1);
    let (now, out) = (bench.now, &mut bench.out);
    bench.requester.on_status(now, &header, &granted(), out);
    let asked = bench.run(Duration::ZERO);
    let leave = asked.iter().find(|a| a.request.parent == OTHER).unwrap();
    assert_eq!(leave.request.want, Want::Leave { none_below: false });
    assert!(leave.request.direct);
    assert_eq!(bench.requester.parent().unwrap().node, NODE);
}

#[test]
fn words_about_other_channels_nonces_or_from_nobody_are_not_heard() {
    let mut bench = Bench::new();
    bench.run(Duration::ZERO);
    let right = bench.header(NODE);
    let mut wrong = [right; 3];
    wrong[0].nonce = Nonce(5);
    wrong[1].channel = "10.0.0.1#5001".parse().unwrap();
    wrong[2].node = NodeId::NONE;
    for header in wrong {
        let (now, out) = (bench.now, &mut bench.out);
        bench.requester.on_status(now, &header, &granted(), out);
    }
    assert_eq!(bench.requester.verdict(), None);
    let mut stranger = wrong[0];
    stranger.answered = Sequence(0);
    let (now, out) = (bench.now, &mut bench.out);
    bench.requester.on_challenge(now, &stranger, [1; 16], out);
    assert!(bench.asked().is_empty());
    let (now, out) = (bench.now, &mut bench.out);
    bench.requester.on_status(now, &right, &granted(), out);
    assert!(bench.requester.is_granted());
}

#[test]
fn a_draining_parent_is_asked_around_at_each_of_its_words() {
    let mut bench = Bench::fed();
    bench.run(ms(300));
    let draining = Status {
        verdict: Verdict::Draining,
        ..granted()
    };
    let mut asked = 0;
    for _ in 0..5 {
        bench.hear(NODE, &draining);
        let mut all = bench.asked();
        all.extend(bench.run(ms(200)));
        asked += all.iter().filter(|a| !a.request.direct).count();
    }
    assert!(asked >= 5, "{asked}");
    assert!(bench.requester.is_granted(), "the stream still flows");
}
