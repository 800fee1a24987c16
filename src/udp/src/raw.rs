//! One system call, by number, by our own instruction.
//!
//! Promises: no libc function is entered, so no hook, no `errno`, no cancellation;
//! x86_64 and aarch64. Message headers hold addresses as integers, so the buffers
//! that keep them between calls can move between threads.
//! Is not: safe by itself. Whoever calls argues why the kernel may use its pointers.

use std::arch::asm;

use crate::Errno;

/// Highest error number that the kernel returns (`MAX_ERRNO`, include/linux/err.h).
const MAX_ERRNO: isize = 4095;

/// Makes system call `number`; unused arguments are 0.
///
/// # Errors
/// What the kernel returned between -4095 and -1.
///
/// # Safety
/// As the call itself: pointers among `arguments` must be valid for what the
/// kernel reads and writes there, and the call must not break what Rust relies on
/// (unmapping memory, ending the thread, replacing the signal handlers of others).
#[cfg(target_arch = "x86_64")]
#[inline]
pub unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the instruction's own contract (rcx and r11 are lost, the stack is
    // not used); what the kernel does is the caller's to answer for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    check(result)
}

/// Makes system call `number`; unused arguments are 0.
///
/// # Errors
/// What the kernel returned between -4095 and -1.
///
/// # Safety
/// As the call itself: pointers among `arguments` must be valid for what the
/// kernel reads and writes there, and the call must not break what Rust relies on.
#[cfg(target_arch = "aarch64")]
#[inline]
pub unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the instruction's own contract (only x0 changes, the stack is not
    // used); what the kernel does is the caller's to answer for.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            in("x5") arguments[5],
            options(nostack),
        );
    }
    check(result)
}

#[inline]
fn check(result: isize) -> Result<usize, Errno> {
    if (-MAX_ERRNO..0).contains(&result) {
        return Err(Errno(i32::try_from(-result).unwrap_or(libc::EINVAL)));
    }
    Ok(result.cast_unsigned())
}

/// An `int` argument (a descriptor, a level, a flag word) as the kernel takes it.
#[inline]
#[must_use]
pub fn int(value: i32) -> usize {
    value.cast_unsigned() as usize
}

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct IoVec {
    pub(crate) base: usize,
    pub(crate) length: usize,
}

impl IoVec {
    pub(crate) fn reading(bytes: &[u8]) -> Self {
        Self {
            base: bytes.as_ptr() as usize,
            length: bytes.len(),
        }
    }

    pub(crate) fn writing(bytes: &mut [u8]) -> Self {
        Self {
            base: bytes.as_mut_ptr() as usize,
            length: bytes.len(),
        }
    }
}

/// `struct msghdr` as the kernel knows it (`struct user_msghdr`).
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct MessageHeader {
    pub(crate) name: usize,
    pub(crate) name_length: u32,
    pub(crate) parts: usize,
    pub(crate) part_count: usize,
    pub(crate) control: usize,
    pub(crate) control_length: usize,
    pub(crate) flags: i32,
}

/// `struct mmsghdr`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct BatchHeader {
    pub(crate) header: MessageHeader,
    pub(crate) length: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_kernels_shape() {
        assert_eq!(size_of::<IoVec>(), size_of::<libc::iovec>());
        assert_eq!(size_of::<MessageHeader>(), size_of::<libc::msghdr>());
        assert_eq!(size_of::<BatchHeader>(), size_of::<libc::mmsghdr>());
        assert_eq!(
            std::mem::offset_of!(MessageHeader, flags),
            std::mem::offset_of!(libc::msghdr, msg_flags)
        );
        assert_eq!(
            std::mem::offset_of!(BatchHeader, length),
            std::mem::offset_of!(libc::mmsghdr, msg_len)
        );
    }

    #[test]
    fn a_failed_call_gives_its_number_and_leaves_libcs_errno() {
        let before = std::io::Error::last_os_error().raw_os_error();
        // SAFETY: closing a number that is no descriptor touches no memory.
        let result = unsafe { call(libc::SYS_close, [int(-1), 0, 0, 0, 0, 0]) };
        assert_eq!(result, Err(Errno::EBADF));
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), before);
    }
}
