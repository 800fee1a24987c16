//! Who keeps a socket that several processes hold: after a fork they share the kernel's
//! socket, and one of them asks, or answers, for all.
//!
//! ```text
//!   keeper: listens under the socket's name ◄── connection ── heirs, in other processes
//!      │ closes its number, exits, is killed: every connection ends
//!      └──► heirs: the first to take the name is the keeper, the others connect to it
//! ```
//! The name is random, abstract, and known to a child from its parent's memory.
//! Promises: one keeper a name; nobody polls. Is not what keeping means (`receive`).

use std::rc::Rc;

use flexcast_udp::process::{self, Epoll, Interest};
use flexcast_udp::unix::{Listener, Stream};
use flexcast_udp::Errno;

/// What keeper and heirs say to each other, one byte a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    /// Keeper → heir: the stream has ended.
    Ended,
    /// Keeper → heir: it is refused for good.
    Refused,
    /// Keeper → heir: it is not, or no longer.
    Welcome,
    /// Heir → keeper: somebody here waits who has not heard of it.
    Wake,
}

impl Word {
    const ALL: [Word; 4] = [Word::Ended, Word::Refused, Word::Welcome, Word::Wake];

    fn byte(self) -> u8 {
        match self {
            Word::Ended => b'e',
            Word::Refused => b'r',
            Word::Welcome => b'w',
            Word::Wake => b'!',
        }
    }

    fn read(byte: u8) -> Option<Word> {
        Word::ALL.into_iter().find(|word| word.byte() == byte)
    }
}

/// What came of reading a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Word(Word),
    Nothing,
    Gone,
}

/// A name that nobody guesses.
///
/// # Errors
/// As getrandom(2).
pub(crate) fn fresh_name() -> Result<Vec<u8>, Errno> {
    Ok(format!("flexcast-keep/{:016x}", process::random_u64()?).into_bytes())
}

/// The keeper's side.
#[derive(Debug)]
pub(crate) struct Keeper {
    listener: Listener,
    heirs: Vec<Stream>,
    epoll: Rc<Epoll>,
    token: u64,
}

impl Keeper {
    /// Becomes the keeper; what heirs do is told by events with `token`.
    ///
    /// # Errors
    /// `EADDRINUSE` where another process is.
    pub(crate) fn new(name: &[u8], epoll: Rc<Epoll>, token: u64) -> Result<Keeper, Errno> {
        let listener = Listener::bind(name)?;
        epoll.add(listener.fd.as_raw(), token, Interest::READ)?;
        Ok(Keeper {
            listener,
            heirs: Vec::new(),
            epoll,
            token,
        })
    }

    /// Takes in who came, who went, and what was said; whether somebody asks to be
    /// woken.
    pub(crate) fn attend(&mut self) -> bool {
        while let Ok(stream) = self.listener.accept() {
            let watched = || {
                let raw = stream.fd.as_raw();
                self.epoll.add(raw, self.token, Interest::READ).is_ok()
            };
            if is_friend(&stream) && watched() {
                self.heirs.push(stream);
            }
        }
        let mut wake = false;
        self.heirs.retain(|heir| loop {
            match hear(heir) {
                Said::Word(word) => wake |= word == Word::Wake,
                Said::Nothing => break true,
                Said::Gone => break false,
            }
        });
        wake
    }

    /// Whether another process waits to take over.
    pub(crate) fn has_heirs(&mut self) -> bool {
        self.attend();
        !self.heirs.is_empty()
    }

    /// Tells every heir.
    pub(crate) fn tell(&self, word: Word) {
        for heir in &self.heirs {
            say(heir, word);
        }
    }
}

/// An heir's connection to the keeper.
///
/// # Errors
/// `ECONNREFUSED` where nobody keeps the socket, `EPERM` where a stranger does.
pub(crate) fn follow(name: &[u8]) -> Result<Stream, Errno> {
    let stream = Stream::connect(name)?;
    match is_friend(&stream) {
        true => Ok(stream),
        false => Err(Errno::EPERM),
    }
}

/// The next word of the other end.
pub(crate) fn hear(stream: &Stream) -> Said {
    let mut byte = [0];
    match stream.recv(&mut byte) {
        Ok((0, _)) => Said::Gone,
        Ok(_) => Word::read(byte[0]).map_or(Said::Nothing, Said::Word),
        Err(Errno::EAGAIN | Errno::EINTR) => Said::Nothing,
        Err(_) => Said::Gone,
    }
}

/// Says a word; one that finds no room is lost, as it is where nobody listens.
pub(crate) fn say(stream: &Stream, word: Word) {
    if let Err(errno) = stream.send(&[word.byte()], &[]) {
        log::debug!("a shared socket: {word:?} was not told: {errno}");
    }
}

fn is_friend(stream: &Stream) -> bool {
    let peer = stream.peer();
    peer.is_ok_and(|peer| peer.uid == 0 || peer.uid == process::uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heirs_hear_the_keeper_and_one_of_them_follows_it() {
        let epoll = Rc::new(Epoll::new().unwrap());
        let name = fresh_name().unwrap();
        assert_eq!(follow(&name).err(), Some(Errno::ECONNREFUSED));
        let mut keeper = Keeper::new(&name, epoll.clone(), 1).unwrap();
        assert!(!keeper.has_heirs());
        let heirs = [follow(&name).unwrap(), follow(&name).unwrap()];
        assert!(keeper.has_heirs());
        let taken = Keeper::new(&name, epoll.clone(), 2);
        assert_eq!(taken.err(), Some(Errno::EADDRINUSE));
        for word in [Word::Ended, Word::Refused, Word::Welcome] {
            keeper.tell(word);
            for heir in &heirs {
                assert_eq!(hear(heir), Said::Word(word));
                assert_eq!(hear(heir), Said::Nothing);
            }
        }
        say(&heirs[1], Word::Wake);
        assert!(keeper.attend() && !keeper.attend());
        let [first, second] = heirs;
        drop(first);
        assert!(keeper.has_heirs(), "one is left");
        drop(keeper);
        assert_eq!(hear(&second), Said::Gone);
        let mut next = Keeper::new(&name, epoll, 2).unwrap();
        assert!(!next.has_heirs());
    }
}
