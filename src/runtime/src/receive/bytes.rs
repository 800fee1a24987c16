//! A stream of datagrams, read as a stream of bytes.
//!
//! ```text
//!   head of the queue:  [ given | next call's | ... | trailer ]
//!   peeked at, and taken off the queue with its last byte
//! ```
//! Promises: a datagram longer than the buffer is given piece by piece, and stands at
//! the head of the queue meanwhile, so that poll, select and epoll see it; the end of
//! the stream stays there for good, as a connection's does. Several threads may read: a
//! byte goes to one of them. Is not reliable: lost datagrams are missing bytes, and those
//! that overtook others come first.

use flexcast_udp::{recv_parts, Errno};
use flexcast_wire::{Trailer, TRAILER_LEN};

use super::reading::{trailer, with_room_behind, Heard, Reading, Waits};
use super::ReceivingSocket;

/// How far a byte reader has come.
#[derive(Clone, Default, Debug)]
pub(super) struct Bytes {
    /// The datagram at the head of the queue, and how many of its bytes were given; none:
    /// it was not looked at.
    head: Option<(Trailer, usize)>,
    /// The stream that it reads.
    token: Option<u64>,
    /// What all further calls return: the end, or that it was torn off.
    over: Option<Result<usize, Errno>>,
}

impl ReceivingSocket {
    /// Takes what comes next of a reading socket ([`ReceivingSocket::adopt_reader`]) into
    /// `buffer`, at most one datagram; the bytes, 0 at the end of the stream and ever
    /// after. `peek` leaves them to the next call. Waits as the descriptor's own mode
    /// says, where `wait` is set. Not to be mixed with [`ReceivingSocket::read`].
    ///
    /// # Errors
    /// As there; `ECONNRESET` where another stream has taken the place of the one that
    /// was read (its sender was started anew).
    pub fn read_bytes(
        &self,
        raw: i32,
        buffer: &mut [u8],
        wait: bool,
        peek: bool,
    ) -> Result<usize, Errno> {
        let reading = self.reading()?;
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let refused = reading.is_refused();
            match with_room_behind(|behind| next(reading, raw, buffer, behind, peek)) {
                Err(Errno::EAGAIN) if refused => return Err(Errno::ECONNREFUSED),
                Err(Errno::EAGAIN) if wait => {}
                outcome => return outcome,
            }
            // Only waits: what is there is looked at under the lock.
            let waits = Waits::in_call(reading, true);
            let arrival = recv_parts(raw, &mut [], &mut [], true, true);
            drop(waits);
            arrival?;
        }
    }
}

/// What is there.
fn next(
    reading: &Reading,
    raw: i32,
    buffer: &mut [u8],
    behind: &mut [u8],
    peek: bool,
) -> Result<usize, Errno> {
    let mut bytes = reading.bytes();
    loop {
        if let Some(outcome) = bytes.over {
            return outcome;
        }
        let (whole, given) = match look(reading, &mut bytes, raw, buffer, behind) {
            Ok(Look::Body(whole, given)) => (whole, given),
            Ok(Look::Nothing) => {
                take(raw);
                continue;
            }
            // What says so stays: it keeps the socket readable.
            Ok(Look::Over(outcome)) => {
                bytes.over = Some(outcome);
                continue;
            }
            Err(Errno::EAGAIN) if reading.ends_now() => {
                bytes.over = Some(Ok(0));
                continue;
            }
            Err(errno) => return Err(errno),
        };
        let length = (whole - given).min(buffer.len());
        if !peek {
            if let Some((_, given)) = &mut bytes.head {
                *given += length;
            }
            if given + length == whole {
                take(raw);
                bytes.head = None;
            }
        }
        return Ok(length);
    }
}

/// What stands at the head of the queue.
enum Look {
    /// Bytes, so many, of which so many were given before.
    Body(usize, usize),
    /// Nothing of the stream.
    Nothing,
    /// The last thing to be told.
    Over(Result<usize, Errno>),
}

/// Copies what `buffer` has room for of the datagram at the head of the queue.
fn look(
    reading: &Reading,
    bytes: &mut Bytes,
    raw: i32,
    buffer: &mut [u8],
    behind: &mut [u8],
) -> Result<Look, Errno> {
    if let Some((head, given)) = bytes.head {
        let length = recv_parts(raw, &mut [], behind, false, true)?.length;
        let whole = length.saturating_sub(TRAILER_LEN);
        let rest = behind.get(given..whole);
        if let Some(rest) = rest.filter(|_| trailer(length, &[], behind) == Some(head)) {
            for (to, from) in buffer.iter_mut().zip(rest) {
                *to = *from;
            }
            return Ok(Look::Body(whole, given));
        }
        // Another process that holds the socket has taken it.
        bytes.head = None;
    }
    let length = recv_parts(raw, buffer, behind, false, true)?.length;
    if length == 0 {
        // The filter admits nothing that is empty: the socket was shut down.
        return Ok(Look::Over(Ok(0)));
    }
    Ok(match reading.hear(length, buffer, behind) {
        Heard::Body(0) | Heard::Nothing => Look::Nothing,
        Heard::End => Look::Over(Ok(0)),
        Heard::Body(whole) => {
            let head = trailer(length, buffer, behind);
            let token = head.map(|head| head.token);
            if bytes.token.is_some() && bytes.token != token {
                return Ok(Look::Over(Err(Errno::ECONNRESET)));
            }
            bytes.token = token;
            bytes.head = head.map(|head| (head, 0));
            Look::Body(whole, 0)
        }
    })
}

/// Takes the datagram at the head off the queue.
fn take(raw: i32) {
    // A failure leaves it there, to be told as what came twice.
    let _ = recv_parts(raw, &mut [], &mut [], false, false);
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use flexcast_udp::{process, send_one, Class, UdpSocket};
    use flexcast_udp::{process::PollFd, Family};
    use flexcast_wire::{Kind, Sequence, Trailer};

    use super::super::reading::LONGEST;
    use super::*;

    struct Room {
        socket: UdpSocket,
        at: SocketAddr,
        reading: Reading,
    }

    impl Room {
        fn new() -> Room {
            let socket = UdpSocket::new(Family::V4).unwrap();
            socket
                .bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))
                .unwrap();
            Room {
                at: socket.local_addr().unwrap(),
                socket,
                reading: Reading::new().unwrap(),
            }
        }

        fn arrives(&self, token: u64, sequence: u32, kind: Kind, body: &[u8]) {
            let sequence = Sequence(sequence);
            let trailer = Trailer {
                token,
                sequence,
                kind,
            };
            let parts = [body, &trailer.bytes()];
            send_one(&self.socket, self.at, None, Class::Stream, &parts).unwrap();
        }

        fn read(&self, room: usize, peek: bool) -> Result<Vec<u8>, Errno> {
            let mut buffer = vec![0; room];
            let mut behind = vec![0; LONGEST];
            let raw = self.socket.as_raw();
            let length = next(&self.reading, raw, &mut buffer, &mut behind, peek)?;
            buffer.truncate(length);
            Ok(buffer)
        }

        fn is_readable(&self) -> bool {
            let mut readable = [PollFd::new(self.socket.as_raw(), PollFd::IN)];
            process::poll(&mut readable, Some(0)).unwrap() == 1
        }
    }

    #[test]
    fn a_short_buffer_gets_the_rest_later_and_the_socket_stays_readable_meanwhile() {
        let room = Room::new();
        room.arrives(7, 1, Kind::Data, b"0123456789");
        room.arrives(7, 2, Kind::Data, b"ab");
        assert_eq!(room.read(4, true).unwrap(), b"0123", "a look takes nothing");
        assert_eq!(room.read(4, false).unwrap(), b"0123");
        assert!(room.is_readable());
        assert_eq!(room.read(4, true).unwrap(), b"4567");
        assert_eq!(room.read(5, false).unwrap(), b"45678");
        assert!(room.is_readable());
        assert_eq!(
            room.read(9, false).unwrap(),
            b"9",
            "no further than it goes"
        );
        assert_eq!(room.read(2, false).unwrap(), b"ab", "as long as the buffer");
        assert!(!room.is_readable());
        assert_eq!(room.read(9, false), Err(Errno::EAGAIN));
        let counts = room.reading.counts();
        assert_eq!((counts.datagrams, counts.bytes), (2, 12));
    }

    #[test]
    fn what_comes_twice_and_what_is_empty_or_foreign_is_no_part_of_it() {
        let room = Room::new();
        room.arrives(7, 1, Kind::Data, b"ab");
        room.arrives(7, 1, Kind::Data, b"ab");
        room.arrives(7, 2, Kind::Data, b"");
        send_one(&room.socket, room.at, None, Class::Stream, &[b"?"]).unwrap();
        room.arrives(7, 3, Kind::Data, b"cd");
        assert_eq!(room.read(9, false).unwrap(), b"ab");
        assert_eq!(room.read(9, false).unwrap(), b"cd");
        let counts = room.reading.counts();
        assert_eq!((counts.duplicates, counts.foreign), (1, 1));
    }

    #[test]
    fn the_rest_of_a_datagram_that_another_took_is_not_looked_for_in_the_next() {
        let room = Room::new();
        room.arrives(7, 1, Kind::Data, b"0123456789");
        room.arrives(7, 2, Kind::Data, b"abcdefghij");
        assert_eq!(room.read(4, false).unwrap(), b"0123");
        take(room.socket.as_raw());
        assert_eq!(room.read(4, false).unwrap(), b"abcd");
    }

    #[test]
    fn the_end_is_told_again_and_again_and_keeps_the_socket_readable() {
        let room = Room::new();
        room.arrives(7, 1, Kind::Data, b"ab");
        room.arrives(7, 2, Kind::End, b"");
        room.arrives(8, 1, Kind::Data, b"of another stream");
        assert_eq!(room.read(1, false).unwrap(), b"a");
        assert_eq!(room.read(9, false).unwrap(), b"b");
        for _ in 0..3 {
            assert!(room.is_readable());
            assert_eq!(room.read(9, false).unwrap(), b"");
        }
    }

    #[test]
    fn a_stream_that_another_takes_the_place_of_is_reset() {
        let room = Room::new();
        room.arrives(7, 1, Kind::Data, b"ab");
        room.arrives(8, 1, Kind::Data, b"cd");
        assert_eq!(room.read(9, false).unwrap(), b"ab");
        for _ in 0..2 {
            assert_eq!(room.read(9, false), Err(Errno::ECONNRESET));
            assert!(room.is_readable());
        }
    }
}
