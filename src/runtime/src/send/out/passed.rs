//! A batch of another host's stream: it has its trailers already.
//!
//! Promises: what is not the stream's, or came before, is taken out; the rest leaves byte
//! for byte. Is not the check that they are whole datagrams (`passing`).

use flexcast_engine::Relay;
use flexcast_udp::Errno;
use flexcast_wire::{Channel, Kind, Trailer};

use super::Out;
use crate::background::now;
use crate::send::control::Command;
use crate::send::node::Node;

impl Out {
    fn trailers(&self) -> impl Iterator<Item = Trailer> + '_ {
        let whole = self.load.whole();
        whole.filter_map(|bytes| Trailer::split(bytes).ok().map(|(_, trailer)| trailer))
    }

    /// The token of the last one.
    pub(in crate::send) fn token(&self) -> Option<u64> {
        self.trailers().last().map(|trailer| trailer.token)
    }

    /// Whether all are of the stream that upstream is known to have granted.
    pub(in crate::send) fn is_granted(&self, node: &Node, channel: &Channel) -> bool {
        let state = node.lock();
        let passages = state.passages.as_ref();
        passages.is_some_and(|passages| {
            let mut all = self.trailers();
            all.all(|trailer| passages.relay.takes(channel, trailer.token))
        })
    }

    /// Takes out what is not to be passed on, and takes targets, in one moment; the ends
    /// of stream among the rest.
    pub(in crate::send) fn admit(
        &mut self,
        node: &Node,
        channel: &Channel,
    ) -> Result<Vec<Trailer>, Errno> {
        self.forget_targets();
        self.sequences.clear();
        self.sizes.clear();
        let mut state = node.lock();
        let armed = state.armed;
        let passages = state.passages.as_mut().ok_or(Errno::EPIPE)?;
        let relay = &mut passages.relay;
        let ends = self.sift(relay, channel);
        let fan = relay.fan(channel).ok_or(Errno::EPIPE)?;
        self.aim_at(fan, |_| false);
        relay.carried_on(now(), channel, &self.sequences, &self.sizes);
        // A reached turn shortens its timer, which the background thread has to see.
        let early = !self.moving.is_empty() && relay.next_time() < armed;
        drop(state);
        if early {
            node.post(Command::Look);
        }
        Ok(ends)
    }

    fn sift(&mut self, relay: &mut Relay, channel: &Channel) -> Vec<Trailer> {
        let mut ends = Vec::new();
        let (sequences, sizes) = (&mut self.sequences, &mut self.sizes);
        self.load.retain(|whole| {
            let Ok((_, trailer)) = Trailer::split(whole) else {
                return false;
            };
            let fresh = relay.on_stream(channel, &trailer);
            if fresh {
                sequences.push(trailer.sequence);
                sizes.push(whole.len());
                ends.extend((trailer.kind == Kind::End).then_some(trailer));
            }
            fresh
        });
        ends
    }
}
