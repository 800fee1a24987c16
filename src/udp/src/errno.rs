//! The kernel's error numbers, with name and message.
//!
//! Promises: what the kernel said, unchanged; `Display` gives the symbol, the
//! message and the number. Is not: `errno` of libc, which is never read or written.

use std::fmt;

/// An error number of the kernel (positive, as in `errno.h`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! names {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "` of errno(3).")]
            pub const $name: Errno = Errno(libc::$name);)*

            /// The symbol, as `EAGAIN`; `E?` where this table has none.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self.0 {
                    $(libc::$name => stringify!($name),)*
                    _ => "E?",
                }
            }
        }
    };
}

names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST
    ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ENOSPC ESPIPE EPIPE ERANGE EDEADLK
    ENAMETOOLONG ENOSYS EPROTO EOVERFLOW ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
    EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH
    ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ETIMEDOUT ECONNREFUSED EHOSTDOWN
    EHOSTUNREACH EALREADY EINPROGRESS ECANCELED
}

impl Errno {
    /// Whether the call would have to wait.
    #[must_use]
    pub fn would_block(self) -> bool {
        self == Self::EAGAIN
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // std's text is "message (os error N)".
        let message = std::io::Error::from_raw_os_error(self.0);
        write!(f, "{}: {message}", self.name())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({} {})", self.0, self.name())
    }
}

impl std::error::Error for Errno {}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_symbol_message_and_number() {
        let text = "EAGAIN: Resource temporarily unavailable (os error 11)";
        assert_eq!(Errno::EAGAIN.to_string(), text);
        assert_eq!(Errno(4000).name(), "E?");
    }
}
