//! The door to the kernel: datagrams, many at a time.
//!
//! Promises: a safe API over raw system calls, so that all other rooms can forbid
//! unsafe code. Every call goes to the kernel by number, by an instruction of our
//! own: no libc wrapper, no `std::net`, no `std::fs`. So nothing here meets the
//! hooks of a preload library (libc's `syscall` may be hooked too), nothing here
//! touches `errno`, and nothing here is a cancellation point. Every descriptor is
//! close-on-exec, every socket non-blocking.
//! Is not: the protocol. Magic words, ports and tokens come in as arguments.
#![deny(unsafe_op_in_unsafe_fn)]

mod address;
mod ancillary;
pub mod batch;
mod errno;
pub mod error_queue;
pub mod fan_out;
mod fd;
pub mod filter;
pub mod icmp;
mod multicast;
pub mod process;
pub mod raw;
mod refusal;
#[cfg(test)]
mod sandbox;
pub mod selftest;
mod socket;
pub mod sockopt;
mod towards;
pub mod unix;

pub use address::{canonical, canonical_socket, Family};
pub use batch::{recv_one, recv_parts, send_one, Class, ReceiveBatch, Received, SendBatch};
pub use errno::Errno;
pub use fan_out::{FanOut, Target};
pub use fd::{is_live, replace, Fd};
pub use filter::Program;
pub use refusal::refuse;
pub use socket::UdpSocket;
pub use towards::local_address_towards;
