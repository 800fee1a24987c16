//! What comes to C, or U: control, and on the path through user space the stream.
//!
//! Promises: whatever comes never panics us. Is not the protocol (`engine`).

use std::net::SocketAddr;

use flexcast_engine::{Outbox, Time};
use flexcast_wire::{Control, Kind, StreamToken, Trailer};

use super::{Receiver, SUSPICION};
use crate::receive::asked::Asked;
use crate::receive::tools::Tools;
use crate::receive::PathInUse;

/// Batches taken from one socket before the others get their turn.
const TURN: usize = 8;

impl Receiver {
    /// Takes what has come to the control socket.
    pub(in crate::receive) fn hear(&mut self, now: Time, tools: &mut Tools) {
        for _ in 0..TURN {
            let heard = match self.plan.path {
                PathInUse::Kernel => self.hear_control(now, tools),
                PathInUse::User => self.hear_stream(now, tools),
            };
            if heard == 0 {
                break;
            }
        }
        if self.note_events(now) {
            self.settle(now, tools);
        }
        tools.send_letters(&self.socket);
    }

    fn hear_control(&mut self, now: Time, tools: &mut Tools) -> usize {
        let heard = tools.control.receive(&self.socket).unwrap_or(0);
        for received in tools.control.iter() {
            match Control::parse(received.payload) {
                Ok(control) => self.take_control(now, &control, &mut tools.outbox),
                // Only control with our nonce is C's, as long as D is there.
                Err(_) => self.next_watch = self.next_watch.min(self.last_watch + SUSPICION),
            }
        }
        heard
    }

    fn hear_stream(&mut self, now: Time, tools: &mut Tools) -> usize {
        let (batch, out) = tools.for_stream();
        let heard = batch.receive(&self.socket).unwrap_or(0);
        for received in batch.iter() {
            let Ok((body, trailer)) = Trailer::split(received.payload) else {
                continue;
            };
            match trailer.kind {
                Kind::Control => {
                    if let Ok(control) = Control::parse_body(body, &trailer) {
                        self.take_control(now, &control, out);
                    }
                }
                Kind::Data => self.take_data(received.from, body, &trailer),
                // To others statuses tell it, with the token.
                Kind::End if self.shared.reading.is_some() => {
                    self.take_data(received.from, body, &trailer);
                }
                Kind::End => {}
            }
        }
        for asked in &mut self.asked {
            if let Some(origin) = &mut asked.origin {
                origin.flush();
            }
        }
        heard
    }

    fn take_control(&mut self, now: Time, control: &Control<'_>, out: &mut Outbox) {
        let header = &control.header;
        let ours = |a: &&mut Asked| a.asker.channel() == header.channel;
        let Some(asked) = self.asked.iter_mut().find(ours) else {
            return;
        };
        asked.asker.hear(now, control, out);
    }

    /// Data on the path through user space: as D's filter would judge it.
    fn take_data(&mut self, from: SocketAddr, body: &[u8], trailer: &Trailer) {
        let local_token = self.plan.filtered.then_some(self.local_token);
        let known = |a: &Asked| a.token() == Ok(Some(StreamToken(trailer.token)));
        let fits = |a: &Asked| a.is_wanted() && a.asking.at == from;
        let any = |a: &Asked| a.token() == Ok(None);
        let at = self.asked.iter().position(|a| fits(a) && known(a));
        let at = at.or_else(|| self.asked.iter().position(|a| fits(a) && any(a)));
        let Some(asked) = at.map(|at| &mut self.asked[at]) else {
            return;
        };
        if self.only_from.is_some_and(|only| !asked.is_from(only)) {
            return;
        }
        if let Some(origin) = &mut asked.origin {
            match self.shared.reading {
                Some(_) => origin.pass(body, trailer),
                None => origin.take(body, trailer, local_token),
            }
        }
    }
}
