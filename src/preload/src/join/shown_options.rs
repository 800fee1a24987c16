//! Options that a receiving or listening socket cannot have as the program sets them.
//!
//! ```text
//!   SO_REUSEADDR, SO_REUSEPORT   a foreign binder of its port would take the stream
//!   UDP_GRO                      joins datagrams before trailers are taken off
//!   IP_RECVERR, IPV6_RECVERR     answers to our own requests would surface
//!   SO_ATTACH_FILTER and like    the socket's filter is ours
//! ```
//! Promises: setting succeeds as it would in the kernel, reading gives what was set.
//! Is not for other options: those are the kernel's.

use flexcast_runtime::kernel::sockopt;
use libc::c_int;

const LIST: [(c_int, c_int); 5] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_UDP, libc::UDP_GRO),
    (libc::SOL_IP, libc::IP_RECVERR),
    (libc::SOL_IPV6, libc::IPV6_RECVERR),
];
const REUSE_ADDRESS: usize = 0;
const REUSE_PORT: usize = 1;

/// Of the filter family, those that put one in.
const ATTACHING: [c_int; 4] = [
    libc::SO_ATTACH_FILTER,
    libc::SO_ATTACH_BPF,
    libc::SO_ATTACH_REUSEPORT_CBPF,
    libc::SO_ATTACH_REUSEPORT_EBPF,
];
const SO_DETACH_REUSEPORT_BPF: c_int = 68;
/// Reading a filter has the number of attaching one.
const SO_GET_FILTER: c_int = libc::SO_ATTACH_FILTER;

/// What reading an option gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    /// No bytes: there is no filter.
    Nothing,
    /// An `int`, on or off.
    Word(bool),
}

/// What the program has set.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ShownOptions {
    on: [bool; LIST.len()],
    /// A socket of its family has no such option.
    absent: [bool; LIST.len()],
    filters: bool,
}

impl ShownOptions {
    /// Reads them of a socket that still has them.
    pub(crate) fn of(fd: c_int) -> ShownOptions {
        let values = LIST.map(|(level, name)| sockopt::get_u32(fd, level, name));
        ShownOptions {
            on: values.map(|value| value.is_ok_and(|value| value != 0)),
            absent: values.map(|value| value.is_err()),
            filters: false,
        }
    }

    /// Whether others may bind to the same port.
    pub(crate) fn shares_port(&self) -> bool {
        self.on[REUSE_ADDRESS] || self.on[REUSE_PORT]
    }

    /// Turns off in the kernel what a receiving socket cannot have; the sharing of
    /// its port as well, where it has a port of its own.
    pub(crate) fn turn_off(&self, fd: c_int, own_port: bool) {
        for (at, (level, name)) in LIST.into_iter().enumerate() {
            if self.on[at] && (own_port || at > REUSE_PORT) {
                // A failure leaves what was there.
                let _ = sockopt::set_u32(fd, level, name, 0);
            }
        }
    }

    /// Turns on in the kernel what the program has set.
    pub(crate) fn turn_on(&self, fd: c_int) {
        for (at, (level, name)) in LIST.into_iter().enumerate() {
            if self.on[at] {
                let _ = sockopt::set_u32(fd, level, name, 1);
            }
        }
    }

    fn place(&self, level: c_int, name: c_int) -> Option<usize> {
        let at = LIST.iter().position(|known| *known == (level, name))?;
        (!self.absent[at]).then_some(at)
    }

    /// What reading an option gives; none: the kernel's answer.
    pub(crate) fn get(&self, level: c_int, name: c_int) -> Option<Shown> {
        if (level, name) == (libc::SOL_SOCKET, SO_GET_FILTER) {
            return Some(Shown::Nothing);
        }
        Some(Shown::Word(self.on[self.place(level, name)?]))
    }

    /// The program sets one; none where it is the kernel's.
    pub(crate) fn set(
        &mut self,
        level: c_int,
        name: c_int,
        value: &[u8],
    ) -> Option<Result<(), c_int>> {
        if level == libc::SOL_SOCKET {
            if let Some(outcome) = self.set_filter(name) {
                return Some(outcome);
            }
        }
        let at = self.place(level, name)?;
        let word = value.get(..4).and_then(|word| word.try_into().ok());
        let on = match (word.map(u32::from_ne_bytes), value.first()) {
            (Some(word), _) => word != 0,
            // do_ip_setsockopt takes a byte, the others do not.
            (None, Some(byte)) if level == libc::SOL_IP => *byte != 0,
            _ => return Some(Err(libc::EINVAL)),
        };
        self.on[at] = on;
        Some(Ok(()))
    }

    fn set_filter(&mut self, name: c_int) -> Option<Result<(), c_int>> {
        if ATTACHING.contains(&name) {
            if !self.filters {
                log::warn!("a receiving socket's program attaches a filter: without effect");
            }
            self.filters = true;
            return Some(Ok(()));
        }
        match name {
            libc::SO_DETACH_FILTER | SO_DETACH_REUSEPORT_BPF => {
                let had = std::mem::take(&mut self.filters);
                Some(if had { Ok(()) } else { Err(libc::ENOENT) })
            }
            libc::SO_LOCK_FILTER => Some(Ok(())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_and_other_options_are_the_kernels() {
        let mut shown = ShownOptions::default();
        let (socket, one) = (libc::SOL_SOCKET, 1_u32.to_ne_bytes());
        assert_eq!(shown.set(socket, libc::SO_REUSEADDR, &one), Some(Ok(())));
        assert_eq!(
            shown.get(socket, libc::SO_REUSEADDR),
            Some(Shown::Word(true))
        );
        assert_eq!(
            shown.get(socket, libc::SO_REUSEPORT),
            Some(Shown::Word(false))
        );
        assert_eq!(shown.set(socket, libc::SO_REUSEADDR, &[0; 4]), Some(Ok(())));
        assert!(!shown.shares_port());
        let short = shown.set(socket, libc::SO_REUSEADDR, &[1]);
        assert_eq!(short, Some(Err(libc::EINVAL)));
        assert_eq!(
            shown.set(libc::SOL_IP, libc::IP_RECVERR, &[1]),
            Some(Ok(()))
        );
        assert_eq!(
            shown.get(libc::SOL_IP, libc::IP_RECVERR),
            Some(Shown::Word(true))
        );
        assert_eq!(shown.set(socket, libc::SO_RCVBUF, &one), None);
        assert_eq!(shown.get(socket, libc::SO_RCVBUF), None);
    }

    #[test]
    fn an_option_of_the_other_family_is_the_kernels_to_refuse() {
        // Of no socket at all every option is absent.
        let mut shown = ShownOptions::of(-1);
        let (ipv6, one) = (libc::SOL_IPV6, 1_u32.to_ne_bytes());
        assert_eq!(shown.set(ipv6, libc::IPV6_RECVERR, &one), None);
        assert_eq!(shown.get(ipv6, libc::IPV6_RECVERR), None);
    }

    #[test]
    fn filters_come_and_go_without_effect() {
        let mut shown = ShownOptions::default();
        let socket = libc::SOL_SOCKET;
        let detach = libc::SO_DETACH_FILTER;
        assert_eq!(shown.set(socket, detach, &[0; 4]), Some(Err(libc::ENOENT)));
        let attach = libc::SO_ATTACH_FILTER;
        assert_eq!(shown.set(socket, attach, &[0; 16]), Some(Ok(())));
        assert_eq!(shown.set(socket, detach, &[0; 4]), Some(Ok(())));
        assert_eq!(shown.set(socket, detach, &[0; 4]), Some(Err(libc::ENOENT)));
    }
}
