//! Namespaces, links and processes for tests of this workspace.
//!
//! Promises: everything happens in user and network namespaces of the test's
//! own (no privilege needed), and everything started is ended and reaped when
//! its value is dropped. Is not for anything but tests, and no network but
//! veth pairs. Leans on the programs `unshare`, `nsenter`, `ip` and `sleep`.
//!
//! ```text
//! #[test]
//! fn packets_cross_a_link() {
//!     let Some(world) = World::enter("packets_cross_a_link") else { return };
//!     let (a, b) = (world.host("a"), world.host("b"));
//!     world.link((&a, "10.0.0.1/24"), (&b, "10.0.0.2/24"));
//!     …
//! }
//! ```
#![forbid(unsafe_code)]

mod host;
mod process;
mod world;

pub use host::Host;
pub use process::Process;
pub use world::World;
