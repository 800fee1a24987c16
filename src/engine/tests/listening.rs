//! A sender that opens channels only when somebody asks: what it is told of who came
//! and who went. Is not the accepting call (`runtime`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_engine::{Entropy, NodeSettings, Outbox, Requester, RequesterSettings, Sender, Time};
use flexcast_wire::{Body, Channel, ChannelId, Control, NodeId, Nonce, Verdict};

const FROM: &str = "10.0.0.2:4000";

fn sender() -> Sender {
    let mut state = 1_u64;
    let entropy = Entropy::new(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state ^ state >> 29
    });
    Sender::new(Time(0), NodeSettings::sender(), entropy)
}

fn channel() -> Channel {
    "10.0.0.1#5".parse().unwrap()
}

fn requester(now: Time, nonce: u64) -> Requester {
    let at = SocketAddr::new(channel().sender, 7450);
    let settings = RequesterSettings::default();
    Requester::new(now, channel(), Nonce(nonce), NodeId::NONE, at, settings)
}

fn asked() -> IpAddr {
    channel().sender
}

/// Lets both talk until neither has anything to say.
fn talk(now: Time, requester: &mut Requester, sender: &mut Sender) {
    let from: SocketAddr = FROM.parse().unwrap();
    let (mut up, mut down) = (Outbox::new(), Outbox::new());
    requester.poll(now, &mut up);
    for _ in 0..8 {
        for (_, bytes) in up.iter() {
            let control = Control::parse(bytes).unwrap();
            sender.on_control(now, from, asked(), &control, &mut down);
        }
        up.clear();
        sender.poll(now, &mut down);
        for (_, bytes) in down.iter() {
            let control = Control::parse(bytes).unwrap();
            match &control.body {
                Body::Challenge(challenge) => {
                    requester.on_challenge(now, &control.header, challenge.cookie, &mut up);
                }
                Body::Status(status) => {
                    requester.on_status(now, &control.header, status, &mut up);
                }
                _ => {}
            }
        }
        down.clear();
    }
}

/// Guards these; what that has the sender say is lost.
fn guard(sender: &mut Sender, now: Time, guards: &[(Option<ChannelId>, bool)]) {
    let guards = guards.iter().copied().collect();
    sender.set_guards(now, guards, &mut Outbox::new());
}

#[test]
fn a_channel_is_wanted_while_somebody_asks_and_nobody_opened_it() {
    let (mut sender, mut now) = (sender(), Time(1_000_000));
    let mut requester = requester(now, 9);
    talk(now, &mut requester, &mut sender);
    assert_eq!(sender.take_wanted(), [channel()]);
    assert_eq!(sender.take_wanted(), [], "told once");
    assert_eq!(sender.waiting(), [channel()]);
    now = now + Duration::from_secs(2);
    talk(now, &mut requester, &mut sender);
    assert_eq!(sender.take_wanted(), [channel()], "it asks again");
    sender.open(now, channel(), 0);
    talk(now, &mut requester, &mut sender);
    assert!(requester.is_granted());
    assert_eq!(sender.waiting(), []);
    assert_eq!(sender.take_wanted(), []);
    assert_eq!(
        sender.summary(now, channel().id).unwrap().requesters.len(),
        1
    );
}

#[test]
fn a_deserted_channel_is_suspended_and_the_next_one_waits() {
    let (mut sender, mut now) = (sender(), Time(1_000_000));
    let mut first = requester(now, 9);
    talk(now, &mut first, &mut sender);
    let token = sender.open(now, channel(), 0);
    talk(now, &mut first, &mut sender);
    assert!(!sender.suspend(now, channel().id), "somebody is there");
    assert_eq!(sender.take_emptied(), []);
    first.leave(now, false);
    talk(now, &mut first, &mut sender);
    assert_eq!(sender.take_emptied(), [channel().id]);
    assert!(sender.is_deserted(channel().id));
    assert!(sender.suspend(now, channel().id));
    assert!(!sender.suspend(now, channel().id), "it is not open");
    assert!(!sender.is_open(channel().id));
    now = now + Duration::from_secs(1);
    let mut second = requester(now, 10);
    talk(now, &mut second, &mut sender);
    assert_eq!(second.verdict().map(|v| v.0), Some(Verdict::Pending));
    assert_ne!(sender.open(now, channel(), 0), token, "another stream");
}

#[test]
fn an_audience_that_fell_silent_is_told_as_gone() {
    let (mut sender, mut now) = (sender(), Time(1_000_000));
    let mut first = requester(now, 9);
    talk(now, &mut first, &mut sender);
    sender.open(now, channel(), 0);
    talk(now, &mut first, &mut sender);
    now = now + Duration::from_secs(36);
    let mut out = Outbox::new();
    sender.poll(now, &mut out);
    assert_eq!(sender.take_emptied(), [channel().id]);
}

#[test]
fn a_guarded_channel_lets_in_whom_the_application_lets_in() {
    let (mut sender, mut now) = (sender(), Time(1_000_000));
    guard(&mut sender, now, &[(None, true)]);
    let mut first = requester(now, 9);
    for _ in 0..3 {
        talk(now, &mut first, &mut sender);
        now = now + Duration::from_millis(1_500);
    }
    assert_eq!(first.verdict().map(|v| v.0), Some(Verdict::Pending));
    assert!(sender.is_deserted(channel().id), "it has no entry");
    assert_eq!(sender.take_wanted(), []);
    let questions = sender.take_questions();
    assert_eq!(questions.len(), 1, "asked once: {questions:?}");
    assert_eq!(
        (questions[0].channel, questions[0].nonce),
        (channel(), Nonce(9))
    );

    let mut out = Outbox::new();
    sender.answer(now, channel().id, Nonce(9), true, &mut out);
    assert_eq!(out.iter().count(), 1, "told at once");
    assert_eq!(sender.take_wanted(), [channel()]);
    sender.open(now, channel(), 0);
    now = now + Duration::from_secs(2);
    talk(now, &mut first, &mut sender);
    assert!(first.is_granted());
    assert_eq!(sender.take_questions(), []);
    first.leave(now, false);
    talk(now, &mut first, &mut sender);
    assert!(sender.is_deserted(channel().id), "a leave needs no answer");

    let mut second = requester(now, 10);
    talk(now, &mut second, &mut sender);
    assert_eq!(sender.take_questions().len(), 1);
    sender.answer(now, channel().id, Nonce(10), false, &mut out);
    now = now + Duration::from_secs(2);
    talk(now, &mut second, &mut sender);
    assert_eq!(second.verdict().map(|v| v.0), Some(Verdict::RefusedFinal));
    assert_eq!(second.token(), None, "and no token with it");
    assert!(sender.is_deserted(channel().id));
    now = now + Duration::from_secs(90);
    talk(now, &mut second, &mut sender);
    assert_eq!(
        sender.take_questions().len(),
        1,
        "an answer holds for a minute"
    );
}

#[test]
fn a_guard_by_id_goes_before_the_one_for_all_others() {
    let (mut sender, now) = (sender(), Time(1_000_000));
    guard(
        &mut sender,
        now,
        &[(None, true), (Some(channel().id), false)],
    );
    let mut requester = requester(now, 9);
    talk(now, &mut requester, &mut sender);
    assert_eq!(sender.take_questions(), []);
    assert_eq!(sender.take_wanted(), [channel()]);
}

#[test]
fn whoever_waited_before_there_was_a_guard_is_put_to_it() {
    let (mut sender, mut now) = (sender(), Time(1_000_000));
    let mut early = requester(now, 9);
    talk(now, &mut early, &mut sender);
    assert!(!sender.is_deserted(channel().id), "it waits for a sender");
    let mut out = Outbox::new();
    sender.set_guards(now, HashMap::from([(None, true)]), &mut out);
    assert!(sender.is_deserted(channel().id));
    let recalled: Vec<_> = out.iter().map(|(_, bytes)| bytes).collect();
    let Body::Status(status) = Control::parse(recalled[0]).unwrap().body else {
        panic!("{recalled:?}");
    };
    assert!(status.sign_of_life_wanted && status.verdict == Verdict::Pending);
    sender.open(now, channel(), 0);
    now = now + Duration::from_secs(2);
    talk(now, &mut early, &mut sender);
    assert!(!early.is_granted(), "nobody has said yes");
    assert_eq!(sender.take_questions().len(), 1);
    sender.answer(now, channel().id, Nonce(9), true, &mut out);
    now = now + Duration::from_secs(2);
    talk(now, &mut early, &mut sender);
    assert!(early.is_granted());
    // Those who are in stay in.
    guard(&mut sender, now, &[]);
    guard(&mut sender, now, &[(None, true)]);
    assert!(!sender.is_deserted(channel().id));
}

#[test]
fn a_question_that_nobody_answers_is_put_again() {
    let (mut sender, mut now) = (sender(), Time(1_000_000));
    guard(&mut sender, now, &[(None, true)]);
    let mut requester = requester(now, 9);
    talk(now, &mut requester, &mut sender);
    let questions = sender.take_questions();
    assert_eq!(questions.len(), 1);
    sender.withdraw(&questions[0]);
    now = now + Duration::from_secs(2);
    talk(now, &mut requester, &mut sender);
    assert_eq!(sender.take_questions().len(), 1);
}
