//! What a process asks of the kernel about itself: descriptors, signals, clocks,
//! readiness, addresses.
//!
//! Promises: raw calls only, fit for a thread inside somebody else's process.
//! Is not: a process manager.

mod clock;
mod descriptors;
mod diagnosis;
mod files;
mod identity;
mod netlink;
mod network;
mod readiness;
mod signals;

pub use clock::{boottime_us, realtime_us, sleep_us, thread_cpu_ns};
pub use descriptors::{pidfd_getfd, pidfd_open, pidfd_open_thread, private_descriptors};
pub use diagnosis::udp_sockets;
pub use files::{count_entries, list_entries, read_file, read_link};
pub use identity::{capabilities, pid, random_fill, random_u64, tid, uid, Capabilities};
pub use netlink::{interface_of, is_local, local_addresses};
pub use network::{interface_index, interfaces, own_network, Interface};
pub use readiness::{poll, Epoll, Event, EventFd, Events, Interest, PollFd};
pub use signals::{block_signals, restore_signals, SignalFd, SignalMask, SIGINT, SIGTERM};

#[cfg(test)]
mod tests;
