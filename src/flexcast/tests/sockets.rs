//! Sockets of the Rust API over loopback, each test in a network namespace of its own:
//! what reaches whom, what ends how, and what is refused.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flexcast::{Binding, Channel, ChannelId, Credential, Errno, Family, Options, Received, Socket};
use flexcast_runtime::kernel::sockopt;
use flexcast_testbed::World;
use flexcast_wire::{Kind, Sequence, Trailer, FLEXCAST_PORT};

const SOL_SOCKET: i32 = 1;
const SO_RCVBUF: i32 = 8;
const SO_RCVTIMEO: i32 = 20;

fn channel(text: &str) -> Channel {
    text.parse().unwrap()
}

fn limit(socket: &Socket, limit: Duration) {
    let seconds = i64::try_from(limit.as_secs()).unwrap();
    let bytes = [seconds, i64::from(limit.subsec_micros())].map(i64::to_ne_bytes);
    sockopt::set_bytes(socket.as_raw_fd(), SOL_SOCKET, SO_RCVTIMEO, &bytes.concat()).unwrap();
}

/// A socket that waits at most 5 s.
fn socket(family: Family) -> Socket {
    let socket = Socket::new(family).unwrap();
    limit(&socket, Duration::from_secs(5));
    socket
}

fn receiver(channel: Channel) -> Socket {
    let socket = socket(match channel.sender.is_ipv4() {
        true => Family::V4,
        false => Family::V6,
    });
    socket.connect(channel).unwrap();
    socket
}

fn listener(binding: impl Into<Binding>, backlog: usize) -> Socket {
    let socket = socket(Family::V4);
    socket.bind(binding).unwrap();
    socket.listen(backlog).unwrap();
    socket
}

fn accept(listener: &Socket) -> (Socket, Channel) {
    let (socket, channel) = listener.accept().unwrap();
    limit(&socket, Duration::from_secs(5));
    (socket, channel)
}

#[track_caller]
fn next(socket: &Socket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    match socket.recv(&mut buffer).unwrap() {
        Received::Datagram(length) => Some(buffer[..length].to_vec()),
        Received::End => None,
    }
}

#[track_caller]
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is() {
        assert!(Instant::now() < deadline, "not within 5 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn await_requesters(delivery: &Socket, count: usize) {
    until("requesters", || {
        delivery.requesters().unwrap().len() == count
    });
}

#[test]
fn a_datagram_reaches_every_receiver_once_and_the_end_follows() {
    let Some(_world) = World::enter("a_datagram_reaches_every_receiver_once_and_the_end_follows")
    else {
        return;
    };
    for (sender, any) in [("127.0.0.1", Family::V4), ("::1", Family::V6)] {
        let channel = channel(&format!("{sender}#5000"));
        let listener = socket(any);
        listener.bind(channel).unwrap();
        listener.listen(5).unwrap();
        let receivers: Vec<Socket> = (0..3).map(|_| receiver(channel)).collect();
        let (delivery, asked) = accept(&listener);
        assert_eq!(asked, channel);
        assert_eq!(delivery.peer(), Ok(channel));
        await_requesters(&delivery, 3);
        for n in 0..100_u8 {
            assert_eq!(delivery.send(&[n; 100]), Ok(100));
        }
        assert_eq!(delivery.send(b""), Ok(0));
        let (one, two) = (b"one".as_slice(), b"two".as_slice());
        assert_eq!(delivery.send_many(&[one, two]), Ok(2));
        drop(delivery);
        for receiver in &receivers {
            for n in 0..100_u8 {
                assert_eq!(next(receiver), Some(vec![n; 100]));
            }
            assert_eq!(next(receiver), Some(Vec::new()), "empty is no end");
            assert_eq!(next(receiver), Some(b"one".to_vec()));
            assert_eq!(next(receiver), Some(b"two".to_vec()));
            assert_eq!(next(receiver), None);
            let stats = receiver.stats().unwrap();
            assert_eq!((stats.received, stats.lost, stats.duplicates), (103, 0, 0));
            assert_eq!(stats.bytes, 10_006);
        }
    }
}

#[test]
fn a_flood_is_counted_whole_and_fails_when_its_audience_is_gone() {
    let Some(_world) = World::enter("a_flood_is_counted_whole_and_fails_when_its_audience_is_gone")
    else {
        return;
    };
    let channel = channel("127.0.0.1#9");
    let listener = listener(Binding::ANY, 1);
    let receivers: Vec<Socket> = (0..5).map(|_| receiver(channel)).collect();
    let (delivery, _) = accept(&listener);
    await_requesters(&delivery, 5);
    for _ in 0..1_000 {
        assert_eq!(delivery.send(&[7; 100]), Ok(100));
    }
    let sent = |count: u64| {
        let requesters = delivery.requesters().unwrap();
        requesters
            .iter()
            .all(|requester| requester.datagrams == count)
    };
    assert!(sent(1_000), "with what is still queued");
    assert_eq!(delivery.send(&[0; 65_492]), Err(Errno::EMSGSIZE));
    assert_eq!(
        delivery.send_many(&[b"short", &[0; 65_492]]),
        Err(Errno::EMSGSIZE)
    );
    assert!(sent(1_000), "none of these");
    let gone = std::thread::spawn(move || drop(receivers));
    until("EPIPE", || {
        let error = (0..50).find_map(|_| delivery.send(&[7; 100]).err());
        assert!(error.is_none_or(|error| error == Errno::EPIPE), "{error:?}");
        error.is_some()
    });
    gone.join().unwrap();
    assert_eq!(delivery.send(&[7; 100]), Err(Errno::EPIPE), "again");
}

#[test]
fn ten_thousand_datagrams_arrive_whole_and_in_order() {
    let Some(_world) = World::enter("ten_thousand_datagrams_arrive_whole_and_in_order") else {
        return;
    };
    let channel = channel("127.0.0.1#9");
    let listener = listener(Binding::ANY, 1);
    let receiver = receiver(channel);
    let buffer = (4_u32 << 20).to_ne_bytes();
    sockopt::set_bytes(receiver.as_raw_fd(), SOL_SOCKET, SO_RCVBUF, &buffer).unwrap();
    let (delivery, _) = accept(&listener);
    let reads = std::thread::spawn(move || {
        let mut count = 0_u32;
        while let Some(datagram) = next(&receiver) {
            assert_eq!(datagram[..4], count.to_ne_bytes());
            assert_eq!(datagram.len(), 1_000);
            count += 1;
        }
        (count, receiver.stats().unwrap())
    });
    for n in 0..10_000_u32 {
        let mut datagram = [0; 1_000];
        datagram[..4].copy_from_slice(&n.to_ne_bytes());
        delivery.send(&datagram).unwrap();
        if n % 20 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    let sent = delivery.requesters().unwrap();
    assert_eq!((sent[0].datagrams, sent[0].receivers_below), (10_000, 1));
    assert_eq!(sent[0].bytes, 10_160_000);
    drop(delivery);
    let (count, stats) = reads.join().unwrap();
    assert_eq!((count, stats.lost), (10_000, 0), "{stats:?}");
}

#[test]
fn a_wildcard_tells_what_was_asked_for_and_a_specific_bind_goes_before_it() {
    let Some(_world) =
        World::enter("a_wildcard_tells_what_was_asked_for_and_a_specific_bind_goes_before_it")
    else {
        return;
    };
    let wild = listener(Binding::ANY, 10);
    let exact = listener(Binding::of_id(ChannelId::new(7).unwrap()), 10);
    let second = socket(Family::V4);
    second.bind(Binding::ANY).unwrap();
    assert_eq!(second.listen(1), Err(Errno::EADDRINUSE));
    let again = socket(Family::V4);
    again.bind(channel("127.0.0.1#7")).unwrap();
    assert_eq!(again.listen(1), Err(Errno::EADDRINUSE));

    let (seven, other) = (
        channel("127.0.0.1#7"),
        channel("127.0.0.1#18446744073709551615"),
    );
    let receivers = [receiver(seven), receiver(other)];
    let (from_wild, asked) = accept(&wild);
    assert_eq!(asked, other);
    let (from_exact, asked) = accept(&exact);
    assert_eq!(asked, seven);
    from_exact.send(b"seven").unwrap();
    from_wild.send(b"other").unwrap();
    assert_eq!(next(&receivers[0]).unwrap(), b"seven");
    assert_eq!(next(&receivers[1]).unwrap(), b"other");
    drop(wild);
    second.listen(1).unwrap();
    // What was accepted goes on without its listener.
    from_wild.send(b"more").unwrap();
    assert_eq!(next(&receivers[1]).unwrap(), b"more");
}

#[test]
fn with_nobody_left_send_says_so_and_the_next_audience_is_accepted() {
    let Some(_world) =
        World::enter("with_nobody_left_send_says_so_and_the_next_audience_is_accepted")
    else {
        return;
    };
    let channel = channel("127.0.0.1#3");
    for binding in [Binding::ANY, Binding::from(channel)] {
        let listener = listener(binding, 3);
        for round in 0..3_u8 {
            let first = receiver(channel);
            let (delivery, _) = accept(&listener);
            let second = receiver(channel);
            await_requesters(&delivery, 2);
            delivery.send(&[round]).unwrap();
            assert_eq!(next(&first), Some(vec![round]));
            drop(first);
            await_requesters(&delivery, 1);
            delivery.send(b"still").unwrap();
            assert_eq!(next(&second), Some(vec![round]));
            assert_eq!(next(&second).unwrap(), b"still");
            drop(second);
            assert_eq!(next(&delivery), None, "nobody is there");
            assert_eq!(delivery.send(b"into the void"), Err(Errno::EPIPE));
            assert_eq!(delivery.requesters().unwrap(), []);
        }
    }
}

#[test]
fn a_listener_is_readable_while_somebody_waits() {
    let Some(_world) = World::enter("a_listener_is_readable_while_somebody_waits") else {
        return;
    };
    let listener = listener(Binding::ANY, 2);
    limit(&listener, Duration::from_millis(50));
    assert_eq!(listener.accept().map(|_| ()), Err(Errno::EAGAIN));
    let early: Vec<Socket> = (1..=3)
        .map(|id| receiver(channel(&format!("127.0.0.1#{id}"))))
        .collect();
    let readable = || {
        let raw = listener.as_raw_fd();
        let mut byte = [0; 1];
        flexcast_runtime::kernel::recv_parts(raw, &mut byte, &mut [], false, true).is_ok()
    };
    until("readable", readable);
    limit(&listener, Duration::from_secs(5));
    let mut ids: Vec<u64> = Vec::new();
    let mut open = Vec::new();
    // The third one, for which the backlog had no room, asks again.
    for _ in 0..3 {
        let (delivery, channel) = accept(&listener);
        ids.push(channel.id.get());
        open.push(delivery);
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    drop(early);
}

#[test]
fn a_stream_that_ended_is_followed_by_the_next_one() {
    let Some(_world) = World::enter("a_stream_that_ended_is_followed_by_the_next_one") else {
        return;
    };
    let channel = channel("127.0.0.1#3");
    let listener = listener(channel, 3);
    let receiver = receiver(channel);
    for round in 0..2_u8 {
        let (delivery, _) = accept(&listener);
        delivery.send(&[round]).unwrap();
        delivery.shut_down().unwrap();
        assert_eq!(delivery.send(b"late"), Err(Errno::EPIPE));
        assert_eq!(next(&receiver), Some(vec![round]));
        assert_eq!(next(&receiver), None);
    }
    receiver.shut_down().unwrap();
    assert_eq!(next(&receiver), None, "shut down");
}

#[test]
fn the_way_through_user_space_reads_alike() {
    let Some(_world) = World::enter("the_way_through_user_space_reads_alike") else {
        return;
    };
    std::env::set_var("FLEXCAST_PATH", "user");
    for text in ["127.0.0.1#3", "[::1]#4"] {
        let channel = channel(text);
        let listener = socket(Family::V6);
        listener.bind(channel).unwrap();
        listener.listen(1).unwrap();
        let receiver = receiver(channel);
        let (delivery, _) = accept(&listener);
        for n in 0..50_u8 {
            delivery.send(&[n; 1_000]).unwrap();
        }
        drop(delivery);
        for n in 0..50_u8 {
            assert_eq!(next(&receiver), Some(vec![n; 1_000]));
        }
        assert_eq!(next(&receiver), None);
        let stats = receiver.stats().unwrap();
        assert_eq!((stats.received, stats.lost, stats.foreign), (50, 0, 0));
    }
    std::env::set_var("FLEXCAST_PATH", "elsewhere");
    let receiver = socket(Family::V4);
    assert_eq!(receiver.connect(channel("127.0.0.1#3")), Err(Errno::EINVAL));
}

#[test]
fn the_queue_is_widened_unless_the_program_has_chosen() {
    let Some(_world) = World::enter("the_queue_is_widened_unless_the_program_has_chosen") else {
        return;
    };
    let size =
        |socket: &Socket| sockopt::get_u32(socket.as_raw_fd(), SOL_SOCKET, SO_RCVBUF).unwrap();
    let (fresh, chosen) = (socket(Family::V4), socket(Family::V4));
    let before = size(&fresh);
    fresh.connect(channel("127.0.0.1#1")).unwrap();
    assert!(size(&fresh) > before, "{} from {before}", size(&fresh));
    let small = 8_192_u32.to_ne_bytes();
    sockopt::set_bytes(chosen.as_raw_fd(), SOL_SOCKET, SO_RCVBUF, &small).unwrap();
    chosen.connect(channel("127.0.0.1#1")).unwrap();
    assert_eq!(size(&chosen), 16_384);
}

#[test]
fn the_application_decides_who_is_let_in() {
    let Some(_world) = World::enter("the_application_decides_who_is_let_in") else {
        return;
    };
    let channel = channel("127.0.0.1#3");
    let listener = socket(Family::V4);
    listener.bind(Binding::ANY).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let other = socket(Family::V4);
    let cookie = sockopt::cookie(other.as_raw_fd());
    listener
        .on_request(move |applicant| {
            // A guard may use the library, and the program's own descriptors.
            drop(Socket::new(Family::V4).unwrap());
            assert_eq!(sockopt::cookie(other.as_raw_fd()), cookie);
            tell.send(*applicant).unwrap();
            applicant.credential.as_bytes() == b"let me in"
        })
        .unwrap();
    listener.listen(3).unwrap();
    assert_eq!(listener.on_request(|_| true), Err(Errno::EINVAL));
    let with = |credential: &[u8]| {
        let socket = socket(Family::V4);
        let options = Options {
            credential: Credential::new(credential).unwrap(),
            ..Options::default()
        };
        socket.set_options(options).unwrap();
        socket.connect(channel).unwrap();
        socket
    };
    let stranger = with(b"guess");
    let mut buffer = [0; 8];
    assert_eq!(stranger.recv(&mut buffer), Err(Errno::ECONNREFUSED));
    assert_eq!(stranger.recv(&mut buffer), Err(Errno::ECONNREFUSED));
    limit(&listener, Duration::from_millis(20));
    assert_eq!(listener.accept().map(|_| ()), Err(Errno::EAGAIN));
    limit(&listener, Duration::from_secs(5));
    let friend = with(b"let me in");
    let (delivery, _) = accept(&listener);
    // Also when the listener is gone, nobody gets in unasked.
    drop(listener);
    let late = with(b"guess again");
    assert_eq!(late.recv(&mut buffer), Err(Errno::ECONNREFUSED));
    delivery.send(b"welcome").unwrap();
    assert_eq!(next(&friend).unwrap(), b"welcome");
    let asked: Vec<flexcast::Applicant> = told.try_iter().collect();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|applicant| applicant.channel == channel));
    assert_eq!(asked[0].credential.as_bytes(), b"guess");
    assert_eq!(delivery.requesters().unwrap()[0].address, asked[1].address);
}

#[test]
fn what_the_queue_has_no_room_for_is_counted() {
    let Some(_world) = World::enter("what_the_queue_has_no_room_for_is_counted") else {
        return;
    };
    let channel = channel("127.0.0.1#3");
    let listener = listener(channel, 3);
    let receiver = receiver(channel);
    let buffer = 4_096_u32.to_ne_bytes();
    sockopt::set_bytes(receiver.as_raw_fd(), SOL_SOCKET, SO_RCVBUF, &buffer).unwrap();
    let (delivery, _) = accept(&listener);
    for _ in 0..500 {
        delivery.send(&[1; 500]).unwrap();
    }
    until("drops", || receiver.stats().unwrap().dropped > 0);
    let mut buffer = [0; 10];
    while receiver.try_recv(&mut buffer) == Ok(Received::Datagram(500)) {}
    // One more, so that what is missing is seen.
    delivery.send(&[2; 500]).unwrap();
    assert_eq!(receiver.recv(&mut buffer), Ok(Received::Datagram(500)));
    assert_eq!(buffer, [2; 10], "cut off at the buffer's end");
    let stats = receiver.stats().unwrap();
    assert_eq!(stats.received + stats.lost, 501, "{stats:?}");
    assert_eq!(stats.lost, stats.dropped, "{stats:?}");
    assert_eq!(stats.path.len(), 1);
}

#[test]
fn nonsense_is_refused_by_name() {
    let Some(_world) = World::enter("nonsense_is_refused_by_name") else {
        return;
    };
    let mut buffer = [0; 16];
    let fresh = socket(Family::V4);
    assert_eq!(fresh.recv(&mut buffer), Err(Errno::ENOTCONN));
    assert_eq!(fresh.send(b"x"), Err(Errno::ENOTCONN));
    assert_eq!(fresh.listen(1), Err(Errno::EDESTADDRREQ));
    assert_eq!(fresh.accept().map(|_| ()), Err(Errno::EINVAL));
    assert_eq!(fresh.peer(), Err(Errno::ENOTCONN));
    assert_eq!(fresh.stats(), Err(Errno::ENOTCONN));
    assert_eq!(fresh.requesters(), Err(Errno::ENOTCONN));
    assert_eq!(fresh.shut_down(), Err(Errno::ENOTCONN));
    assert_eq!(fresh.connect(channel("[::1]#1")), Err(Errno::EAFNOSUPPORT));
    assert_eq!(fresh.connect(channel("239.1.1.1#1")), Err(Errno::EINVAL));
    assert_eq!(fresh.connect(channel("0.0.0.0#1")), Err(Errno::EINVAL));
    assert_eq!(fresh.bind(channel("10.9.8.7#1")), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(fresh.bind(channel("[::1]#1")), Err(Errno::EAFNOSUPPORT));
    let hasty = Options {
        heartbeat: Duration::from_millis(1),
        ..Options::default()
    };
    assert_eq!(fresh.set_options(hasty), Err(Errno::EINVAL));
    fresh.connect(channel("127.0.0.1#1")).unwrap();
    assert_eq!(fresh.connect(channel("127.0.0.1#1")), Err(Errno::EISCONN));
    assert_eq!(fresh.bind(Binding::ANY), Err(Errno::EINVAL));
    assert_eq!(fresh.send(b"x"), Err(Errno::EOPNOTSUPP));
    assert_eq!(fresh.set_options(Options::default()), Err(Errno::EISCONN));
    assert_eq!(fresh.try_recv(&mut buffer), Err(Errno::EAGAIN));

    let listener = listener(Binding::ANY, 1);
    assert_eq!(
        listener.connect(channel("127.0.0.1#1")),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(listener.bind(Binding::ANY), Err(Errno::EINVAL));
    assert_eq!(listener.recv(&mut buffer), Err(Errno::ENOTCONN));
    let (delivery, _) = accept(&listener);
    assert_eq!(delivery.send(&vec![0; 65_492]), Err(Errno::EMSGSIZE));
    assert_eq!(delivery.listen(1), Err(Errno::EINVAL));
    assert_eq!(delivery.try_recv(&mut buffer), Err(Errno::EAGAIN));
}

/// Sends a stream that nobody asked for from S:FP to all of these ports until told to stop.
fn flood(ports: std::ops::Range<u16>, over: &AtomicBool) {
    let stale = UdpSocket::bind(("127.0.0.1", FLEXCAST_PORT)).unwrap();
    let mut sequence = 0;
    while !over.load(Ordering::Relaxed) {
        sequence += 1;
        let trailer = Trailer {
            token: 7,
            sequence: Sequence(sequence),
            kind: Kind::Data,
        };
        let datagram = [&b"stale"[..], &trailer.bytes()].concat();
        for port in ports.clone() {
            // Nobody may be there.
            let _ = stale.send_to(&datagram, ("127.0.0.1", port));
        }
    }
}

#[test]
fn a_strict_socket_takes_nothing_of_a_stream_that_its_port_got_before() {
    let name = "a_strict_socket_takes_nothing_of_a_stream_that_its_port_got_before";
    let Some(_world) = World::enter(name) else {
        return;
    };
    // The kernel path is tried once, before anything disturbs that.
    drop(receiver(channel("127.0.0.1#3")));
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40007").unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let flooder = std::thread::spawn(move || flood(40_000..40_008, &ended));
    for _ in 0..100 {
        let socket = socket(Family::V4);
        limit(&socket, Duration::from_millis(1));
        let options = Options {
            strict: true,
            ..Options::default()
        };
        socket.set_options(options).unwrap();
        socket.connect(channel("127.0.0.1#3")).unwrap();
        assert_eq!(socket.recv(&mut [0; 64]), Err(Errno::EAGAIN));
    }
    over.store(true, Ordering::Relaxed);
    flooder.join().unwrap();
}

#[test]
fn a_channel_takes_as_many_as_its_listener_has_room_for_and_keeps_those() {
    let test = "a_channel_takes_as_many_as_its_listener_has_room_for_and_keeps_those";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let channel = channel("127.0.0.1#5");
    let listener = socket(Family::V4);
    let narrow = Options {
        requesters: 2,
        ..Options::default()
    };
    for none in [0, 100_001] {
        let wrong = Options {
            requesters: none,
            ..Options::default()
        };
        assert_eq!(listener.set_options(wrong), Err(Errno::EINVAL));
    }
    listener.set_options(narrow.clone()).unwrap();
    listener.bind(Binding::ANY).unwrap();
    listener.listen(5).unwrap();
    assert_eq!(listener.set_options(narrow), Err(Errno::EINVAL));
    let inside = [receiver(channel), receiver(channel)];
    let (delivery, _) = accept(&listener);
    await_requesters(&delivery, 2);
    assert_eq!(listener.refused(), Ok(0));
    let outside = receiver(channel);
    until("a refusal", || delivery.refused().unwrap() > 0);
    assert_eq!(delivery.requesters().unwrap().len(), 2);
    delivery.send(b"to two").unwrap();
    for receiver in &inside {
        assert_eq!(next(receiver), Some(b"to two".to_vec()));
    }
    assert_eq!(
        outside.try_recv(&mut [0; 8]),
        Err(Errno::EAGAIN),
        "it passes"
    );
    assert_eq!(outside.refused(), Err(Errno::ENOTCONN));
    // Whoever leaves makes room: the refused one asks again in 1 to 10 s.
    let [stays, goes] = inside;
    drop(goes);
    await_requesters(&delivery, 1);
    limit(&outside, Duration::from_secs(12));
    let deadline = Instant::now() + Duration::from_secs(11);
    while delivery.requesters().unwrap().len() < 2 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    delivery.send(b"again").unwrap();
    for receiver in [&stays, &outside] {
        assert_eq!(next(receiver), Some(b"again".to_vec()));
    }
}
