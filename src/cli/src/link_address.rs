//! An address on the local link, as options name it: `ADDRESS:PORT[%INTERFACE]`.
//!
//! Promises: what is wrong is named with what would be right. Is not a channel, nor
//! anything that the map takes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use flexcast_udp::process::interface_index;

/// Where plain UDP comes from or goes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LinkAddress {
    pub(crate) at: SocketAddr,
    /// Its name; none: the route's.
    interface: Option<String>,
}

impl LinkAddress {
    /// Whether it is a group.
    pub(crate) fn is_group(&self) -> bool {
        self.at.ip().is_multicast()
    }

    /// The interface's number, 0 where none is named.
    pub(crate) fn interface(&self) -> Result<u32, String> {
        match &self.interface {
            None => Ok(0),
            Some(name) => interface_index(name)
                .map_err(|errno| format!("interface {name}: {errno}; see `ip link`")),
        }
    }
}

impl FromStr for LinkAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<LinkAddress, String> {
        let (place, interface) = match text.split_once('%') {
            Some((place, name)) if !name.is_empty() => (place, Some(name.to_owned())),
            Some(_) => return Err("the interface after % is missing".to_owned()),
            None => (text, None),
        };
        let any = |port: &str| {
            let port = port.parse().ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        };
        let at = match place.strip_prefix(':') {
            Some(port) => any(port),
            None => place.parse().ok(),
        };
        match at {
            Some(at) if at.port() != 0 => Ok(LinkAddress { at, interface }),
            _ => Err(format!(
                "expected ADDRESS:PORT, as 239.1.1.4:5000, 239.1.1.4:5000%eth0, \
                 [ff15::1]:5000 or 127.0.0.1:5000, not {place:?}"
            )),
        }
    }
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(name) => write!(f, "{}%{name}", self.at),
            None => write!(f, "{}", self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in ["239.1.1.4:5000", "[ff15::1]:5000%eth0", "127.0.0.1:1"] {
            let read: LinkAddress = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        let any: LinkAddress = ":5000".parse().unwrap();
        assert_eq!(any.to_string(), "0.0.0.0:5000");
        assert!(any.interface() == Ok(0) && !any.is_group());
        let lo: LinkAddress = "239.1.1.4:5000%lo".parse().unwrap();
        assert!(lo.interface() == Ok(1) && lo.is_group());
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in ["239.1.1.4", "239.1.1.4:0", "eth0", ":x", "ff15::1:5000%"] {
            let error = text.parse::<LinkAddress>().unwrap_err();
            assert!(
                error.contains("expected") || error.contains("missing"),
                "{error}"
            );
        }
        let nowhere: LinkAddress = "239.1.1.4:5000%nowhere".parse().unwrap();
        assert!(nowhere.interface().unwrap_err().contains("nowhere"));
    }
}
