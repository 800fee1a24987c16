//! Which address of this host the routing table would use to speak to another.
//! Is not a promise that anything gets there.

use std::net::{IpAddr, SocketAddr};

use crate::{Family, UdpSocket};

/// The discard port: connecting a UDP socket sends nothing, any port would do.
const DISCARD: u16 = 9;

/// The address of this host that `to` is spoken to from; none where there is no way.
#[must_use]
pub fn local_address_towards(to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::new(Family::of(to)).ok()?;
    socket.connect(SocketAddr::new(to, DISCARD)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_spoken_to_from_loopback() {
        for family in [Family::V4, Family::V6] {
            let loopback = family.loopback();
            assert_eq!(local_address_towards(loopback), Some(loopback));
        }
    }
}
