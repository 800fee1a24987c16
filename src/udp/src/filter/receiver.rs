//! What a receiving socket keeps, and to which length.
//!
//! Promises: a datagram whose trailer carries the magic is kept only if it is data
//! from one of the sources, with that source's token where it is known, and then
//! without its trailer; all other datagrams with the magic are dropped. Datagrams
//! without it fare as [`Untrailed`] says. IPv4, IPv6, and IPv4 on an IPv6 socket.
//! A [`reader`] keeps the end of stream too, and both with their trailers.
//! Is not: a check of what the sender's address is worth: sources can be forged,
//! tokens cannot.
//!
//! Loads count from the UDP header, 8 bytes before the payload; X holds the length
//! to keep; scratch memory: 0–3 source address, 4 source port, 5–6 token.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::assembler::Assembler;
use super::{
    Program, AND, A_TO_X, JUMP_AT_LEAST, JUMP_EQUAL, LOAD_BYTE, LOAD_HALF, LOAD_LENGTH,
    LOAD_MEMORY, LOAD_WORD, LOAD_WORD_INDEXED, NETWORK_HEADER, RETURN_A, STORE_MEMORY, SUBTRACT,
    WHOLE, X_TO_A,
};
use crate::address::{canonical, field, Family};

pub(super) const TRAILER: u32 = 16;
const UDP_HEADER: u32 = 8;
const PORT_SLOT: u32 = 4;
const TOKEN_SLOT: u32 = 5;

/// A sender whose data is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Source {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 for any.
    pub port: u16,
    /// The token its data must carry; any, as long as it is not known.
    pub token: Option<u64>,
}

/// What becomes of datagrams without the magic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Untrailed {
    /// They are kept whole.
    Pass,
    /// They are dropped.
    Drop,
    /// Those of one address and port (0: any port) are kept whole, others dropped.
    OnlyFrom(SocketAddr),
}

/// The words that a trailer can end in: kind << 24 | magic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilterWords {
    /// Data.
    pub data_word: u32,
    /// Control; shares the magic of `data_word`.
    pub control_word: u32,
    /// End of stream; shares the magic of `data_word`.
    pub end_word: u32,
    /// Which bits of the words are the magic.
    pub magic_mask: u32,
}

/// The filter of a receiving socket of `family`. It carries `passengers` (at most
/// 65 535 words) where [`Program::passengers`] finds them.
///
/// The length grows by 10 instructions for an IPv4 source and 16 for an IPv6 one;
/// the kernel takes 4 096, and `net.core.optmem_max` bytes (20 kB, 128 kB since
/// 6.8): more than 64 sources of either family, always.
///
/// # Panics
/// Never for words that share their magic; a debug build says so otherwise.
#[must_use]
pub fn receiver(
    sources: &[Source],
    untrailed: Untrailed,
    words: FilterWords,
    family: Family,
    passengers: &[u32],
) -> Program {
    let kept = Kept {
        keep: Keep::WithoutTrailer,
        ends: false,
    };
    build(sources, untrailed, words, family, passengers, kept)
}

/// The filter of a socket whose program reads trailers itself: data and ends of the
/// sources, whole, and nothing else. As [`receiver`] in all other respects.
#[must_use]
pub fn reader(
    sources: &[Source],
    words: FilterWords,
    family: Family,
    passengers: &[u32],
) -> Program {
    let kept = Kept {
        keep: Keep::Whole,
        ends: true,
    };
    build(sources, Untrailed::Drop, words, family, passengers, kept)
}

/// The filter of a socket of `family` that hears one address and port, whatever is
/// said, and nobody else.
#[must_use]
pub fn only_from(source: SocketAddr, family: Family) -> Program {
    let source = Source {
        address: source.ip(),
        port: source.port(),
        token: None,
    };
    let mut assembler = Assembler::new();
    match_sources(&mut assembler, &[source], family, Keep::Whole);
    assembler.give_back(0);
    assembler.finish()
}

/// What is kept of the stream.
#[derive(Clone, Copy)]
struct Kept {
    keep: Keep,
    ends: bool,
}

fn build(
    sources: &[Source],
    untrailed: Untrailed,
    words: FilterWords,
    family: Family,
    passengers: &[u32],
    kept: Kept,
) -> Program {
    let magic = words.data_word & words.magic_mask;
    debug_assert_eq!(words.control_word & words.magic_mask, magic);
    debug_assert_eq!(words.end_word & words.magic_mask, magic);
    let mut assembler = Assembler::new();
    let strange = assembler.label();
    let data = assembler.label();
    let refused = assembler.label();

    assembler.emit(LOAD_LENGTH, 0);
    assembler.require(JUMP_AT_LEAST, UDP_HEADER + TRAILER, strange);
    assembler.emit(SUBTRACT, TRAILER);
    assembler.emit(A_TO_X, 0);
    assembler.emit(LOAD_WORD_INDEXED, 12);
    assembler.emit(AND, words.magic_mask);
    assembler.require(JUMP_EQUAL, magic, strange);
    assembler.emit(LOAD_WORD_INDEXED, 12);
    if kept.ends {
        let other = assembler.label();
        assembler.branch(JUMP_EQUAL, words.data_word, data, other);
        assembler.place(other);
        assembler.branch(JUMP_EQUAL, words.end_word, data, refused);
    } else {
        assembler.branch(JUMP_EQUAL, words.data_word, data, refused);
    }

    assembler.place(strange);
    match untrailed {
        Untrailed::Pass => assembler.give_back(WHOLE),
        Untrailed::Drop => {}
        Untrailed::OnlyFrom(only) => {
            let source = Source {
                address: only.ip(),
                port: only.port(),
                token: None,
            };
            match_sources(&mut assembler, &[source], family, Keep::Whole);
        }
    }
    assembler.place(refused);
    assembler.give_back(0);

    assembler.place(data);
    match_sources(&mut assembler, sources, family, kept.keep);
    assembler.give_back(0);

    let mut program = assembler.finish();
    program.carry(passengers);
    program
}

pub(super) fn high_word(value: u64) -> u32 {
    u32::from_be_bytes(field(&value.to_be_bytes(), 0))
}

pub(super) fn low_word(value: u64) -> u32 {
    u32::from_be_bytes(field(&value.to_be_bytes(), 4))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Whole,
    WithoutTrailer,
}

/// Gives back the datagrams that fit a source; runs on behind for all others.
fn match_sources(assembler: &mut Assembler, sources: &[Source], family: Family, keep: Keep) {
    if sources.iter().any(|source| source.port != 0) {
        load_to(assembler, LOAD_HALF, 0, PORT_SLOT);
    }
    if sources.iter().any(|source| source.token.is_some()) {
        load_to(assembler, LOAD_WORD_INDEXED, 0, TOKEN_SLOT);
        load_to(assembler, LOAD_WORD_INDEXED, 4, TOKEN_SLOT + 1);
    }
    let end = assembler.label();
    let others = assembler.label();
    if family == Family::V6 {
        // The version is in the upper half of either header's first byte.
        let four = assembler.label();
        let six = assembler.label();
        assembler.emit(LOAD_BYTE, NETWORK_HEADER);
        assembler.emit(AND, 0xF0);
        assembler.branch(JUMP_EQUAL, 0x40, four, six);
        assembler.place(six);
        assembler.jump(others);
        assembler.place(four);
    }
    load_to(assembler, LOAD_WORD, NETWORK_HEADER + 12, 0);
    for source in sources {
        if let IpAddr::V4(address) = canonical(source.address) {
            match_one(assembler, &[u32::from(address)], source, keep);
        }
    }
    if family == Family::V6 {
        assembler.jump(end);
        assembler.place(others);
        for slot in 0..4 {
            load_to(assembler, LOAD_WORD, NETWORK_HEADER + 8 + 4 * slot, slot);
        }
        for source in sources {
            if let IpAddr::V6(address) = canonical(source.address) {
                match_one(assembler, &words_of(address), source, keep);
            }
        }
    }
    assembler.place(end);
}

fn load_to(assembler: &mut Assembler, code: u16, from: u32, slot: u32) {
    assembler.emit(code, from);
    assembler.emit(STORE_MEMORY, slot);
}

fn match_one(assembler: &mut Assembler, address: &[u32], source: &Source, keep: Keep) {
    let next = assembler.label();
    let mut expected: Vec<(u32, u32)> = (0..).zip(address.iter().copied()).collect();
    // The last word first: it is where addresses differ.
    expected.reverse();
    if source.port != 0 {
        expected.push((PORT_SLOT, u32::from(source.port)));
    }
    if let Some(token) = source.token {
        expected.push((TOKEN_SLOT, high_word(token)));
        expected.push((TOKEN_SLOT + 1, low_word(token)));
    }
    for (slot, value) in expected {
        assembler.emit(LOAD_MEMORY, slot);
        assembler.require(JUMP_EQUAL, value, next);
    }
    match keep {
        Keep::Whole => assembler.give_back(WHOLE),
        Keep::WithoutTrailer => {
            assembler.emit(X_TO_A, 0);
            assembler.emit(RETURN_A, 0);
        }
    }
    assembler.place(next);
}

fn words_of(address: Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    [0, 4, 8, 12].map(|at| u32::from_be_bytes(field(&octets, at)))
}
