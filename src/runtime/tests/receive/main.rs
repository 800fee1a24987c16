//! Receiving sockets beside a real node: the engine's sender on a real FP socket.
//!
//! Promises: D is read by plain std calls, as a program would; what must not come is
//! shown not to come only where something else just came. Traffic stays on loopback,
//! on ports that the kernel chose. Is not the relay, nor the sending half.

mod both_paths;
mod calls;
mod cost;
mod kernel_path;
mod life;
mod node;
mod processes;
mod room;
