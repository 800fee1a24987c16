//! Classic BPF for sockets: which datagrams a socket sees, cut to what length.
//!
//! Promises: programs that an unprivileged process may attach on any kernel since
//! 3.x, built from addresses, ports and words that come in as arguments; words of
//! the owner's ride along in instructions that are never reached and come back by
//! `sockopt::read_filter`.
//! Is not: the protocol, and not eBPF.
//!
//! The trailer that the programs look at is the last 16 bytes, big-endian:
//! ```text
//! | token or nonce 8 | sequence 4 | word 4: kind << 24 | magic |
//! ```

mod assembler;
mod receiver;
mod selector;

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod tests;

use assembler::Assembler;

pub use receiver::{only_from, reader, receiver, FilterWords, Source, Untrailed};
pub use selector::selector;

/// `struct sock_filter`: one instruction.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Instruction {
    /// Operation (`BPF_LD | BPF_W | BPF_ABS` ...).
    pub code: u16,
    /// Instructions skipped where a condition holds.
    pub jump_true: u8,
    /// Instructions skipped where it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// A program for `attach_filter` or `attach_reuseport_selector`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    instructions: Vec<Instruction>,
}

/// Upper half of the last instruction's operand where words ride along; the lower
/// half is their number.
const PASSENGER_MARK: u32 = 0xF1EC_0000;

impl Program {
    /// The instructions in order.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The words that [`receiver`] was given to carry; empty where there are none.
    #[must_use]
    pub fn passengers(&self) -> Vec<u32> {
        let Some((last, before)) = self.instructions.split_last() else {
            return Vec::new();
        };
        if last.code != RETURN || last.operand & 0xFFFF_0000 != PASSENGER_MARK {
            return Vec::new();
        }
        let count = (last.operand & 0xFFFF) as usize;
        let Some(first) = before.len().checked_sub(count) else {
            return Vec::new();
        };
        before[first..]
            .iter()
            .map(|carrier| carrier.operand)
            .collect()
    }

    /// Appends words that are never executed: the program must end in a return.
    fn carry(&mut self, passengers: &[u32]) {
        let Ok(count) = u16::try_from(passengers.len()) else {
            return;
        };
        if count == 0 {
            return;
        }
        let carrier = |operand| Instruction {
            code: RETURN,
            operand,
            ..Instruction::default()
        };
        self.instructions
            .extend(passengers.iter().map(|word| carrier(*word)));
        self.instructions
            .push(carrier(PASSENGER_MARK | u32::from(count)));
    }
}

impl From<Vec<Instruction>> for Program {
    fn from(instructions: Vec<Instruction>) -> Self {
        Self { instructions }
    }
}

/// Drops everything.
#[must_use]
pub fn drop_all() -> Program {
    let mut assembler = Assembler::new();
    assembler.give_back(0);
    assembler.finish()
}

// Operation codes (include/uapi/linux/bpf_common.h), the ones in use here.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD_INDEXED: u16 = 0x40;
const LOAD_LENGTH: u16 = 0x80;
const LOAD_MEMORY: u16 = 0x60;
const STORE_MEMORY: u16 = 0x02;
const SUBTRACT: u16 = 0x14;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;
const A_TO_X: u16 = 0x07;
const X_TO_A: u16 = 0x87;
/// Loads from here on count from the network header (`SKF_NET_OFF`, -0x100000).
const NETWORK_HEADER: u32 = 0xFFF0_0000;
/// Returned to keep a datagram whole.
const WHOLE: u32 = u32::MAX;
