//! Classic BPF in user space, for tests: the operations that the programs use, with
//! the kernel's rules (a load outside the packet drops it).
//!
//! Promises: one more reading of the programs than the kernel's; counts what it
//! executes, and refuses what the kernel's checker would.
//! Is not: for use outside tests.

use super::*;

/// A datagram as the kernel shows it to a program.
pub(super) struct Packet {
    /// From the network header on.
    pub(super) network: Vec<u8>,
    /// Where the program's own offsets begin (UDP header or payload).
    pub(super) data: usize,
}

impl Packet {
    fn length(&self) -> usize {
        self.network.len() - self.data
    }

    fn load(&self, at: usize, size: usize) -> Option<u32> {
        // Negative offsets as u32 count from the network header.
        let base = NETWORK_HEADER as usize;
        let start = if at >= base {
            at - base
        } else {
            self.data + at
        };
        let bytes = self.network.get(start..start + size)?;
        Some(
            bytes
                .iter()
                .fold(0, |value, byte| value << 8 | u32::from(*byte)),
        )
    }
}

/// How many bytes the program keeps (0: dropped) for a socket filter, which member
/// it picks for a selector.
pub(super) fn run(program: &Program, packet: &Packet) -> u32 {
    let (mut a, mut x) = (0_u32, 0_u32);
    let mut memory: [Option<u32>; 16] = [None; 16];
    let mut at = 0;
    loop {
        let Instruction {
            code,
            jump_true,
            jump_false,
            operand,
        } = program.instructions()[at];
        at += 1;
        let k = operand as usize;
        let mut jump = |holds| at += usize::from(if holds { jump_true } else { jump_false });
        let loaded = match code {
            LOAD_WORD => packet.load(k, 4),
            LOAD_HALF => packet.load(k, 2),
            LOAD_BYTE => packet.load(k, 1),
            LOAD_WORD_INDEXED => packet.load(x as usize + k, 4),
            LOAD_LENGTH => u32::try_from(packet.length()).ok(),
            LOAD_MEMORY => Some(memory[k].expect("memory is stored before it is loaded")),
            SUBTRACT => Some(a - operand),
            AND => Some(a & operand),
            X_TO_A => Some(x),
            _ => Some(a),
        };
        let Some(value) = loaded else { return 0 };
        a = value;
        match code {
            LOAD_WORD | LOAD_HALF | LOAD_BYTE | LOAD_WORD_INDEXED | LOAD_LENGTH | LOAD_MEMORY
            | SUBTRACT | AND | X_TO_A => {}
            STORE_MEMORY => memory[k] = Some(a),
            A_TO_X => x = a,
            JUMP_EQUAL => jump(a == operand),
            JUMP_AT_LEAST => jump(a >= operand),
            JUMP => at += k,
            RETURN => return operand,
            RETURN_A => return a,
            other => panic!("operation {other:#x} is not in use"),
        }
    }
}
