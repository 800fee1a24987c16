//! What a program hands over to be sent: parts of a message, and the datagrams that
//! they become.
//!
//! Promises: the program's bytes are lent, never copied; UDP_SEGMENT's long messages
//! become datagrams of the segment's size, the last one shorter. Is not the sending.

use std::net::{IpAddr, SocketAddr};

use libc::{c_int, c_void, iovec, msghdr, size_t};

use crate::name;

/// `UIO_MAXIOV`: more parts are refused with EMSGSIZE.
const MOST_PARTS: usize = 1024;
/// No datagram is longer; what is longer is refused unread.
const MOST_BYTES: usize = 65_535;
/// The longest body of a stream datagram, on IPv4 and IPv6.
const LONGEST: (usize, usize) = (65_491, 65_511);

/// One message: the program's memory, lent for the call.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    /// The address that it names itself.
    pub(crate) to: Option<SocketAddr>,
    /// The datagram's bytes, in order.
    pub(crate) parts: Vec<&'a [u8]>,
    /// UDP_SEGMENT of the message itself; 0: none.
    pub(crate) segment: usize,
}

impl<'a> Message<'a> {
    /// What send, sendto and write take.
    ///
    /// # Errors
    /// `EMSGSIZE`, `EFAULT`.
    ///
    /// # Safety
    /// `data` points to `length` bytes that stay as they are through `'a`.
    pub(crate) unsafe fn plain(
        to: Option<SocketAddr>,
        data: *const c_void,
        length: size_t,
    ) -> Result<Message<'a>, c_int> {
        Ok(Message {
            to,
            parts: vec![lend(data, length)?],
            segment: 0,
        })
    }

    /// What writev takes.
    ///
    /// # Errors
    /// `EMSGSIZE`, `EFAULT`, `EINVAL`.
    ///
    /// # Safety
    /// `parts` points to `count` parts, which point to bytes as in [`Message::plain`].
    pub(crate) unsafe fn vector(parts: *const iovec, count: usize) -> Result<Message<'a>, c_int> {
        Ok(Message {
            to: None,
            parts: lend_parts(parts, count)?,
            segment: 0,
        })
    }

    /// What sendmsg takes.
    ///
    /// # Errors
    /// `EMSGSIZE`, `EFAULT`.
    ///
    /// # Safety
    /// `header` is one as sendmsg(2) takes it.
    pub(crate) unsafe fn header(header: *const msghdr) -> Result<Message<'a>, c_int> {
        if header.is_null() {
            return Err(libc::EFAULT);
        }
        let header = &*header;
        Ok(Message {
            to: name::read(header.msg_name.cast(), header.msg_namelen),
            parts: lend_parts(header.msg_iov, header.msg_iovlen)?,
            segment: segment(header),
        })
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// What a call that has sent it returns.
    pub(crate) fn answer(&self) -> isize {
        isize::try_from(self.length()).unwrap_or(isize::MAX)
    }

    /// The datagrams that it becomes where segments have `segment` bytes (0: one).
    pub(super) fn datagrams(&self, segment: usize) -> Vec<Vec<&'a [u8]>> {
        if segment == 0 || self.length() <= segment {
            return vec![self.parts.clone()];
        }
        let mut datagrams = Vec::new();
        let (mut current, mut room) = (Vec::new(), segment);
        for part in &self.parts {
            let mut rest: &'a [u8] = part;
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(rest.len().min(room));
                current.push(head);
                (rest, room) = (tail, room - head.len());
                if room == 0 {
                    datagrams.push(std::mem::take(&mut current));
                    room = segment;
                }
            }
        }
        if !current.is_empty() {
            datagrams.push(current);
        }
        datagrams
    }
}

/// What messages become on a stream of `sender`'s, up to the first one that is too long;
/// `segment`: the socket's UDP_SEGMENT.
pub(crate) fn split<'a>(
    messages: &[Message<'a>],
    segment: usize,
    sender: IpAddr,
) -> Vec<Vec<Vec<&'a [u8]>>> {
    let longest = match sender {
        IpAddr::V4(_) => LONGEST.0,
        IpAddr::V6(_) => LONGEST.1,
    };
    let length = |parts: &Vec<&[u8]>| parts.iter().map(|part| part.len()).sum::<usize>();
    let datagrams = |m: &Message<'a>| match m.segment {
        0 => m.datagrams(segment),
        own => m.datagrams(own),
    };
    let fits = |split: &Vec<Vec<&[u8]>>| split.iter().all(|d| length(d) <= longest);
    messages.iter().map(datagrams).take_while(fits).collect()
}

/// The length of `count` parts' data. Allocates nothing.
///
/// # Safety
/// `parts` points to `count` parts.
pub(crate) unsafe fn length(parts: *const iovec, count: usize) -> isize {
    let mut total: usize = 0;
    for at in 0..count.min(MOST_PARTS) {
        total = total.saturating_add((*parts.add(at)).iov_len);
    }
    isize::try_from(total).unwrap_or(isize::MAX)
}

unsafe fn lend<'a>(data: *const c_void, length: size_t) -> Result<&'a [u8], c_int> {
    match length {
        0 => Ok(&[]),
        _ if data.is_null() => Err(libc::EFAULT),
        _ if length > MOST_BYTES => Err(libc::EMSGSIZE),
        _ => Ok(std::slice::from_raw_parts(data.cast::<u8>(), length)),
    }
}

unsafe fn lend_parts<'a>(parts: *const iovec, count: usize) -> Result<Vec<&'a [u8]>, c_int> {
    match count {
        0 => Ok(Vec::new()),
        _ if count > MOST_PARTS => Err(libc::EMSGSIZE),
        _ if parts.is_null() => Err(libc::EFAULT),
        _ => {
            let parts = std::slice::from_raw_parts(parts, count);
            parts.iter().map(|p| lend(p.iov_base, p.iov_len)).collect()
        }
    }
}

/// UDP_SEGMENT among a message's control data.
unsafe fn segment(header: &msghdr) -> usize {
    let mut at = libc::CMSG_FIRSTHDR(header);
    while !at.is_null() {
        let (level, kind) = ((*at).cmsg_level, (*at).cmsg_type);
        if level == libc::SOL_UDP && kind == libc::UDP_SEGMENT {
            let value = libc::CMSG_DATA(at).cast::<u16>().read_unaligned();
            return usize::from(value);
        }
        at = libc::CMSG_NXTHDR(header, at);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(parts: &[&'a [u8]]) -> Message<'a> {
        Message {
            to: None,
            parts: parts.to_vec(),
            segment: 0,
        }
    }

    fn joined(datagrams: Vec<Vec<&[u8]>>) -> Vec<Vec<u8>> {
        datagrams.into_iter().map(|parts| parts.concat()).collect()
    }

    #[test]
    fn segments_cross_the_borders_of_parts() {
        let whole = message(&[b"abc", b"", b"defg", b"h"]);
        let three: Vec<Vec<u8>> = vec![b"abc".to_vec(), b"def".to_vec(), b"gh".to_vec()];
        assert_eq!(joined(whole.datagrams(3)), three);
        let four: Vec<Vec<u8>> = vec![b"abcd".to_vec(), b"efgh".to_vec()];
        assert_eq!(joined(whole.datagrams(4)), four);
    }

    #[test]
    fn without_segments_a_message_is_one_datagram_also_an_empty_one() {
        assert_eq!(joined(message(&[b"ab", b"c"]).datagrams(0)), [b"abc"]);
        assert_eq!(joined(message(&[]).datagrams(5)), [b""]);
        assert_eq!(joined(message(&[b"ab"]).datagrams(2)), [b"ab"]);
    }

    #[test]
    fn what_is_too_long_or_nowhere_is_refused_unread() {
        // SAFETY: refused before anything is read.
        let null = unsafe { Message::plain(None, std::ptr::null(), 1) };
        assert_eq!(null.err(), Some(libc::EFAULT));
        let byte = 0_u8;
        // SAFETY: refused before anything is read.
        let long = unsafe { Message::plain(None, (&raw const byte).cast(), 65_536) };
        assert_eq!(long.err(), Some(libc::EMSGSIZE));
        // SAFETY: nothing is read of an empty one.
        assert!(unsafe { Message::plain(None, std::ptr::null(), 0) }.is_ok());
    }
}
