//! The Flexcast protocol engine: what to do, never how.
//!
//! Tables, timers and verdicts of requesters, senders and relays. Promises: no
//! clock, no socket, no randomness of its own (time and entropy are arguments);
//! a packet never panics it; every table has a limit and an expiry. Is not: I/O
//! (crate `runtime`), bytes (crate `wire`).
//!
//! ```text
//! Requester ──asks──►  Gate ► Audience      one node: a sender, or a relay,
//!    ▲                        │             which is an audience glued to a
//!    └───── Relay glues ──────┘             requester
//! ```
#![forbid(unsafe_code)]

mod admission;
mod audience;
mod channel_state;
mod cookie;
mod entropy;
mod entry;
mod fan;
mod gate;
mod outbox;
mod parent;
mod relay;
mod requester;
mod sender;
mod settings;
mod time;
mod upward;
mod window;

pub use admission::Question;
pub use audience::{Audience, EntryRecord};
pub use channel_state::{ChannelState, ChannelSummary, RequesterSummary};
pub use cookie::CookieJar;
pub use entropy::Entropy;
pub use fan::{Fan, Target, Window};
pub use gate::{Counters, Gate};
pub use outbox::{Letter, Outbox, Route};
pub use parent::Parent;
pub use relay::{Above, Order, Relay, RelayReport};
pub use requester::{Requester, RequesterEvent};
pub use sender::Sender;
pub use settings::{NodeSettings, RequesterSettings};
pub use time::Time;
pub use window::{DuplicateWindow, Fresh};
