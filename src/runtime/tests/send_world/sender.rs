//! A sender process: the sending half, told what to do line by line.

use std::collections::HashMap;
use std::io::stdin;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flexcast_runtime::send::{self, SendSettings, Sending, SendingChannel};
use flexcast_udp::{sockopt, Family, Fd, UdpSocket};
use flexcast_wire::{Channel, FLEXCAST_PORT};

use super::say;

struct Streaming {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

pub(crate) fn run() {
    let mut sending: Option<Arc<Sending>> = None;
    let mut channels: HashMap<Channel, SendingChannel> = HashMap::new();
    let mut streams: HashMap<Channel, Streaming> = HashMap::new();
    for line in stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let channel = || words[1].parse::<Channel>().unwrap();
        let process = || sending.as_ref().unwrap();
        match words[0] {
            "start" => match Sending::start(SendSettings::default()) {
                Ok(started) => {
                    sending = Some(started);
                    say("ok");
                }
                Err(error) => say(&error.to_string()),
            },
            "open" => {
                let opened = process().open(channel(), 4000).unwrap();
                channels.insert(channel(), opened);
                say("ok");
            }
            "send" => say(&burst(&channels[&channel()], &words)),
            "stream" => {
                let started = stream(channels[&channel()].clone(), number(2), number(3));
                streams.insert(channel(), started);
                say("ok");
            }
            // bursts CHANNEL SIZE COUNT GAP_US: so many at once, in send_soon.
            "bursts" => {
                let started = bursts(
                    channels[&channel()].clone(),
                    number(2),
                    number(3),
                    number(4),
                );
                streams.insert(channel(), started);
                say("ok");
            }
            // threads CHANNEL COUNT EACH [soon]: several threads of one channel.
            "threads" => {
                let each = number(3);
                let soon = words.contains(&"soon");
                let threads = (0..number(2)).map(|_| {
                    let channel = channels[&channel()].clone();
                    std::thread::spawn(move || {
                        (0..each).for_each(|n| {
                            let body = body(n, 200);
                            let two: [&[&[u8]]; 2] = [&[&body], &[&body]];
                            match soon {
                                true => drop(channel.send_soon(&two, true).unwrap()),
                                false => drop(channel.send(&two, true).unwrap()),
                            }
                        });
                    })
                });
                let threads: Vec<JoinHandle<()>> = threads.collect();
                threads
                    .into_iter()
                    .for_each(|thread| thread.join().unwrap());
                say("ok");
            }
            "halt" => {
                let streaming = streams.remove(&channel()).unwrap();
                streaming.stop.store(true, Ordering::Relaxed);
                say(&streaming.thread.join().unwrap().to_string());
            }
            "receivers" => say(&process().receivers(channel().id).to_string()),
            "wait" => {
                let limit = Duration::from_millis(number(3));
                let there = process().wait_for(channel().id, number(2), limit);
                say(&there.to_string());
            }
            "loop" => {
                channels[&channel()].set_loop(words[2] == "on");
                say("ok");
            }
            "end" => {
                channels[&channel()].end();
                say("ok");
            }
            "finish" => {
                let before = Instant::now();
                process().finish();
                say(&before.elapsed().as_millis().to_string());
            }
            "standing" => say(&format!("{:?}", process().report().standing)),
            "counters" => {
                let c = channels[&channel()].counters();
                say(&format!(
                    "{} {} {} {}",
                    c.datagrams, c.unheard, c.dropped, c.failed
                ));
            }
            "queued" => {
                let c = channels[&channel()].counters();
                say(&format!("{} {}", c.queued, c.longest_queued.as_micros()));
            }
            "flush" => {
                process().flush();
                say("ok");
            }
            "buffer" => {
                // What no application can do by itself: F is out of its sight.
                let ours: Vec<i32> = (0..2048).filter(|raw| send::is_internal(*raw)).collect();
                for raw in &ours {
                    let size = u32::try_from(number(1)).unwrap();
                    sockopt::set_u32(*raw, 1, 7, size).unwrap();
                }
                say(&format!("{ours:?}"));
            }
            "closefrom" => {
                (3..2048).for_each(|raw| drop(Fd::from_raw(raw)));
                say("ok");
            }
            "squat" => {
                // A program that shares the port with nobody.
                let socket = UdpSocket::new(Family::V4).unwrap();
                let any = SocketAddr::new(Family::V4.any(), FLEXCAST_PORT);
                socket.bind(any).unwrap();
                std::mem::forget(socket);
                say("ok");
            }
            "quit" => std::process::exit(0),
            other => panic!("{other}?"),
        }
    }
}

/// `send CHANNEL COUNT SIZE AT_ONCE [nonblock] [soon]`: bodies begin with their number.
fn burst(channel: &SendingChannel, words: &[&str]) -> String {
    let number = |at: usize| words[at].parse::<usize>().unwrap();
    let (count, size, at_once) = (number(2), number(3), number(4));
    let (block, soon) = (!words.contains(&"nonblock"), words.contains(&"soon"));
    let bodies: Vec<Vec<u8>> = (0..count).map(|n| body(n as u64, size)).collect();
    let parts: Vec<[&[u8]; 2]> = bodies
        .iter()
        .map(|body| {
            let (head, tail) = body.split_at(body.len() / 2);
            [head, tail]
        })
        .collect();
    let datagrams: Vec<&[&[u8]]> = parts.iter().map(|parts| &parts[..]).collect();
    let (mut copies, mut failed, mut dropped) = (0, 0, 0);
    let before = Instant::now();
    for batch in datagrams.chunks(at_once) {
        let outcome = match soon {
            true => channel
                .send_soon(batch, block)
                .map(Option::unwrap_or_default),
            false => channel.send(batch, block),
        };
        match outcome {
            Ok(sent) => {
                copies += sent.copies;
                failed += sent.failed;
                dropped += sent.dropped;
            }
            Err(errno) => return errno.name().to_owned(),
        }
    }
    let took = before.elapsed().as_millis();
    format!("{copies} {failed} {dropped} {took}")
}

fn body(n: u64, size: usize) -> Vec<u8> {
    let mut body = vec![0x5A; size];
    let head = size.min(8);
    body[..head].copy_from_slice(&n.to_be_bytes()[..head]);
    body
}

/// One datagram every `gap_us`, until told to stop; how many there were.
fn stream(channel: SendingChannel, size: u64, gap_us: u64) -> Streaming {
    repeat(gap_us, move |n| {
        let body = body(n, usize::try_from(size).unwrap());
        channel.send(&[&[&body[..]]], true).unwrap();
        1
    })
}

/// So many at once every `gap_us`, each for itself, as soon as may be.
fn bursts(channel: SendingChannel, size: u64, count: u64, gap_us: u64) -> Streaming {
    repeat(gap_us, move |n| {
        for n in n..n + count {
            let body = body(n, usize::try_from(size).unwrap());
            channel.send_soon(&[&[&body[..]]], true).unwrap();
        }
        count
    })
}

/// Does it every `gap_us` until told to stop: given how many datagrams there were, it
/// says how many it sent.
fn repeat(gap_us: u64, send: impl Fn(u64) -> u64 + Send + 'static) -> Streaming {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        let mut n = 0;
        let mut next = Instant::now();
        while !stopped.load(Ordering::Relaxed) {
            n += send(n);
            next += Duration::from_micros(gap_us);
            if let Some(pause) = next.checked_duration_since(Instant::now()) {
                std::thread::sleep(pause);
            } else {
                next = Instant::now();
            }
        }
        n
    });
    Streaming { stop, thread }
}
