//! What a receiving socket's filter carries for whoever takes the socket over.
//!
//! A socket outlives exec and travels by SCM_RIGHTS; what we know of it dies with the
//! process. So D's filter has these words in instructions that are never reached;
//! `SO_GET_FILTER` gives them back. The nonce above all: the selector checks it and
//! can never be replaced.
//!
//! ```text
//!  0   F1EC A501: layout, version 1
//!  1   role << 24 | channels << 16 | FP
//!  2   nonce, upper half; 3 lower half
//!      then for each channel:
//!  0   flags << 24 | port of the sender's own socket (0 unknown)
//!      flags: 1 S is IPv6, 2 asked elsewhere than S:FP, 4 that is IPv6, 8 strict,
//!             16 the token is known
//!  1   id, upper half; 2 lower half
//!      S, 1 or 4 words
//!      address asked, 1 or 4 words, and port, 1 word     (flag 2)
//!      token, upper half, lower half                     (flag 16)
//! ```
//! Promises: reads what it writes, and nothing else; a later layout has another
//! first word. Is not the taking over itself.

use std::net::{IpAddr, SocketAddr};

use flexcast_wire::{Channel, ChannelId, Nonce, StreamToken};

use super::Asking;

const LAYOUT: u32 = 0xF1EC_A501;
const S_V6: u32 = 1;
const ELSEWHERE: u32 = 2;
const ASKED_V6: u32 = 4;
const STRICT: u32 = 8;
const TOKEN: u32 = 16;

/// What a predecessor wrote into a socket's filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inheritance {
    /// What the socket is to its program, as [`super::ReceivingSocket::set_role`]
    /// was told.
    pub role: u8,
    /// FP.
    pub fp: u16,
    /// The nonce that the selector knows.
    pub nonce: Nonce,
    /// The channels that were asked for.
    pub channels: Vec<Inherited>,
}

/// One channel of an [`Inheritance`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inherited {
    /// Which.
    pub channel: Channel,
    /// How it was asked for.
    pub asking: Asking,
    /// The stream token, where it was known.
    pub token: Option<StreamToken>,
    /// The port of the sender's own socket; 0 unknown.
    pub app_port: u16,
}

impl Inheritance {
    /// The words.
    pub(super) fn write(&self) -> Vec<u32> {
        let channels = u32::try_from(self.channels.len()).unwrap_or(0) & 0xFF;
        let mut words = vec![
            LAYOUT,
            u32::from(self.role) << 24 | channels << 16 | u32::from(self.fp),
        ];
        push_u64(&mut words, self.nonce.0);
        for inherited in &self.channels {
            inherited.write(self.fp, &mut words);
        }
        words
    }

    /// The words read; none where they are not of this layout.
    pub(super) fn read(words: &[u32]) -> Option<Inheritance> {
        let mut from = words.iter().copied();
        if from.next()? != LAYOUT {
            return None;
        }
        let head = from.next()?;
        let fp = low_half(head);
        let nonce = Nonce(next_u64(&mut from)?);
        let mut channels = Vec::new();
        for _ in 0..head >> 16 & 0xFF {
            channels.push(Inherited::read(fp, &mut from)?);
        }
        from.next().is_none().then_some(Inheritance {
            role: u8::try_from(head >> 24).unwrap_or(0),
            fp,
            nonce,
            channels,
        })
    }
}

impl Inherited {
    fn write(&self, fp: u16, words: &mut Vec<u32>) {
        let at = self.asking.at;
        let elsewhere = at != SocketAddr::new(self.channel.sender, fp);
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        let flags = flag(self.channel.sender.is_ipv6(), S_V6)
            | flag(elsewhere, ELSEWHERE)
            | flag(elsewhere && at.is_ipv6(), ASKED_V6)
            | flag(self.asking.strict, STRICT)
            | flag(self.token.is_some(), TOKEN);
        words.push(flags << 24 | u32::from(self.app_port));
        push_u64(words, self.channel.id.get());
        push_address(words, self.channel.sender);
        if elsewhere {
            push_address(words, at.ip());
            words.push(u32::from(at.port()));
        }
        if let Some(token) = self.token {
            push_u64(words, token.0);
        }
    }

    fn read(fp: u16, from: &mut impl Iterator<Item = u32>) -> Option<Inherited> {
        let head = from.next()?;
        let has = |flag: u32| head >> 24 & flag != 0;
        let id = ChannelId::new(next_u64(from)?)?;
        let sender = next_address(from, has(S_V6))?;
        let at = if has(ELSEWHERE) {
            let address = next_address(from, has(ASKED_V6))?;
            SocketAddr::new(address, low_half(from.next()?))
        } else {
            SocketAddr::new(sender, fp)
        };
        let token = if has(TOKEN) {
            Some(StreamToken(next_u64(from)?))
        } else {
            None
        };
        Some(Inherited {
            channel: Channel::new(sender, id),
            asking: Asking {
                at,
                strict: has(STRICT),
            },
            token,
            app_port: low_half(head),
        })
    }
}

fn low_half(word: u32) -> u16 {
    u16::try_from(word & 0xFFFF).unwrap_or(0)
}

fn push_u64(words: &mut Vec<u32>, value: u64) {
    words.extend([value >> 32, value & 0xFFFF_FFFF].map(|half| u32::try_from(half).unwrap_or(0)));
}

fn next_u64(from: &mut impl Iterator<Item = u32>) -> Option<u64> {
    Some(u64::from(from.next()?) << 32 | u64::from(from.next()?))
}

fn push_address(words: &mut Vec<u32>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => words.push(u32::from(v4)),
        IpAddr::V6(v6) => {
            let whole = u128::from(v6);
            let word = |shift: u32| u32::try_from(whole >> shift & 0xFFFF_FFFF).unwrap_or(0);
            words.extend([96, 64, 32, 0].map(word));
        }
    }
}

fn next_address(from: &mut impl Iterator<Item = u32>, v6: bool) -> Option<IpAddr> {
    if !v6 {
        return Some(IpAddr::from(from.next()?.to_be_bytes()));
    }
    let mut whole = 0_u128;
    for _ in 0..4 {
        whole = whole << 32 | u128::from(from.next()?);
    }
    Some(IpAddr::from(whole.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(channel: &str, at: &str, strict: bool, token: Option<u64>) -> Inherited {
        Inherited {
            channel: channel.parse().unwrap(),
            asking: Asking {
                at: at.parse().unwrap(),
                strict,
            },
            token: token.map(StreamToken),
            app_port: 40_000,
        }
    }

    fn full() -> Inheritance {
        Inheritance {
            role: 7,
            fp: 7450,
            nonce: Nonce(0x0102_0304_0506_0708),
            channels: vec![
                inherited("10.0.0.5#5000", "10.0.0.5:7450", false, None),
                inherited(
                    "10.0.0.5#18446744073709551615",
                    "10.0.0.9:7451",
                    true,
                    Some(9),
                ),
                inherited("2001:db8::5#1", "[2001:db8::5]:7450", false, Some(u64::MAX)),
                inherited("2001:db8::5#2", "[2001:db8::9]:1", true, None),
                inherited("10.0.0.5#3", "[2001:db8::9]:7450", false, Some(3)),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let full = full();
        assert_eq!(Inheritance::read(&full.write()), Some(full.clone()));
        let empty = Inheritance {
            channels: Vec::new(),
            ..full
        };
        assert_eq!(Inheritance::read(&empty.write()), Some(empty));
    }

    #[test]
    fn the_layout_has_golden_words() {
        let mut one = full();
        one.channels.truncate(1);
        assert_eq!(
            one.write(),
            [
                0xF1EC_A501,
                0x0701_1D1A,
                0x0102_0304,
                0x0506_0708,
                0x0000_9C40,
                0,
                5000,
                0x0A00_0005,
            ]
        );
    }

    #[test]
    fn other_layouts_and_cut_ones_are_not_read() {
        let words = full().write();
        for length in 0..words.len() {
            assert_eq!(Inheritance::read(&words[..length]), None, "{length}");
        }
        let longer = [&words[..], &[0]].concat();
        assert_eq!(Inheritance::read(&longer), None);
        let later = [&[words[0] + 1], &words[1..]].concat();
        assert_eq!(Inheritance::read(&later), None);
    }
}
