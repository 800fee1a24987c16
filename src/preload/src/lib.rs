//! libflexcast_preload.so: what unmodified programs load to push to, join and
//! call channels of Flexcast by the socket calls that they make anyway.
//!
//! ```text
//!   program ── hooks/* ── foreign: one relaxed load (marks), then the real function
//!                  │
//!                  └── ours: table → Socket ─┬─ push: this host is the sender
//!                                            ├─ listen: it sends to whoever asks
//!                                            ├─ join: this host receives
//!                                            └─ call: and talks to the sender
//! ```
//! Promises, as a guest in somebody else's process: nothing is printed (but one
//! line on standard error where the settings are wrong), `errno` changes only on
//! failure, no panic gets out, nothing starts before the first mapped use, and what
//! no rule matches is the kernel's as ever. Exports the hooks and nothing else.
//! Is not the protocol: that is `runtime`'s, and below it.

mod call;
mod environment;
mod errno;
mod guard;
mod hook;
mod hooks;
mod join;
mod life;
mod listen;
mod log;
mod marks;
mod name;
mod push;
mod real;
mod socket;
mod table;
mod world;
