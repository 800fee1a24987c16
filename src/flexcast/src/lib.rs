//! The native library: sockets whose address is a channel.
//!
//! ```text
//!   receiver   Socket::new ─ connect(S, id) ──────────► recv, recv … End
//!   sender     Socket::new ─ bind ─ listen ─ accept ──► send, send … EPIPE, accept
//! ```
//! The shape is that of BSD sockets, with a channel (S, id) in place of an address. A
//! sender need not know who comes and goes: a datagram that it sends reaches everybody
//! who asks for the channel, once, and relays on the way see to it that each link
//! carries one copy.
//!
//! ```no_run
//! use flexcast::{Family, Received, Socket};
//!
//! # fn main() -> std::io::Result<()> {
//! let socket = Socket::new(Family::V4)?;
//! socket.connect("10.0.0.5#5000".parse().unwrap())?;
//! let mut buffer = [0; 2048];
//! while let Received::Datagram(length) = socket.recv(&mut buffer)? {
//!     println!("{} bytes", length.min(buffer.len()));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Promises: descriptors are the kernel's own UDP sockets: poll, select, epoll,
//! O_NONBLOCK, SO_RCVTIMEO and close-on-exec mean what they mean there; any thread may
//! use any socket at any time; no lock is held while a call waits; no signal is raised.
//! After a fork, parent and child hold a receiving socket, or an accepted one, together,
//! and its stream goes on until the last of them closes it.
//! Is not: reliable delivery, congestion control, nor encryption. Plain read(2) and
//! write(2) on these descriptors are not what is meant: datagrams carry a trailer.
//!
//! Environment: `FLEXCAST_PORT`, the port of requests (7450), the same in a whole
//! network; `FLEXCAST_PATH`, `kernel` or `user`, forces the way that streams take to
//! a receiver (by default the kernel's, wherever it works).

mod binding;
mod c;
mod endpoint;
mod life;
mod options;
mod outlet;
mod process;
mod requester;
mod socket;
mod stats;

pub use binding::Binding;
pub use endpoint::Received;
pub use flexcast_runtime::kernel::Family;
pub use flexcast_runtime::send::Applicant;
pub use flexcast_runtime::Errno;
pub use flexcast_wire::{Channel, ChannelId, Credential, NodeId, FLEXCAST_PORT};
pub use options::Options;
pub use requester::Requester;
pub use socket::Socket;
pub use stats::Stats;
