//! The functions that are exported, by what they do to a descriptor.
//!
//! Promises: the foreign path is one load and the real call. Is not where roles act:
//! hooks read arguments, ask `push` and `join`, and make the real call.

mod accepting;
mod lifecycle;
mod naming;
mod options;
mod reading;
mod receiving;
mod sending;
