//! The two halves of a relay in one process and one namespace: what each call says, and
//! that a relay which asks itself never grants. Requests for 10.77.0.0/24 are kept on this
//! host by a route, which stands for the rule that would hand them over. Is not the stream
//! through it (shim-tests/native-relay.sh).

use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use flexcast::{Binding, Channel, Errno, Family, Received, Socket};
use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::native::{Event, Receiver, ReceiverSettings};
use flexcast_testbed::World;
use flexcast_wire::{Reason, Verdict, FLEXCAST_PORT};

const SOL_SOCKET: i32 = 1;
const SO_RCVTIMEO: i32 = 20;

fn channel(text: &str) -> Channel {
    text.parse().unwrap()
}

/// A socket that waits at most 5 s.
fn socket() -> Socket {
    let socket = Socket::new(Family::V6).unwrap();
    limit(&socket);
    socket
}

fn limit(socket: &Socket) {
    let time = [5_i64, 0].map(i64::to_ne_bytes).concat();
    sockopt::set_bytes(socket.as_raw_fd(), SOL_SOCKET, SO_RCVTIMEO, &time).unwrap();
}

fn ip(arguments: &str) {
    let mut command = Command::new("ip");
    let status = command.args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn keep_requests() {
    ip("route add local 10.77.0.0/24 dev lo");
    ip("-6 route add local fd77::/64 dev lo");
}

fn transparent(binding: impl Into<Binding>) -> Socket {
    let listener = socket();
    listener.set_transparent(true).unwrap();
    listener.bind(binding).unwrap();
    listener.listen(5).unwrap();
    listener
}

fn receiver(channel: Channel) -> Socket {
    let receiver = socket();
    receiver.connect(channel).unwrap();
    receiver
}

fn accept(listener: &Socket) -> (Socket, Channel) {
    let (accepted, channel) = listener.accept().unwrap();
    limit(&accepted);
    (accepted, channel)
}

#[test]
fn a_transparent_socket_is_given_other_hosts_channels_and_an_ordinary_one_this_hosts() {
    let Some(_world) = World::enter(
        "a_transparent_socket_is_given_other_hosts_channels_and_an_ordinary_one_this_hosts",
    ) else {
        return;
    };
    keep_requests();
    let ours = socket();
    ours.bind(Binding::ANY).unwrap();
    ours.listen(5).unwrap();
    let others = transparent(Binding::ANY);
    let one = transparent(channel("10.77.0.9#5"));
    for text in ["10.77.0.1#5", "10.77.0.2#5", "[fd77::1]#5"] {
        let _receiver = receiver(channel(text));
        let (accepted, asked) = accept(&others);
        assert_eq!((asked, accepted.peer()), (channel(text), Ok(channel(text))));
        assert_eq!(accepted.requesters().unwrap().len(), 1);
    }
    let _specific = receiver(channel("10.77.0.9#5"));
    assert_eq!(accept(&one).1, channel("10.77.0.9#5"));
    let _local = receiver(channel("127.0.0.1#5"));
    let (delivery, asked) = accept(&ours);
    assert_eq!(asked, channel("127.0.0.1#5"));
    assert_eq!(delivery.send(b"its own"), Ok(7));
}

#[test]
fn each_half_says_what_is_wrong() {
    let Some(_world) = World::enter("each_half_says_what_is_wrong") else {
        return;
    };
    keep_requests();
    let listener = socket();
    listener.set_transparent(true).unwrap();
    let here = listener.bind(channel("127.0.0.1#5"));
    assert_eq!(here, Err(Errno::EADDRNOTAVAIL), "an address of this host");
    listener.on_request(|_| true).unwrap();
    listener.bind(Binding::ANY).unwrap();
    assert_eq!(listener.set_transparent(false), Err(Errno::EINVAL), "bound");
    assert_eq!(listener.listen(5), Err(Errno::EOPNOTSUPP), "a guard");
    let (listener, wanted) = (transparent(Binding::ANY), channel("10.77.0.1#5"));
    let second = socket();
    second.set_transparent(true).unwrap();
    second.bind(Binding::ANY).unwrap();
    assert_eq!(second.listen(5), Err(Errno::EADDRINUSE));

    let receiver = receiver(wanted);
    let (accepted, _) = accept(&listener);
    assert_eq!(receiver.set_transparent(true), Err(Errno::EISCONN));
    assert_eq!(receiver.connect_for(&accepted), Err(Errno::EISCONN));
    assert_eq!(socket().connect_for(&listener), Err(Errno::ENOTCONN));
    assert_eq!(
        accepted.send(&[0; 40]),
        Err(Errno::ENOTCONN),
        "nothing above"
    );
    let connected = socket();
    connected.connect_for(&accepted).unwrap();
    assert_eq!(connected.peer(), Ok(wanted));
    assert_eq!(socket().connect_for(&accepted), Err(Errno::EALREADY));
    assert_eq!(accepted.send(b"no trailer"), Err(Errno::EINVAL));
    assert_eq!(accepted.send(&vec![0; 65_508]), Err(Errno::EMSGSIZE));
    accepted.shut_down().unwrap();
    assert_eq!(accepted.send(&[0; 40]), Err(Errno::EPIPE));
    assert_eq!(socket().connect_for(&accepted), Err(Errno::EPIPE));
    let mut buffer = [0; 64];
    assert_eq!(connected.recv(&mut buffer), Ok(Received::End), "it is over");
    assert_eq!(
        connected.recv(&mut buffer),
        Ok(Received::End),
        "and stays so"
    );
}

#[test]
fn the_halves_end_with_each_other_and_with_those_below() {
    let Some(_world) = World::enter("the_halves_end_with_each_other_and_with_those_below") else {
        return;
    };
    keep_requests();
    let listener = transparent(Binding::ANY);
    let first = receiver(channel("10.77.0.1#5"));
    let (accepted, _) = accept(&listener);
    let connected = socket();
    connected.connect_for(&accepted).unwrap();
    drop(connected);
    let mut buffer = [0; 64];
    assert_eq!(accepted.recv(&mut buffer), Ok(Received::End), "none above");
    assert_eq!(accepted.send(&[0; 40]), Err(Errno::EPIPE));
    drop(first);

    let wanted = channel("10.77.0.2#5");
    let second = receiver(wanted);
    let (accepted, asked) = accept(&listener);
    assert_eq!(asked, wanted);
    let connected = socket();
    connected.connect_for(&accepted).unwrap();
    let reads = std::thread::spawn(move || connected.recv(&mut [0; 64]));
    let begun = Instant::now();
    drop(second);
    assert_eq!(accepted.recv(&mut buffer), Ok(Received::End), "none below");
    assert_eq!(
        reads.join().unwrap(),
        Ok(Received::End),
        "a blocked call wakes"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let _third = receiver(wanted);
    assert_eq!(accept(&listener).1, wanted, "and may be accepted again");
}

#[test]
fn a_relay_that_asks_itself_never_grants() {
    let Some(_world) = World::enter("a_relay_that_asks_itself_never_grants") else {
        return;
    };
    keep_requests();
    let wanted = channel("10.77.0.1#5");
    let listener = transparent(Binding::ANY);
    let mut receiver = Receiver::open(ReceiverSettings::new(wanted, FLEXCAST_PORT)).unwrap();
    let asks = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(3);
        let mut verdicts = Vec::new();
        while Instant::now() < until {
            match receiver.next(Some(Duration::from_millis(100))) {
                Event::Verdict(verdict, reason) => verdicts.push((verdict, reason)),
                Event::TimedOut => {}
                other => panic!("{other:?}"),
            }
        }
        verdicts
    });
    let (accepted, _) = accept(&listener);
    let connected = socket();
    connected.connect_for(&accepted).unwrap();
    let verdicts = asks.join().unwrap();
    assert!(
        verdicts.contains(&(Verdict::RefusedPassing, Reason::Loop)),
        "{verdicts:?}"
    );
    let granted = |(verdict, _): &(Verdict, Reason)| *verdict == Verdict::Granted;
    assert!(!verdicts.iter().any(granted), "{verdicts:?}");
}
