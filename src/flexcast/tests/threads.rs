//! Many threads on many channels at once: nobody waits for ever, and whoever is served is
//! served right. Is not a search for data races, which a sanitizer makes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flexcast::{Binding, Channel, ChannelId, Errno, Family, Options, Received, Socket};
use flexcast_testbed::World;

const CHANNELS: u64 = 8;
const FOR: Duration = Duration::from_secs(3);

fn channel(n: u64) -> Channel {
    let id = ChannelId::new(n % CHANNELS + 1).unwrap();
    Channel::new("127.0.0.1".parse().unwrap(), id)
}

/// Comes, hears a little, and goes, again and again; datagrams heard.
fn receive(seed: u64, over: &AtomicBool) -> u64 {
    let (mut heard, mut n) = (0, seed);
    while !over.load(Ordering::Relaxed) {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let channel = channel(n >> 33);
        let socket = Socket::new(Family::V4).unwrap();
        let heartbeat = Duration::from_millis(100 + (n >> 40) % 400);
        let options = Options {
            heartbeat,
            ..Options::default()
        };
        socket.set_options(options).unwrap();
        socket.connect(channel).unwrap();
        let until = Instant::now() + Duration::from_millis((n >> 50) % 60);
        let mut buffer = [0; 64];
        while Instant::now() < until {
            match socket.try_recv(&mut buffer) {
                Ok(Received::Datagram(8)) => {
                    assert_eq!(buffer[..8], channel.id.get().to_ne_bytes());
                    heard += 1;
                }
                Ok(Received::End) => {}
                Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_micros(500)),
                other => panic!("{other:?}"),
            }
        }
        if n & 1 == 0 {
            socket.shut_down().unwrap();
        }
        socket.stats().unwrap();
    }
    heard
}

/// Sends to an audience as long as it is there.
fn serve(socket: &Socket, channel: Channel, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        match socket.send(&channel.id.get().to_ne_bytes()) {
            Ok(8) => std::thread::sleep(Duration::from_millis(1)),
            Err(Errno::EPIPE) => return,
            other => panic!("{other:?}"),
        }
        socket.requesters().unwrap();
    }
}

#[test]
fn many_threads_come_and_go_and_all_are_served() {
    let Some(_world) = World::enter("many_threads_come_and_go_and_all_are_served") else {
        return;
    };
    let listener = Socket::new(Family::V4).unwrap();
    listener.bind(Binding::ANY).unwrap();
    listener.listen(64).unwrap();
    let listener = Arc::new(listener);
    let over = Arc::new(AtomicBool::new(false));
    let (ended, served) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for _ in 0..4 {
        let (listener, over) = (listener.clone(), over.clone());
        let (ended, served) = (ended.clone(), served.clone());
        // Not joined: two of them wait in accept when all is over.
        std::thread::spawn(move || {
            while let Ok((socket, channel)) = listener.accept() {
                served.fetch_add(1, Ordering::Relaxed);
                let (over, ended) = (over.clone(), ended.clone());
                std::thread::spawn(move || {
                    serve(&socket, channel, &over);
                    ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
    }
    let receivers: Vec<_> = (0..24)
        .map(|seed| {
            let over = over.clone();
            std::thread::spawn(move || receive(seed, &over))
        })
        .collect();
    std::thread::sleep(FOR);
    over.store(true, Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(10);
    for receiver in &receivers {
        while !receiver.is_finished() {
            assert!(Instant::now() < deadline, "a receiver hangs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let heard: Vec<u64> = receivers.into_iter().map(|r| r.join().unwrap()).collect();
    assert!(heard.iter().all(|heard| *heard > 0), "{heard:?}");
    while ended.load(Ordering::Relaxed) < served.load(Ordering::Relaxed) {
        assert!(Instant::now() < deadline, "a sender hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(served.load(Ordering::Relaxed) >= CHANNELS);
}
