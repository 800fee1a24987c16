//! Jumps by label instead of by count.
//!
//! Promises: every label that is jumped to is placed, forwards; conditional jumps
//! reach 255 instructions, far ones any distance. The programs of this crate keep
//! conditional jumps short by their shape, whatever the number of sources.
//! Is not: an optimiser.

use super::{Instruction, Program, JUMP, RETURN};

/// A place in the program, known later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label(usize);

#[derive(Clone, Copy)]
enum Jump {
    Conditional { at: usize, yes: Label, no: Label },
    Far { at: usize, to: Label },
}

pub(super) struct Assembler {
    instructions: Vec<Instruction>,
    places: Vec<Option<usize>>,
    jumps: Vec<Jump>,
}

impl Assembler {
    pub(super) fn new() -> Self {
        Self {
            instructions: Vec::new(),
            places: Vec::new(),
            jumps: Vec::new(),
        }
    }

    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// `label` is here.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.instructions.len());
    }

    pub(super) fn emit(&mut self, code: u16, operand: u32) {
        self.instructions.push(Instruction {
            code,
            operand,
            ..Instruction::default()
        });
    }

    /// Ends the program: keep `length` bytes.
    pub(super) fn give_back(&mut self, length: u32) {
        self.emit(RETURN, length);
    }

    pub(super) fn branch(&mut self, code: u16, operand: u32, yes: Label, no: Label) {
        self.jumps.push(Jump::Conditional {
            at: self.instructions.len(),
            yes,
            no,
        });
        self.emit(code, operand);
    }

    /// Goes on with the next instruction where the condition holds, else at `no`.
    pub(super) fn require(&mut self, code: u16, operand: u32, no: Label) {
        let next = self.label();
        self.branch(code, operand, next, no);
        self.place(next);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push(Jump::Far {
            at: self.instructions.len(),
            to,
        });
        self.emit(JUMP, 0);
    }

    pub(super) fn finish(mut self) -> Program {
        for jump in std::mem::take(&mut self.jumps) {
            match jump {
                Jump::Conditional { at, yes, no } => {
                    let yes = self.distance(at, yes);
                    let no = self.distance(at, no);
                    assert!(yes <= 255 && no <= 255, "a conditional jump of {yes}, {no}");
                    self.instructions[at].jump_true = u8::try_from(yes).unwrap_or(u8::MAX);
                    self.instructions[at].jump_false = u8::try_from(no).unwrap_or(u8::MAX);
                }
                Jump::Far { at, to } => self.instructions[at].operand = self.distance(at, to),
            }
        }
        Program {
            instructions: self.instructions,
        }
    }

    fn distance(&self, at: usize, to: Label) -> u32 {
        let distance = self.places[to.0].and_then(|place| place.checked_sub(at + 1));
        let distance = distance.and_then(|distance| u32::try_from(distance).ok());
        assert!(distance.is_some(), "a jump backwards or to nowhere");
        distance.unwrap_or(u32::MAX)
    }
}
