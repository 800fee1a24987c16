//! From the kernel path to the one through user space, under the stream.
//!
//! On the kernel path all channels of one S come from S:FP, so a program that looks
//! at addresses cannot tell two senders on one host apart. Each origin has a port of
//! its own.
//!
//! ```text
//!   before   S:FP ─► D                filter: S:FP
//!   2 s      S:FP ─► D, S:FP ─► U ─► D        S:FP and origins
//!   after    S:FP ─► U ─► D                   origins
//! ```
//! Promises: nothing is lost: the node moves the entry, which it knows by its nonce,
//! with the first validated request from U, and what it sent before is still kept.
//! Is not undone.

use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::Errno;

use super::Receiver;
use crate::receive::forwarding::Origin;
use crate::receive::tools::Tools;
use crate::receive::{Path, PathInUse};

/// How long both ways are open.
const OVERLAP: Duration = Duration::from_secs(2);

impl Receiver {
    /// Takes the path through user space from now on. The new control socket is to be
    /// watched.
    ///
    /// # Errors
    /// `EALREADY` where it takes that path; `EOPNOTSUPP` where it may not: bound to an
    /// interface, or the kernel path is forced; as socket(2) and bind(2).
    pub(in crate::receive) fn go_apart(
        &mut self,
        now: Time,
        tools: &mut Tools,
    ) -> Result<(), Errno> {
        let bound = &self.shared.bound;
        if self.plan.path == PathInUse::User {
            return Err(Errno::EALREADY);
        }
        if !bound.device.is_empty() || self.plan.settings.path == Path::Kernel {
            return Err(Errno::EOPNOTSUPP);
        }
        let socket = Receiver::control_socket(bound)?;
        Receiver::bind_apart(bound, &socket)?;
        let origins = self.asked.iter().map(|a| Origin::new(bound, a.asking.at));
        let origins = origins.collect::<Result<Vec<Origin>, Errno>>()?;
        for (asked, origin) in self.asked.iter_mut().zip(origins) {
            asked.origin = Some(origin);
        }
        // C is gone: control that still comes to D's port has the magic and ends in
        // D's filter.
        self.socket = socket;
        self.plan.path = PathInUse::User;
        self.overlap_until = now + OVERLAP;
        self.settle(now, tools);
        for asked in self.asked.iter_mut().filter(|a| a.is_wanted()) {
            asked.asker.start_over(now);
        }
        self.poll(now, tools);
        Ok(())
    }

    /// Ends the overlap when it is over.
    pub(super) fn end_overlap(&mut self, now: Time, tools: &mut Tools) {
        if self.overlap_until <= now {
            self.overlap_until = Time::NEVER;
            self.settle(now, tools);
        }
    }

    /// Whether D still takes the stream from S:FP itself.
    pub(super) fn is_overlapping(&self) -> bool {
        self.overlap_until != Time::NEVER
    }
}
