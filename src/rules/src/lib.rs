//! The map: text to rules, and an address to the channel and role it means.
//!
//! Promises: pure (no socket, no file, no clock, no name service); text that
//! is no rule is refused with its position, its value, what was expected and
//! the nearest thing that would have been right; what is printed reads back as
//! the same rule; both sides of a stream derive the same channel from the same
//! map. Is not: the hooks that act on the answers (crate `preload`), nor the
//! reader of files and environments (their callers).
//!
//! ```text
//! RULE    = RANGE [":" PORTS] ["=" SENDERS] ["#" ID] {"," OPTION}
//! RANGE   = address | prefix          10.0.0.5  239.1.0.0/16  [ff3e::8000:0]/96
//! PORTS   = port | from-to
//! SENDERS = address {"+" address} | "self"
//! OPTION  = via=HOST{+HOST} | empty=drop|error|wait[:N[:SECONDS]] | port=keep
//!         | role=push|join|call|listen|hello|wait|off | strict
//! ```
#![forbid(unsafe_code)]

mod channel_text;
mod collision;
mod config;
mod duration;
mod explain;
mod fault;
mod join;
mod load;
mod map;
mod nearest;
mod parse;
mod push;
mod range;
mod rule;
mod settings;
mod unicast;

pub use channel_text::{ChannelText, ChannelTextError, OwnChannel};
pub use collision::{collisions, Collision};
pub use config::{ConfigError, ConfigFault};
pub use explain::Explanation;
pub use fault::{Fault, RuleError};
pub use join::Join;
pub use map::{Map, Match};
pub use parse::Resolve;
pub use push::Push;
pub use range::{Family, Ports, Range};
pub use rule::{EmptyPolicy, Role, Rule, Senders};
pub use settings::{Log, LogLevel, ReceivePath, Settings, SettingsError};
pub use unicast::{Call, Serve, Wait};
