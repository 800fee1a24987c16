//! A program that a test started, ended and reaped at the latest when dropped.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts it.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command) -> Process {
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let name = name.to_owned();
        Process { name, child }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// Where it has not ended after `limit`.
    pub fn await_end(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} still runs after {limit:?}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it by SIGKILL, and reaps it.
    pub fn kill(&mut self) {
        // It may have ended by itself: that is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
