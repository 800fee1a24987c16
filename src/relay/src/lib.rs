//! The relay: stands on the way, catches requests that are not addressed to it,
//! asks upstream in their stead, and passes the stream down unchanged, with the
//! sender's own source address.
//!
//! Promises: a relay is never worse than none (a stopped or killed one captures
//! nothing); nobody's error holds up others. Is not the protocol (crate `engine`).
#![forbid(unsafe_code)]

pub mod capture;
mod complaints;
mod downstream;
mod error;
mod forward;
mod narrow;
mod onward;
mod service;
mod settings;
mod status;
mod strangers;
mod upstream;
mod watch;

pub use error::ServiceError;
pub use service::Service;
pub use settings::Settings;
pub use status::{ask_status, ChannelLine, RequesterLine, StatusError, StatusReport};
