//! Where received datagrams are written: standard output or a file.
//!
//! ```text
//!   push ──► gathered, up to 32 MiB ──► what the reader takes without waiting
//!                                       above that: waits for the reader
//! ```
//! Promises: datagrams in one piece after the other, nothing between them; a reader
//! that stalls for a moment loses nothing, and one that stalls for long does not make
//! the command deaf to signals; a reader that is gone is told apart from a failure.
//! Is not framing: boundaries are the reader's to know.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flexcast_udp::process::{poll, PollFd};
use rustix::fs::{FileType, Mode, OFlags};

use crate::failure::Failure;

/// Bytes gathered before a write.
const GATHERED: usize = 128 * 1024;
/// Bytes kept for a reader that does not take them.
const KEPT: usize = 32 << 20;
/// What a pipe that polls writable takes without blocking (`PIPE_BUF`).
const PIECE: usize = 4096;
/// How long a command that was interrupted waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why no more is written.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody reads any more.
    NobodyReads,
    /// A signal came while the reader stalled.
    Signal,
    /// The file or device failed.
    Failed(Failure),
}

/// An open output.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    name: PathBuf,
    stalls: Stalls,
    signals: i32,
    gathered: Vec<u8>,
    /// Of these: bytes that are written.
    written: usize,
}

/// Whether a write may block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stalls {
    /// A file on a disk: not for long.
    Never,
    /// A terminal, a socket: a write above [`PIECE`] might.
    AbovePiece,
    /// A pipe, opened anew without blocking: nobody else's pipe is changed by that.
    ByError,
}

impl Output {
    /// Opens FILE, emptied; standard output without one.
    pub(crate) fn open(path: Option<&Path>) -> Result<Output, Failure> {
        let name = path.unwrap_or(Path::new("standard output")).to_owned();
        let file = match path {
            Some(path) => File::create(path),
            None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        };
        file.and_then(|file| Output::of(file, name.clone()))
            .map_err(|error| Failure::Output { path: name, error })
    }

    fn of(file: File, name: PathBuf) -> io::Result<Output> {
        let stat = rustix::fs::fstat(&file)?;
        let (file, stalls) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::BlockDevice => (file, Stalls::Never),
            FileType::Fifo => match anew(&file) {
                Ok(anew) => (anew, Stalls::ByError),
                Err(_) => (file, Stalls::AbovePiece),
            },
            _ => (file, Stalls::AbovePiece),
        };
        Ok(Output {
            file,
            name,
            stalls,
            signals: -1,
            gathered: Vec::with_capacity(GATHERED),
            written: 0,
        })
    }

    /// Gives up waiting for the reader when this descriptor becomes readable.
    pub(crate) fn heed(&mut self, signals: i32) {
        self.signals = signals;
    }

    /// To be polled: for room where something is left to write, and else for errors
    /// alone, which say that nobody reads any more.
    pub(crate) fn watch(&self) -> PollFd {
        match (self.stalls, self.left()) {
            (Stalls::Never, _) => PollFd::new(-1, 0),
            (_, 0) => PollFd::new(self.file.as_raw_fd(), 0),
            (_, _) => PollFd::new(self.file.as_raw_fd(), PollFd::OUT),
        }
    }

    fn left(&self) -> usize {
        self.gathered.len() - self.written
    }

    /// Takes a datagram.
    pub(crate) fn push(&mut self, datagram: &[u8]) -> Result<(), Stop> {
        self.gathered.extend_from_slice(datagram);
        if self.gathered.len() < GATHERED {
            return Ok(());
        }
        self.write()?;
        // What is written makes room once it is the larger part.
        if self.written > self.left() {
            self.gathered.drain(..self.written);
            self.written = 0;
        }
        while self.left() > KEPT {
            self.await_reader(None)?;
            self.write()?;
        }
        Ok(())
    }

    /// Writes what the reader takes without waiting.
    pub(crate) fn write(&mut self) -> Result<(), Stop> {
        while self.left() > 0 {
            let rest = &self.gathered[self.written..];
            let piece = match self.stalls {
                Stalls::Never | Stalls::ByError => rest,
                Stalls::AbovePiece if !self.has_room() => return Ok(()),
                Stalls::AbovePiece => &rest[..rest.len().min(PIECE)],
            };
            match (&self.file).write(piece) {
                Ok(count) => self.written += count,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::BrokenPipe => return Err(Stop::NobodyReads),
                    _ => {
                        let path = self.name.clone();
                        return Err(Stop::Failed(Failure::Output { path, error }));
                    }
                },
            }
        }
        self.gathered.clear();
        self.written = 0;
        Ok(())
    }

    /// Writes all that is left. Where the command was `interrupted`, a reader that
    /// takes nothing for a second gets no more.
    pub(crate) fn finish(&mut self, interrupted: bool) -> Result<(), Stop> {
        loop {
            self.write()?;
            if self.left() == 0 {
                return Ok(());
            }
            self.await_reader(interrupted.then(|| Instant::now() + PATIENCE))?;
        }
    }

    fn has_room(&self) -> bool {
        let mut ready = [PollFd::new(self.file.as_raw_fd(), PollFd::OUT)];
        // What cannot be waited for will tell when it is written.
        poll(&mut ready, Some(0)).is_err() || ready[0].is_writable()
    }

    /// Waits until the reader takes more, a signal comes, or time is over.
    fn await_reader(&self, until: Option<Instant>) -> Result<(), Stop> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(Stop::Signal);
            }
            let us = left.map(|left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX));
            let mut ready = [
                PollFd::new(self.file.as_raw_fd(), PollFd::OUT),
                PollFd::new(self.signals, PollFd::IN),
            ];
            match poll(&mut ready, us) {
                Ok(_) if ready[0].is_writable() => return Ok(()),
                Ok(_) if ready[1].is_readable() => return Err(Stop::Signal),
                Ok(_) => {}
                Err(errno) => {
                    let path = self.name.clone();
                    let error = errno.into();
                    return Err(Stop::Failed(Failure::Output { path, error }));
                }
            }
        }
    }
}

/// The same pipe, with a mode of its own.
fn anew(pipe: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn pipe() -> (File, Output) {
        let (reader, writer) = io::pipe().unwrap();
        let writer = OwnedFd::from(writer).into();
        let output = Output::of(writer, "pipe".into()).unwrap();
        (OwnedFd::from(reader).into(), output)
    }

    /// As a terminal or a socket is written to.
    fn piecewise() -> (File, Output) {
        let (reader, writer) = io::pipe().unwrap();
        let output = Output {
            file: OwnedFd::from(writer).into(),
            name: "pipe".into(),
            stalls: Stalls::AbovePiece,
            signals: -1,
            gathered: Vec::new(),
            written: 0,
        };
        (OwnedFd::from(reader).into(), output)
    }

    #[test]
    fn datagrams_follow_each_other_without_anything_between() {
        for (mut reader, mut output) in [pipe(), piecewise()] {
            output.push(b"one").unwrap();
            output.push(b"").unwrap();
            output.push(b"two").unwrap();
            output.finish(false).unwrap();
            drop(output);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "onetwo");
        }
    }

    #[test]
    fn a_reader_that_stalls_loses_nothing() {
        for (mut reader, mut output) in [pipe(), piecewise()] {
            let sent: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
            for datagram in sent.chunks(1316) {
                output.push(datagram).unwrap();
            }
            assert!(output.left() > 4 << 20, "nobody has read yet");
            let reading = std::thread::spawn(move || {
                let mut got = Vec::new();
                reader.read_to_end(&mut got).unwrap();
                got
            });
            output.finish(false).unwrap();
            drop(output);
            assert!(reading.join().unwrap() == sent);
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        for (reader, mut output) in [pipe(), piecewise()] {
            drop(reader);
            output.push(b"one").unwrap();
            assert!(matches!(output.write(), Err(Stop::NobodyReads)));
        }
    }

    #[test]
    fn a_signal_ends_waiting_for_a_reader_and_so_does_patience() {
        for (_reader, mut output) in [pipe(), piecewise()] {
            output.gathered = vec![0; KEPT];
            output.push(b"").unwrap();
            assert!(output.left() > 0, "no pipe holds that much");
            let begun = Instant::now();
            assert!(matches!(output.finish(true), Err(Stop::Signal)));
            assert!(begun.elapsed() >= PATIENCE);

            let (woken, mut wake) = io::pipe().unwrap();
            wake.write_all(b"!").unwrap();
            output.heed(woken.as_raw_fd());
            assert!(matches!(output.push(&[0; 1 << 20]), Err(Stop::Signal)));
        }
    }

    #[test]
    fn a_full_device_is_a_failure_with_its_name() {
        let mut output = Output::open(Some(Path::new("/dev/full"))).unwrap();
        output.push(b"one").unwrap();
        match output.finish(false) {
            Err(Stop::Failed(failure)) => {
                let text = failure.to_string();
                assert!(
                    text.contains("/dev/full") && text.contains("space"),
                    "{text}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
