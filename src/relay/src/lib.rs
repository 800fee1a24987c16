//! The relay: stands on the way, catches requests that are not addressed to it,
//! asks upstream in their stead, and passes the stream down unchanged, with the
//! sender's own source address.
//!
//! Promises: a relay is never worse than none (a stopped or killed one captures
//! nothing); nobody's error holds up others. Is not the protocol (crate `engine`).
#![forbid(unsafe_code)]

pub mod capture;
mod downstream;
mod service;
mod settings;
mod status;
mod upstream;

pub use service::{Service, ServiceError};
pub use settings::Settings;
pub use status::{ask_status, ChannelLine, RequesterLine, StatusError, StatusReport};
