//! Socket addresses as the program's calls give and take them.
//!
//! Promises: exact `sockaddr_in` and `sockaddr_in6`, unaligned pointers included;
//! nothing is read beyond the length that the program gave, nothing written beyond
//! the room it left. Is not for other families: those are the kernel's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use libc::{sockaddr, socklen_t};

const V4_LENGTH: usize = 16;
const V6_LENGTH: usize = 28;

/// `AF_INET` or `AF_INET6`, as a program names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
}

impl Family {
    /// The family of a domain; none for others.
    pub(crate) fn of_domain(domain: i32) -> Option<Family> {
        match domain {
            libc::AF_INET => Some(Family::V4),
            libc::AF_INET6 => Some(Family::V6),
            _ => None,
        }
    }

    /// The unspecified address.
    pub(crate) fn any(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// A `sockaddr_in` or `sockaddr_in6` with its length, ready for the kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Name {
    bytes: [u8; V6_LENGTH],
    length: socklen_t,
}

impl Name {
    /// `address` as a socket of `family` writes it (IPv4 on an IPv6 socket is
    /// v4-mapped). An IPv6 address on an IPv4 socket stays what it is.
    pub(crate) fn new(address: SocketAddr, family: Family) -> Name {
        match (address, family) {
            (SocketAddr::V4(v4), Family::V6) => {
                let mapped = v4.ip().to_ipv6_mapped();
                Name::v6(SocketAddrV6::new(mapped, v4.port(), 0, 0))
            }
            (SocketAddr::V4(v4), Family::V4) => Name::v4(v4),
            (SocketAddr::V6(v6), _) => Name::v6(v6),
        }
    }

    fn v4(address: SocketAddrV4) -> Name {
        let mut bytes = [0; V6_LENGTH];
        bytes[0..2].copy_from_slice(&family_bytes(libc::AF_INET));
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&address.ip().octets());
        Name { bytes, length: 16 }
    }

    fn v6(address: SocketAddrV6) -> Name {
        let mut bytes = [0; V6_LENGTH];
        bytes[0..2].copy_from_slice(&family_bytes(libc::AF_INET6));
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
        bytes[8..24].copy_from_slice(&address.ip().octets());
        bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
        Name { bytes, length: 28 }
    }

    /// A pointer for the kernel, valid as long as this is where it is.
    pub(crate) fn as_ptr(&self) -> *const sockaddr {
        self.bytes.as_ptr().cast()
    }

    /// Its length.
    pub(crate) fn length(&self) -> socklen_t {
        self.length
    }

    /// Answers a call that asks for a name: as much as there is room for, and the
    /// full length. False where a pointer is null (EFAULT).
    ///
    /// # Safety
    /// `length` points to a length, and `to` to as many bytes, or either is null.
    pub(crate) unsafe fn give(&self, to: *mut sockaddr, length: *mut socklen_t) -> bool {
        if to.is_null() || length.is_null() {
            return false;
        }
        let room = length.read_unaligned() as usize;
        let count = room.min(self.length as usize);
        std::ptr::copy_nonoverlapping(self.bytes.as_ptr(), to.cast::<u8>(), count);
        length.write_unaligned(self.length);
        true
    }
}

/// The address family that `name` begins with; none where it is null or too short.
///
/// # Safety
/// `name` is null or points to `length` bytes.
pub(crate) unsafe fn family(name: *const sockaddr, length: socklen_t) -> Option<i32> {
    if name.is_null() || length < 2 {
        return None;
    }
    Some(i32::from(name.cast::<u16>().read_unaligned()))
}

/// The address; none where it is null, too short or of another family.
///
/// # Safety
/// `name` is null or points to `length` bytes.
pub(crate) unsafe fn read(name: *const sockaddr, length: socklen_t) -> Option<SocketAddr> {
    let length = length as usize;
    match family(name, socklen_t::try_from(length).unwrap_or(0))? {
        libc::AF_INET if length >= V4_LENGTH => {
            let bytes = name.cast::<[u8; V4_LENGTH]>().read_unaligned();
            let ip = Ipv4Addr::from(field::<4>(&bytes, 4));
            Some(SocketAddrV4::new(ip, u16::from_be_bytes(field(&bytes, 2))).into())
        }
        // The kernel takes 24 bytes, without the scope (SIN6_LEN_RFC2133).
        libc::AF_INET6 if length >= 24 => {
            let mut bytes = [0; V6_LENGTH];
            let count = length.min(V6_LENGTH);
            std::ptr::copy_nonoverlapping(name.cast::<u8>(), bytes.as_mut_ptr(), count);
            let ip = Ipv6Addr::from(field::<16>(&bytes, 8));
            let port = u16::from_be_bytes(field(&bytes, 2));
            let flow = u32::from_be_bytes(field(&bytes, 4));
            let scope = u32::from_ne_bytes(field(&bytes, 24));
            Some(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        _ => None,
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn family_bytes(domain: i32) -> [u8; 2] {
    u16::try_from(domain).unwrap_or(0).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        for text in ["10.1.2.3:5000", "[2001:db8::1]:7", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            let name = Name::new(address, Family::V6);
            // SAFETY: the name is alive and as long as it says.
            let read = unsafe { read(name.as_ptr(), name.length()) }.unwrap();
            assert_eq!(read.ip().to_canonical(), address.ip(), "{text}");
            assert_eq!(read.port(), address.port(), "{text}");
        }
    }

    #[test]
    fn a_short_room_gets_what_fits_and_the_full_length() {
        let name = Name::new("10.1.2.3:5000".parse().unwrap(), Family::V4);
        let (mut room, mut length) = ([0_u8; 16], 4);
        // SAFETY: there is room for the 4 bytes that `length` says.
        assert!(unsafe { name.give(room.as_mut_ptr().cast(), &raw mut length) });
        assert_eq!(length, 16);
        assert_eq!(room[2..8], [0x13, 0x88, 0, 0, 0, 0]);
    }
}
