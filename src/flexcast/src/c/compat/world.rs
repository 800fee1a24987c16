//! The rules that sockets are looked up in, and which addresses are this host's.
//!
//! Promises: settings are the preload library's, read once, at the first connect or
//! listen; wrong ones are said in one line on standard error, and nothing is mapped then.
//! Is not what a rule means (`rules`).

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::OnceLock;

use flexcast_rules::{ReceivePath, Settings};
use flexcast_runtime::kernel::local_addresses;
use flexcast_runtime::receive::Path;

use crate::process;

/// None inside: nothing is mapped.
static SETTINGS: OnceLock<Option<Settings>> = OnceLock::new();

/// The settings, where they map something.
pub(super) fn settings() -> Option<&'static Settings> {
    if let Some(known) = SETTINGS.get() {
        return known.as_ref();
    }
    let (settings, fault) = match read() {
        Ok(settings) => (Some(settings).filter(|read| !read.map().is_empty()), None),
        Err(fault) => (None, Some(fault)),
    };
    // Another thread may have been quicker: then it has said it.
    if SETTINGS.set(settings).is_ok() {
        if let Some(fault) = fault {
            let line = format!("flexcast: {fault}; nothing is mapped in this process\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
    let settings = SETTINGS.get()?.as_ref()?;
    let path = match settings.path() {
        None => Path::Auto,
        Some(ReceivePath::Kernel) => Path::Kernel,
        Some(ReceivePath::User) => Path::User,
    };
    process::configure(settings.port(), path);
    Some(settings)
}

fn read() -> Result<Settings, String> {
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        // What is not UTF-8 is replaced, and refused where it matters.
        let name = name.to_string_lossy().into_owned();
        let ours = name.starts_with("FLEXCAST_");
        ours.then(|| (name, value.to_string_lossy().into_owned()))
    });
    Settings::load(ours, |path| std::fs::read(path))
}

/// This host's addresses.
pub(super) struct Here {
    /// Of its interfaces.
    pub(super) interfaces: Vec<IpAddr>,
    told: &'static [IpAddr],
}

impl Here {
    pub(super) fn of(settings: &'static Settings) -> Here {
        let mut interfaces = local_addresses().unwrap_or_default();
        interfaces.iter_mut().for_each(|ip| *ip = ip.to_canonical());
        let told = settings.own_addresses();
        Here { interfaces, told }
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.told.contains(&address) || self.interfaces.contains(&address)
    }
}
