//! Cookies: a keyed MAC that proves that a requester receives at its address.
//!
//! SipHash-2-4-128 over address, port, nonce and channel under a secret that is
//! replaced every 2 minutes; the previous secret is accepted. The secret's age
//! is the "coarse time" of the protocol: no cookie lives over 4 minutes.
//! Compared in constant time. Is not state per requester: that is the point.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_wire::{Channel, Cookie, Nonce};
use siphasher::sip128::{Hasher128, SipHasher24};
use subtle::ConstantTimeEq;

use crate::time::ms;
use crate::{Entropy, Time};

const ROTATION: Duration = ms(120_000);

/// The two secrets.
#[derive(Debug)]
pub struct CookieJar {
    current: [u8; 16],
    previous: [u8; 16],
    rotated: Time,
}

impl CookieJar {
    /// Fresh secrets.
    pub fn new(now: Time, entropy: &mut Entropy) -> CookieJar {
        CookieJar {
            current: entropy.key(),
            previous: entropy.key(),
            rotated: now,
        }
    }

    /// Replaces secrets that are 2 minutes old; to be called before use.
    pub fn rotate(&mut self, now: Time, entropy: &mut Entropy) {
        let age = now.since(self.rotated);
        if age < ROTATION {
            return;
        }
        self.previous = if age < ROTATION * 2 {
            self.current
        } else {
            entropy.key()
        };
        self.current = entropy.key();
        self.rotated = now;
    }

    /// The cookie for this requester.
    #[must_use]
    pub fn bake(&self, from: SocketAddr, nonce: Nonce, channel: &Channel) -> Cookie {
        mac(&self.current, from, nonce, channel)
    }

    /// Whether we baked this cookie for this requester lately.
    #[must_use]
    pub fn fits(&self, cookie: &Cookie, from: SocketAddr, nonce: Nonce, channel: &Channel) -> bool {
        let current = mac(&self.current, from, nonce, channel).ct_eq(cookie);
        if current.into() {
            return true;
        }
        mac(&self.previous, from, nonce, channel)
            .ct_eq(cookie)
            .into()
    }
}

fn mac(key: &[u8; 16], from: SocketAddr, nonce: Nonce, channel: &Channel) -> Cookie {
    let mut bytes = [0u8; 50];
    bytes[..16].copy_from_slice(&octets(from.ip()));
    bytes[16..18].copy_from_slice(&from.port().to_be_bytes());
    bytes[18..26].copy_from_slice(&nonce.0.to_be_bytes());
    bytes[26..42].copy_from_slice(&octets(channel.sender));
    bytes[42..].copy_from_slice(&channel.id.get().to_be_bytes());
    let mut hash = SipHasher24::new_with_key(key);
    hash.write(&bytes);
    hash.finish128().as_bytes()
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(now: Time) -> (CookieJar, Entropy) {
        let mut n = 7u64;
        let mut entropy = Entropy::new(move || {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            n
        });
        (CookieJar::new(now, &mut entropy), entropy)
    }

    #[test]
    fn a_cookie_fits_only_what_it_was_baked_for() {
        let (jar, _) = jar(Time(0));
        let channel: Channel = "10.0.0.1#5".parse().unwrap();
        let from: SocketAddr = "10.0.0.2:99".parse().unwrap();
        let cookie = jar.bake(from, Nonce(1), &channel);
        assert!(jar.fits(&cookie, from, Nonce(1), &channel));
        assert!(!jar.fits(&cookie, from, Nonce(2), &channel));
        assert!(!jar.fits(&cookie, "10.0.0.2:98".parse().unwrap(), Nonce(1), &channel));
        assert!(!jar.fits(&cookie, from, Nonce(1), &"10.0.0.1#6".parse().unwrap()));
        assert!(!jar.fits(&[0; 16], from, Nonce(1), &channel));
    }

    #[test]
    fn a_cookie_lives_two_rotations_and_no_longer() {
        let (mut jar, mut entropy) = jar(Time(0));
        let channel: Channel = "10.0.0.1#5".parse().unwrap();
        let from: SocketAddr = "10.0.0.2:99".parse().unwrap();
        let cookie = jar.bake(from, Nonce(1), &channel);
        jar.rotate(Time(120_000_000), &mut entropy);
        assert!(jar.fits(&cookie, from, Nonce(1), &channel));
        jar.rotate(Time(239_999_999), &mut entropy);
        assert!(jar.fits(&cookie, from, Nonce(1), &channel));
        jar.rotate(Time(240_000_000), &mut entropy);
        assert!(!jar.fits(&cookie, from, Nonce(1), &channel));
    }

    #[test]
    fn after_a_long_silence_both_secrets_are_new() {
        let (mut jar, mut entropy) = jar(Time(0));
        let channel: Channel = "10.0.0.1#5".parse().unwrap();
        let from: SocketAddr = "10.0.0.2:99".parse().unwrap();
        let cookie = jar.bake(from, Nonce(1), &channel);
        jar.rotate(Time(300_000_000), &mut entropy);
        assert!(!jar.fits(&cookie, from, Nonce(1), &channel));
    }
}
