//! A thread whose kernel refuses one call, for tests: seccomp answers in its stead.
//!
//! Promises: only the thread that asks, and threads it starts later; until it ends.
//! Is not: for use outside tests.

use crate::filter::Instruction;
use crate::raw::{call, int};

/// From now on, `number` with argument `at` equal to `value` answers `errno` (0: says
/// that it succeeded, and does nothing), in this thread.
pub(crate) fn answer_instead(number: libc::c_long, at: u32, value: u32, errno: i32) {
    let step = |code, operand, jump_false| Instruction {
        code,
        jump_true: 0,
        jump_false,
        operand,
    };
    let (load, equal, give_back) = (0x20, 0x15, 0x06);
    let number = u32::try_from(number).unwrap();
    let refusal = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    // struct seccomp_data: number 4, architecture 4, instruction pointer 8, arguments.
    let program = [
        step(load, 0, 0),
        step(equal, number, 3),
        step(load, 16 + 8 * at, 0),
        step(equal, value, 1),
        step(give_back, refusal, 0),
        step(give_back, libc::SECCOMP_RET_ALLOW, 0),
    ];
    // struct sock_fprog: u16 length, padding, pointer.
    let header = [program.len(), program.as_ptr() as usize];
    let privileges = [int(libc::PR_SET_NO_NEW_PRIVS), 1, 0, 0, 0, 0];
    // SAFETY: integers only; nothing here starts setuid programs.
    unsafe { call(libc::SYS_prctl, privileges) }.unwrap();
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    let arguments = [mode, 0, header.as_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel reads the header and the program, which live on.
    unsafe { call(libc::SYS_seccomp, arguments) }.unwrap();
}
