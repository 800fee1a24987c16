//! Which of two sockets of one port gets a datagram.
//!
//! Promises: control with our nonce goes to member 1, all else to member 0. The
//! nonce is checked, not only the kind: with segmentation offload one forged short
//! "control" could otherwise carry a whole run of data away.
//! Is not: to be replaced on a live socket (see `sockopt::attach_reuseport_selector`).

use super::assembler::Assembler;
use super::{Program, A_TO_X, JUMP_AT_LEAST, JUMP_EQUAL, LOAD_LENGTH, LOAD_WORD_INDEXED, SUBTRACT};
use crate::filter::receiver::{high_word, low_word, TRAILER};

/// The selector of a group of two: 1 for datagrams that end in the trailer of
/// `nonce` and `control_word`, 0 for all others. Loads count from the UDP payload
/// (`run_bpf_filter`, net/core/sock_reuseport.c).
#[must_use]
pub fn selector(nonce: u64, control_word: u32) -> Program {
    let mut assembler = Assembler::new();
    let other = assembler.label();
    assembler.emit(LOAD_LENGTH, 0);
    assembler.require(JUMP_AT_LEAST, TRAILER, other);
    assembler.emit(SUBTRACT, TRAILER);
    assembler.emit(A_TO_X, 0);
    assembler.emit(LOAD_WORD_INDEXED, 12);
    assembler.require(JUMP_EQUAL, control_word, other);
    assembler.emit(LOAD_WORD_INDEXED, 0);
    assembler.require(JUMP_EQUAL, high_word(nonce), other);
    assembler.emit(LOAD_WORD_INDEXED, 4);
    assembler.require(JUMP_EQUAL, low_word(nonce), other);
    assembler.give_back(1);
    assembler.place(other);
    assembler.give_back(0);
    assembler.finish()
}
