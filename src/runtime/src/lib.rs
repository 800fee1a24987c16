//! An engine at work on this machine: the only room where protocol and kernel meet.
//!
//! ```text
//!   receive   a socket of the application's that gets streams: its control socket,
//!             filters, and the thread that asks (`ReceivingSocket`)
//!   send      channels of this process: the socket they leave from, who answers
//!             requests on FP, and the audience (`SendingChannel`)
//!   native    a receiver that reads for itself: sequences, losses, duplicates
//! ```
//! Promises: no libc socket call is made (the preload library hooks them), nothing
//! is started before it is needed, background threads hold their descriptors in
//! tables of their own. Is not the protocol (`engine`) nor the system calls (`udp`).
#![forbid(unsafe_code)]

mod across_forks;
mod background;
mod keeper;
pub mod native;
mod per_process;
pub mod receive;
pub mod send;

pub use across_forks::{forks, AcrossForks, Forked};
pub use background::now;

pub use flexcast_engine::{NodeSettings, RequesterSettings, RequesterSummary};
pub use flexcast_udp::filter::Untrailed;
pub use flexcast_udp::Errno;

/// What a guest in somebody else's process (the preload library) may use of the
/// door to the kernel: single calls by number, which meet no hook.
pub mod kernel {
    pub use flexcast_udp::process::udp_sockets;
    pub use flexcast_udp::process::{
        boottime_us, interface_of, list_entries, local_addresses, pid, read_file, read_link,
        sleep_us,
    };
    pub use flexcast_udp::{raw, recv_parts, sockopt, Family, Fd, UdpSocket};
}
