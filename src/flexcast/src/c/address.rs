//! Channels as C programs write them.
//!
//! ```text
//! struct flexcast_channel     ip 4 (network order) | padding 4 | id 8 (host order)
//! struct flexcast_channel6    ip 16                | id 8
//! ```
//! Promises: any other length is EINVAL. Is not a `sockaddr`, but for FLEXCAST_VIA.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use flexcast_runtime::kernel::Family;
use flexcast_runtime::Errno;
use flexcast_wire::{Channel, ChannelId};

use crate::Binding;

const V4: usize = 16;
const V6: usize = 24;

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(there) = bytes.get(at..at + N) {
        out.copy_from_slice(there);
    }
    out
}

fn read(bytes: &[u8]) -> Result<(IpAddr, u64), Errno> {
    match bytes.len() {
        V4 => Ok((
            IpAddr::V4(Ipv4Addr::from(field::<4>(bytes, 0))),
            u64::from_ne_bytes(field(bytes, 8)),
        )),
        V6 => Ok((
            IpAddr::V6(Ipv6Addr::from(field::<16>(bytes, 0))).to_canonical(),
            u64::from_ne_bytes(field(bytes, 16)),
        )),
        _ => Err(Errno::EINVAL),
    }
}

/// What is asked for: a sender and an id.
pub(super) fn channel(bytes: &[u8]) -> Result<Channel, Errno> {
    let (ip, id) = read(bytes)?;
    let id = ChannelId::new(id).ok_or(Errno::EINVAL)?;
    Ok(Channel::new(ip, id))
}

/// What is bound: any address, any id among them.
pub(super) fn binding(bytes: &[u8]) -> Result<Binding, Errno> {
    let (ip, id) = read(bytes)?;
    Ok(Binding {
        sender: (!ip.is_unspecified()).then_some(ip),
        id: ChannelId::new(id),
    })
}

/// How long a channel of this family is.
pub(super) fn length(family: Family) -> usize {
    match family {
        Family::V4 => V4,
        Family::V6 => V6,
    }
}

/// As a socket of this family shows it.
pub(super) fn write(binding: Binding, family: Family) -> Vec<u8> {
    let ip = binding.sender.unwrap_or(family.any());
    let id = binding.id.map_or(0, ChannelId::get).to_ne_bytes();
    match (family, ip) {
        (Family::V4, IpAddr::V4(v4)) => [&v4.octets()[..], &[0; 4], &id].concat(),
        // An AF_INET socket has no IPv6 channels.
        (Family::V4, IpAddr::V6(_)) => [&[0; 8][..], &id].concat(),
        (Family::V6, IpAddr::V4(v4)) => [&v4.to_ipv6_mapped().octets()[..], &id].concat(),
        (Family::V6, IpAddr::V6(v6)) => [&v6.octets()[..], &id].concat(),
    }
}

/// A `sockaddr_in` or `sockaddr_in6`.
pub(super) fn read_socket(bytes: &[u8]) -> Result<SocketAddr, Errno> {
    let family = i32::from(u16::from_ne_bytes(field(bytes, 0)));
    let port = u16::from_be_bytes(field(bytes, 2));
    match (family, bytes.len()) {
        (libc::AF_INET, 16..) => {
            let ip = Ipv4Addr::from(field::<4>(bytes, 4));
            Ok(SocketAddr::new(ip.into(), port))
        }
        (libc::AF_INET6, 28..) => {
            let ip = Ipv6Addr::from(field::<16>(bytes, 8));
            let scope = u32::from_ne_bytes(field(bytes, 24));
            Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)))
        }
        (libc::AF_INET | libc::AF_INET6, _) => Err(Errno::EINVAL),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// The same, written.
pub(super) fn write_socket(address: SocketAddr, into: &mut [u8]) {
    let bytes = match address {
        SocketAddr::V4(v4) => {
            let family = u16::try_from(libc::AF_INET).unwrap_or(0).to_ne_bytes();
            let port = v4.port().to_be_bytes();
            [&family[..], &port, &v4.ip().octets(), &[0; 8]].concat()
        }
        SocketAddr::V6(v6) => {
            let family = u16::try_from(libc::AF_INET6).unwrap_or(0).to_ne_bytes();
            let port = v6.port().to_be_bytes();
            let scope = v6.scope_id().to_ne_bytes();
            [&family[..], &port, &[0; 4], &v6.ip().octets(), &scope].concat()
        }
    };
    for (to, from) in into.iter_mut().zip(bytes) {
        *to = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (text, family) in [
            ("10.0.0.1#5", Family::V4),
            ("10.0.0.1#5", Family::V6),
            ("2001:db8::1#18446744073709551615", Family::V6),
        ] {
            let wanted: Channel = text.parse().unwrap();
            let bytes = write(wanted.into(), family);
            assert_eq!(bytes.len(), length(family));
            assert_eq!(channel(&bytes), Ok(wanted));
            assert_eq!(binding(&bytes), Ok(wanted.into()));
        }
        for family in [Family::V4, Family::V6] {
            let bytes = write(Binding::ANY, family);
            assert_eq!(binding(&bytes), Ok(Binding::ANY));
            assert_eq!(channel(&bytes), Err(Errno::EINVAL), "0 is only ever bound");
        }
        assert_eq!(channel(&[0; 17]), Err(Errno::EINVAL));
        for text in ["10.0.0.1:7", "[fe80::1%3]:9"] {
            let wanted: SocketAddr = text.parse().unwrap();
            let mut bytes = [0; 28];
            write_socket(wanted, &mut bytes);
            assert_eq!(read_socket(&bytes), Ok(wanted));
        }
        assert_eq!(read_socket(&[0; 16]), Err(Errno::EAFNOSUPPORT));
    }
}
