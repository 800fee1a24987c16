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

mod background;
pub mod receive;
pub mod send;

pub use background::now;
