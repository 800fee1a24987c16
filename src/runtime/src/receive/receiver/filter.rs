//! D's filter: attached when a receiver begins, and kept in step.
//!
//! Promises: it is replaced only by one that differs; what cannot be attached now is
//! tried again. Is not the program itself (`udp::filter`).

use flexcast_engine::Time;
use flexcast_udp::filter::{self, FilterWords, Program, Source, Untrailed};
use flexcast_udp::{canonical_socket, sockopt, Errno, UdpSocket};
use flexcast_wire::{Kind, MAGIC};

use super::{Receiver, AGAIN, QUEUE, SUSPICION};
use crate::receive::asked::Asked;
use crate::receive::identity::Bound;
use crate::receive::inheritance::{Inheritance, Inherited};
use crate::receive::reach::Reach;
use crate::receive::tools::Tools;

const WORDS: FilterWords = FilterWords {
    data_word: Kind::Data.word(),
    control_word: Kind::Control.word(),
    end_word: Kind::End.word(),
    magic_mask: MAGIC,
};

/// What became of D's filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::receive) enum Filtered {
    /// It is as it should be.
    Done,
    /// D is not in the application's table.
    NotHere,
    /// A helper is needed to reach D.
    Refused,
    /// The kernel refuses the filter.
    Failed(Errno),
}

impl Receiver {
    /// The kernel path: filter on D, C beside it, selector. In this order: between
    /// C's bind and the selector the kernel hands C a part of what is D's, so that
    /// they stand side by side.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EACCES` for C; what the kernel refuses of the programs. D is
    /// then as it was.
    pub(in crate::receive) fn stand_beside(&mut self, d: i32) -> Result<(), Errno> {
        let before = sockopt::reuse_port(d)?;
        let done = self.try_beside(d);
        if done.is_err() {
            let _ = sockopt::set_reuse_port(d, before);
            if !self.plan.inherited {
                // ENOENT where it was not attached.
                let _ = sockopt::detach_filter(d);
            }
        }
        done
    }

    fn try_beside(&mut self, d: i32) -> Result<(), Errno> {
        if !self.keeps_filter() {
            let program = self.program(&self.passengers());
            if let Filtered::Failed(errno) = self.attach(d, program) {
                return Err(errno);
            }
        }
        sockopt::set_reuse_port(d, true)?;
        self.socket.set_reuse_port(true)?;
        self.socket
            .set_reuse_address(self.shared.bound.reuse_address)?;
        let selector = filter::selector(self.plan.nonce.0, WORDS.control_word);
        self.socket.bind(self.shared.bound.local)?;
        if self.plan.inherited {
            return Ok(());
        }
        sockopt::attach_reuseport_selector(d, &selector)
    }

    /// The path through user space: U, on a port of its own.
    ///
    /// # Errors
    /// As bind(2).
    pub(in crate::receive) fn stand_apart(
        &mut self,
        now: Time,
        tools: &mut Tools,
    ) -> Result<(), Errno> {
        Receiver::bind_apart(&self.shared.bound, &self.socket)?;
        if self.keeps_filter() {
            return Ok(());
        }
        match self.refilter(now, tools) {
            // The stream matters more than what else comes to D.
            Filtered::Failed(_) => self.plan.filtered = false,
            Filtered::Refused => return Err(Errno::EPERM),
            Filtered::Done | Filtered::NotHere => {}
        }
        Ok(())
    }

    /// Whether D's filter is a predecessor's, and good until its channels are joined:
    /// the stream goes on meanwhile.
    fn keeps_filter(&self) -> bool {
        self.plan.inherited && self.shared.reading.is_some()
    }

    /// Binds U.
    pub(super) fn bind_apart(bound: &Bound, socket: &UdpSocket) -> Result<(), Errno> {
        let mut at = bound.local;
        at.set_port(0);
        socket.set_receive_buffer(QUEUE)?;
        socket.bind(at)
    }

    /// Attaches the filter that D should have, where it has not.
    pub(in crate::receive) fn refilter(&mut self, now: Time, tools: &mut Tools) -> Filtered {
        self.retry_filter = Time::NEVER;
        if !self.plan.filtered {
            return Filtered::Done;
        }
        let program = self.program(&self.passengers());
        if self.attached.as_ref() == Some(&program) {
            return Filtered::Done;
        }
        let outcome = match tools.reacher.reach(&self.shared) {
            Reach::Found(d) => self.attach(d.as_raw(), program),
            Reach::NotHere => {
                self.next_watch = self.next_watch.min(self.last_watch + SUSPICION);
                Filtered::NotHere
            }
            Reach::Refused => Filtered::Refused,
        };
        if outcome != Filtered::Done {
            self.retry_filter = now + AGAIN;
        }
        outcome
    }

    fn attach(&mut self, raw: i32, program: Program) -> Filtered {
        let attached = match sockopt::attach_filter(raw, &program) {
            // net.core.optmem_max: the stream matters more than a successor.
            Err(Errno::ENOMEM) => sockopt::attach_filter(raw, &self.program(&[])),
            outcome => outcome,
        };
        match attached {
            Ok(()) => {
                self.attached = Some(program);
                Filtered::Done
            }
            Err(errno) => {
                log::warn!("a receiving socket's filter: {errno}");
                Filtered::Failed(errno)
            }
        }
    }

    fn program(&self, passengers: &[u32]) -> Program {
        let wanted = self.asked.iter().filter(|a| a.is_wanted());
        let wanted = wanted.filter(|a| self.only_from.is_none_or(|only| a.is_from(only)));
        let reading = self.shared.reading.as_ref();
        let mut sources = Vec::with_capacity(self.asked.len() + 1);
        sources.extend(reading.and_then(|reading| self.waker(reading)));
        sources.extend(self.own_words());
        for asked in wanted {
            let origin = asked.origin.as_ref();
            let token = reading.is_none().then_some(self.local_token);
            sources.extend(origin.map(|origin| origin.source(token)));
            if origin.is_none() || self.is_overlapping() {
                sources.extend(asked.token().ok().map(|token| Source {
                    address: asked.asking.at.ip(),
                    port: asked.asking.at.port(),
                    token: token.map(|token| token.0),
                }));
            }
        }
        let family = self.shared.bound.family;
        if reading.is_some() {
            return filter::reader(&sources, WORDS, family, passengers);
        }
        filter::receiver(&sources, self.untrailed(), WORDS, family, passengers)
    }

    /// Both conditions at once: what was told, and what connect narrows it to.
    fn untrailed(&self) -> Untrailed {
        match (self.plan.untrailed, self.only_from) {
            (Untrailed::Pass, Some(only)) => Untrailed::OnlyFrom(only),
            (Untrailed::OnlyFrom(told), Some(only)) => {
                let told = canonical_socket(told);
                let ports_fit = told.port() == only.port() || only.port() == 0;
                if told.ip() != only.ip() || !(ports_fit || told.port() == 0) {
                    Untrailed::Drop
                } else if told.port() == 0 {
                    Untrailed::OnlyFrom(only)
                } else {
                    Untrailed::OnlyFrom(told)
                }
            }
            (told, _) => told,
        }
    }

    fn passengers(&self) -> Vec<u32> {
        // A relay's channel is not asked for by whoever inherits the socket.
        let own = |a: &&Asked| a.is_wanted() && !a.asker.is_tied();
        let wanted = self.asked.iter().filter(own);
        let channels = wanted.map(|a| Inherited {
            channel: a.asker.channel(),
            asking: a.asking.clone(),
            token: a.token().ok().flatten(),
            app_port: a.asker.app_port(),
        });
        Inheritance {
            role: self.role,
            fp: self.plan.settings.fp,
            nonce: self.plan.nonce,
            channels: channels.collect(),
        }
        .write()
    }
}
