//! Socket addresses between Rust and the kernel.
//!
//! Promises: exact bytes of `sockaddr_in` and `sockaddr_in6` without unsafe code;
//! an IPv6 socket reaches IPv4 by `::ffff:a.b.c.d`, and what it hears from there is
//! shown as IPv4. Is not: name resolution.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::Errno;

/// The address family of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`; unless `IPV6_V6ONLY` is set it speaks IPv4 too.
    V6,
}

impl Family {
    /// The family in which `address` is at home; a v4-mapped one is IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match canonical(address) {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// `AF_INET` or `AF_INET6`.
    #[must_use]
    pub fn domain(self) -> i32 {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }

    /// The loopback address of this family.
    #[must_use]
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }

    /// The unspecified address of this family.
    #[must_use]
    pub fn any(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// `address` with v4-mapped ones shown as IPv4.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// `address` with v4-mapped ones shown as IPv4.
#[must_use]
pub fn canonical_socket(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// A `sockaddr_in` or `sockaddr_in6`, with its length.
///
/// ```text
/// v4 | family 2 (host order) | port 2 | address 4 | zero 8 |
/// v6 | family 2 (host order) | port 2 | flow 4 | address 16 | scope 4 (host order) |
/// ```
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawAddress {
    pub(crate) bytes: [u8; RawAddress::CAPACITY],
    pub(crate) length: u32,
}

impl RawAddress {
    pub(crate) const CAPACITY: usize = 28;
    const V4_LENGTH: u32 = 16;
    const V6_LENGTH: u32 = 28;

    /// Room for an address that the kernel writes.
    pub(crate) fn empty() -> Self {
        Self {
            bytes: [0; Self::CAPACITY],
            length: Self::V6_LENGTH,
        }
    }

    /// `address` as a socket of `family` takes it; `EAFNOSUPPORT` for an IPv6
    /// address on an IPv4 socket.
    pub(crate) fn encode(address: SocketAddr, family: Family) -> Result<Self, Errno> {
        match (canonical_socket(address), family) {
            (SocketAddr::V4(v4), Family::V4) => Ok(Self::from_v4(v4)),
            (SocketAddr::V4(v4), Family::V6) => {
                let mapped = v4.ip().to_ipv6_mapped();
                Ok(Self::from_v6(SocketAddrV6::new(mapped, v4.port(), 0, 0)))
            }
            (SocketAddr::V6(v6), Family::V6) => Ok(Self::from_v6(v6)),
            (SocketAddr::V6(_), Family::V4) => Err(Errno::EAFNOSUPPORT),
        }
    }

    fn from_v4(address: SocketAddrV4) -> Self {
        let mut bytes = [0; Self::CAPACITY];
        bytes[0..2].copy_from_slice(&domain_bytes(libc::AF_INET));
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&address.ip().octets());
        Self {
            bytes,
            length: Self::V4_LENGTH,
        }
    }

    fn from_v6(address: SocketAddrV6) -> Self {
        let mut bytes = [0; Self::CAPACITY];
        bytes[0..2].copy_from_slice(&domain_bytes(libc::AF_INET6));
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
        bytes[8..24].copy_from_slice(&address.ip().octets());
        bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
        Self {
            bytes,
            length: Self::V6_LENGTH,
        }
    }

    /// The address exactly as the kernel wrote it; none for other families.
    pub(crate) fn decode(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let family = i32::from(u16::from_ne_bytes(field(bytes, 0)));
        let port = u16::from_be_bytes(field(bytes, 2));
        if family == libc::AF_INET && self.length >= Self::V4_LENGTH {
            let ip = Ipv4Addr::from(field::<4>(bytes, 4));
            return Some(SocketAddr::V4(SocketAddrV4::new(ip, port)));
        }
        if family == libc::AF_INET6 && self.length >= Self::V6_LENGTH {
            let ip = Ipv6Addr::from(field::<16>(bytes, 8));
            let flow = u32::from_be_bytes(field(bytes, 4));
            let scope = u32::from_ne_bytes(field(bytes, 24));
            return Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope)));
        }
        None
    }
}

fn domain_bytes(domain: i32) -> [u8; 2] {
    u16::try_from(domain).unwrap_or_default().to_ne_bytes()
}

/// `N` bytes of `bytes` from `at` on; zeros where there are fewer.
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..at + N)
        .and_then(|slice| slice.try_into().ok())
        .unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_the_kernel_and_back() {
        for text in ["10.1.2.3:7450", "[2001:db8::7]:5000", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            let family = Family::of(address.ip());
            let raw = RawAddress::encode(address, family).unwrap();
            assert_eq!(raw.decode(), Some(address), "{text}");
        }
    }

    #[test]
    fn an_ipv6_socket_reaches_ipv4_by_its_mapped_address() {
        let address: SocketAddr = "10.1.2.3:7450".parse().unwrap();
        let raw = RawAddress::encode(address, Family::V6).unwrap();
        assert_eq!(
            raw.decode(),
            Some("[::ffff:10.1.2.3]:7450".parse().unwrap())
        );
        assert_eq!(raw.decode().map(canonical_socket), Some(address));
        let six: SocketAddr = "[2001:db8::7]:1".parse().unwrap();
        assert_eq!(
            RawAddress::encode(six, Family::V4).err(),
            Some(Errno::EAFNOSUPPORT)
        );
    }
}
