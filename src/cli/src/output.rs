//! Where received datagrams are written: standard output or a file.
//!
//! Promises: datagrams in one piece after the other, nothing between them; a reader
//! that stalls does not make the command deaf to signals; a reader that is gone is
//! told apart from a failure. Is not framing: boundaries are the reader's to know.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use flexcast_udp::process::{poll, PollFd};
use rustix::fs::FileType;

use crate::failure::Failure;

/// Bytes gathered before a write.
const GATHERED: usize = 128 * 1024;
/// What a pipe that polls writable takes without blocking (`PIPE_BUF`).
const PIECE: usize = 4096;

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
    /// A pipe, a terminal, a socket: what can stall.
    stalls: bool,
    signals: i32,
    gathered: Vec<u8>,
}

impl Output {
    /// Opens FILE, emptied; standard output without one.
    pub(crate) fn open(path: Option<&Path>) -> Result<Output, Failure> {
        let name = path.unwrap_or(Path::new("standard output")).to_owned();
        let failed = |error| Failure::Output {
            path: name.clone(),
            error,
        };
        let file = match path {
            Some(path) => File::create(path),
            None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        }
        .map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
        let stalls = !matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::RegularFile | FileType::BlockDevice
        );
        Ok(Output {
            file,
            name,
            stalls,
            signals: -1,
            gathered: Vec::with_capacity(GATHERED),
        })
    }

    /// Gives up stalled writes when this descriptor becomes readable.
    pub(crate) fn heed(&mut self, signals: i32) {
        self.signals = signals;
    }

    /// To be polled for nothing but errors: they say that nobody reads any more.
    pub(crate) fn watch(&self) -> PollFd {
        let raw = if self.stalls {
            self.file.as_raw_fd()
        } else {
            -1
        };
        PollFd::new(raw, 0)
    }

    /// Takes a datagram.
    pub(crate) fn push(&mut self, datagram: &[u8]) -> Result<(), Stop> {
        if self.gathered.len() + datagram.len() > GATHERED {
            self.flush()?;
        }
        self.gathered.extend_from_slice(datagram);
        Ok(())
    }

    /// Writes what was gathered.
    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        let mut written = 0;
        let outcome = loop {
            let rest = &self.gathered[written..];
            if rest.is_empty() {
                break Ok(());
            }
            let piece = match self.stalls {
                true if !self.await_reader() => break Err(Stop::Signal),
                true => &rest[..rest.len().min(PIECE)],
                false => rest,
            };
            match (&self.file).write(piece) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A descriptor that somebody else has set non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    break Err(Stop::NobodyReads);
                }
                Err(error) => {
                    let path = self.name.clone();
                    break Err(Stop::Failed(Failure::Output { path, error }));
                }
            }
        };
        self.gathered.clear();
        outcome
    }

    /// Waits until the reader takes more; false where a signal came first.
    fn await_reader(&self) -> bool {
        let mut ready = [
            PollFd::new(self.file.as_raw_fd(), PollFd::OUT),
            PollFd::new(self.signals, PollFd::IN),
        ];
        loop {
            match poll(&mut ready, None) {
                Ok(_) if ready[0].is_writable() => return true,
                Ok(_) if ready[1].is_readable() => return false,
                Ok(_) => {}
                // Cannot be waited for: then writing will tell.
                Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    fn pipe() -> (File, Output) {
        let (reader, writer) = io::pipe().unwrap();
        let output = Output {
            file: OwnedFd::from(writer).into(),
            name: "pipe".into(),
            stalls: true,
            signals: -1,
            gathered: Vec::new(),
        };
        (OwnedFd::from(reader).into(), output)
    }

    #[test]
    fn datagrams_follow_each_other_without_anything_between() {
        let (mut reader, mut output) = pipe();
        output.push(b"one").unwrap();
        output.push(b"").unwrap();
        output.push(b"two").unwrap();
        output.flush().unwrap();
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
    }

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        let (reader, mut output) = pipe();
        drop(reader);
        output.push(b"one").unwrap();
        assert!(matches!(output.flush(), Err(Stop::NobodyReads)));
    }

    #[test]
    fn a_signal_ends_a_write_that_stalls() {
        let (_reader, mut output) = pipe();
        let (mut wake, woken) = io::pipe().map(|(r, w)| (w, r)).unwrap();
        wake.write_all(b"!").unwrap();
        output.heed(woken.as_raw_fd());
        // More than any pipe holds, with nobody reading.
        output.gathered = vec![0; 4 << 20];
        assert!(matches!(output.flush(), Err(Stop::Signal)));
    }

    #[test]
    fn a_full_device_is_a_failure_with_its_name() {
        let mut output = Output::open(Some(Path::new("/dev/full"))).unwrap();
        output.push(b"one").unwrap();
        match output.flush() {
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
