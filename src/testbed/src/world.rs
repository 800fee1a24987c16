//! The world of one test: the test binary run again, for that test alone, as
//! root of a user, network and mount namespace of its own.

use std::cell::Cell;
use std::process::Command;

use crate::host::{ip, Host};

/// Tells the second run from the first.
const INSIDE: &str = "TESTBED_WORLD";

/// A namespace of the test's own, in which hosts are made.
#[derive(Debug)]
pub struct World {
    links: Cell<u32>,
}

impl World {
    /// Enters the world of the test with this full name (as `cargo test` prints
    /// it). In the outer run, runs the test once more inside and gives none:
    /// the test then returns. In the inner run, gives the world.
    ///
    /// # Panics
    /// Where the inner run fails, with what it said; or runs no test at all.
    #[must_use]
    pub fn enter(test: &str) -> Option<World> {
        if std::env::var_os(INSIDE).is_some() {
            ip(None, &["link", "set", "lo", "up"]);
            let links = Cell::new(0);
            return Some(World { links });
        }
        let binary = std::env::current_exe().expect("the test binary has a path");
        let output = Command::new("unshare")
            .args(["-Urnm", "--"])
            .arg(binary)
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .output()
            .expect("unshare (util-linux) is installed");
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "inside: {out}\n{err}");
        assert!(out.contains("1 passed"), "no test is called {test}: {out}");
        None
    }

    /// A host: a network namespace below this world, loopback up.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        Host::new(name)
    }

    /// A veth link between two hosts, up, each end with its address
    /// (`10.0.0.1/24`, `2001:db8::1/64`). Gives the interfaces' names.
    pub fn link(&self, one: (&Host, &str), other: (&Host, &str)) -> (String, String) {
        let n = self.links.get();
        self.links.set(n + 1);
        let names = (format!("v{n}a"), format!("v{n}b"));
        let (a, b) = (names.0.as_str(), names.1.as_str());
        ip(None, &["link", "add", a, "type", "veth", "peer", "name", b]);
        for (name, (host, address)) in [(a, one), (b, other)] {
            ip(
                None,
                &["link", "set", name, "netns", &host.pid().to_string()],
            );
            // nodad: no second of waiting until an IPv6 address can be used.
            if address.contains(':') {
                host.ip(&["address", "add", address, "dev", name, "nodad"]);
            } else {
                host.ip(&["address", "add", address, "dev", name]);
            }
            host.ip(&["link", "set", name, "up"]);
        }
        names
    }
}
