//! The forwarding path: what is queued on a requesting socket, to a channel's
//! audience, in as few kernel packets as possible.
//!
//! Promises: nothing is allocated per datagram or batch; datagrams keep their
//! order and their bytes; nothing waits for more to come. Is not the choice of
//! who gets what (`engine::Fan`).

use std::collections::HashSet;
use std::time::Duration;

use flexcast_engine::{Relay, Target, Time};
use flexcast_udp::ReceiveBatch;
use flexcast_wire::{Channel, Kind, Sequence, Trailer};

use crate::downstream::Downstream;

/// Slots of one receive call. As many as one super-packet takes segments: of
/// datagrams that come one by one, one call fills one segmented send.
const SLOTS: usize = 44;
/// With receive offload a slot holds up to a whole super-packet.
const SLOT_BYTES: usize = 65_535;
/// The end of a stream is said at 0, 10 and 50 ms.
const REPEATS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// Buffers of the forwarding path, made once.
#[derive(Debug)]
pub(crate) struct Forwarder {
    pub(crate) batch: ReceiveBatch,
    datagrams: Vec<&'static [u8]>,
    part: Vec<&'static [u8]>,
    sequences: Vec<Sequence>,
    sizes: Vec<usize>,
    ends: Vec<Ending>,
}

/// The end of a stream, which is still to be said again.
#[derive(Debug)]
struct Ending {
    channel: Channel,
    sequence: Sequence,
    datagram: Vec<u8>,
    /// Who heard it first: whoever came since waits for another stream.
    hearers: HashSet<Target>,
    begun: Time,
    /// How many of [`REPEATS`] were said.
    said: usize,
}

impl Ending {
    /// When it is said next; none: it was said often enough.
    fn at(&self) -> Option<Time> {
        Some(self.begun + *REPEATS.get(self.said)?)
    }
}

impl Forwarder {
    pub(crate) fn new() -> Forwarder {
        Forwarder {
            batch: ReceiveBatch::new(SLOTS, SLOT_BYTES),
            datagrams: Vec::new(),
            part: Vec::new(),
            sequences: Vec::new(),
            sizes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Passes the last batch on. Control datagrams go to `answer`, in their place
    /// between the others, since they say which others to take.
    pub(crate) fn pass_batch_on(
        &mut self,
        now: Time,
        channel: Channel,
        fp: u16,
        node: &mut impl Node,
    ) {
        let mut run = Run {
            datagrams: recycle(std::mem::take(&mut self.datagrams)),
            part: recycle(std::mem::take(&mut self.part)),
            sequences: &mut self.sequences,
            sizes: &mut self.sizes,
        };
        for received in self.batch.iter() {
            if received.truncated || received.from.port() != fp {
                continue;
            }
            for datagram in received.segments() {
                let trailer = match Trailer::split(datagram) {
                    Ok((_, trailer)) => trailer,
                    Err(why) => {
                        node.parts().0.counters_mut().malformed[why.index()] += 1;
                        continue;
                    }
                };
                if trailer.kind == Kind::Control {
                    run.pass_on(now, &channel, node);
                    node.answer(now, channel, datagram);
                } else if node.parts().0.on_stream(&channel, &trailer) {
                    if trailer.kind == Kind::End {
                        let fan = node.parts().0.fan(&channel);
                        let hearers = fan
                            .into_iter()
                            .flat_map(|fan| fan.hearers(trailer.sequence));
                        self.ends.push(Ending {
                            channel,
                            sequence: trailer.sequence,
                            datagram: datagram.to_vec(),
                            hearers: hearers.collect(),
                            begun: now,
                            said: 0,
                        });
                    }
                    run.datagrams.push(datagram);
                    run.sequences.push(trailer.sequence);
                    run.sizes.push(datagram.len());
                }
            }
        }
        run.pass_on(now, &channel, node);
        self.datagrams = recycle(run.datagrams);
        self.part = recycle(run.part);
    }

    /// When [`Forwarder::repeat_ends`] next has something to do.
    pub(crate) fn next_time(&self) -> Time {
        let all = self.ends.iter().filter_map(Ending::at);
        all.min().unwrap_or(Time::NEVER)
    }

    /// Says the ends of streams again, as far as it is time.
    pub(crate) fn repeat_ends(&mut self, now: Time, relay: &Relay, downstream: &mut Downstream) {
        for end in &mut self.ends {
            if end.at().is_none_or(|at| at > now) {
                continue;
            }
            end.said += 1;
            let Some(fan) = relay.fan(&end.channel) else {
                continue;
            };
            let there = fan.hearers(end.sequence);
            let still: Vec<Target> = there.filter(|t| end.hearers.contains(t)).collect();
            downstream.pass_on(&[&end.datagram], &still);
        }
        self.ends.retain(|end| end.at().is_some());
    }
}

/// What the forwarding path needs of its relay.
pub(crate) trait Node {
    /// The engine, and the way down.
    fn parts(&mut self) -> (&mut Relay, &mut Downstream);
    /// Takes a control datagram of the channel's requesting socket.
    fn answer(&mut self, now: Time, channel: Channel, datagram: &[u8]);
}

/// Datagrams in a row, to be passed on together.
struct Run<'a> {
    datagrams: Vec<&'a [u8]>,
    part: Vec<&'a [u8]>,
    sequences: &'a mut Vec<Sequence>,
    sizes: &'a mut Vec<usize>,
}

impl Run<'_> {
    fn pass_on(&mut self, now: Time, channel: &Channel, node: &mut impl Node) {
        if self.datagrams.is_empty() {
            return;
        }
        let (relay, downstream) = node.parts();
        if let Some(fan) = relay.fan(channel) {
            downstream.pass_on(&self.datagrams, fan.steady());
            for (target, window) in fan.moving() {
                self.part.clear();
                let all = self.datagrams.iter().zip(self.sequences.iter());
                let admitted = all.filter(|(_, sequence)| window.admits(**sequence));
                self.part.extend(admitted.map(|(datagram, _)| *datagram));
                downstream.pass_on(&self.part, &[*target]);
            }
        }
        relay.carried_on(now, channel, self.sequences, self.sizes);
        self.datagrams.clear();
        self.sequences.clear();
        self.sizes.clear();
    }
}

/// The memory of a list of slices, for slices of another lifetime (std collects
/// an empty list in place).
fn recycle<'a>(mut used: Vec<&[u8]>) -> Vec<&'a [u8]> {
    used.clear();
    used.into_iter().map(|_| -> &'a [u8] { &[] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_list_keeps_its_memory() {
        let bytes = [1, 2, 3];
        let mut list: Vec<&[u8]> = Vec::with_capacity(1000);
        list.push(&bytes);
        let place = list.as_ptr();
        let other: Vec<&'static [u8]> = recycle(list);
        assert!(other.is_empty() && other.capacity() >= 1000);
        assert!(std::ptr::eq(place.cast::<()>(), other.as_ptr().cast()));
    }
}
