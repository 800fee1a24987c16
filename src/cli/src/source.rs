//! Where `send` takes its datagrams from: standard input or a file, cut into pieces.
//!
//! Promises: pieces of the size asked for, the last one shorter; reads only when
//! something is there, so that signals are heard. Is not a reader of formats: what
//! must stay together in one datagram (7 × 188 bytes of MPEG-TS) is the size's matter.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Datagrams read at once.
const RUN: usize = 64;

/// An open source.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    name: PathBuf,
    size: usize,
    /// Each read is a datagram: what people type.
    by_reads: bool,
    buffer: Vec<u8>,
    /// The part of the buffer that is filled and not taken yet.
    start: usize,
    end: usize,
    over: bool,
}

impl Source {
    /// Opens FILE, or standard input, to be cut into pieces of `size` bytes.
    pub(crate) fn open(path: Option<&Path>, size: usize) -> Result<Source, Failure> {
        let path = path.filter(|path| *path != Path::new("-"));
        let name = path.unwrap_or(Path::new("standard input")).to_owned();
        let by_reads = path.is_none() && io::stdin().is_terminal();
        let opened = match path {
            Some(path) => File::open(path),
            None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        let is_folder = |file: &File| file.metadata().is_ok_and(|data| data.is_dir());
        let opened = opened.and_then(|file| match is_folder(&file) {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        let file = opened.map_err(|error| Failure::Read {
            path: name.clone(),
            error,
        })?;
        Ok(Source {
            file,
            name,
            size,
            by_reads,
            buffer: vec![0; RUN * size],
            start: 0,
            end: 0,
            over: false,
        })
    }

    /// To be waited for before [`Source::fill`].
    pub(crate) fn as_raw(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// Bytes of a whole datagram.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether a datagram can be taken.
    pub(crate) fn has_datagram(&self) -> bool {
        let filled = self.end - self.start;
        filled >= self.size || (filled > 0 && (self.over || self.by_reads))
    }

    /// Whether everything was taken and nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.over && self.start == self.end
    }

    /// Reads once.
    pub(crate) fn fill(&mut self) -> Result<(), Failure> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = match self.by_reads {
            true => self.size,
            false => self.buffer.len(),
        };
        match self.file.read(&mut self.buffer[self.end..room]) {
            Ok(0) => self.over = true,
            Ok(count) => self.end += count,
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {}
                // The other side of a terminal has closed.
                _ if self.by_reads && error.raw_os_error() == Some(5) => self.over = true,
                _ => {
                    let path = self.name.clone();
                    return Err(Failure::Read { path, error });
                }
            },
        }
        Ok(())
    }

    /// Up to `most` datagrams that are there; gone by the next call.
    pub(crate) fn take(&mut self, most: usize) -> Vec<&[u8]> {
        let filled = &self.buffer[self.start..self.end];
        let whole = match self.over || self.by_reads {
            true => filled.len(),
            false => filled.len() / self.size * self.size,
        };
        let wanted = whole.min(most.saturating_mul(self.size));
        self.start += wanted;
        filled[..wanted].chunks(self.size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    fn fed(size: usize) -> (io::PipeWriter, Source) {
        let (reader, writer) = io::pipe().unwrap();
        let source = Source {
            file: OwnedFd::from(reader).into(),
            name: "pipe".into(),
            size,
            by_reads: false,
            buffer: vec![0; RUN * size],
            start: 0,
            end: 0,
            over: false,
        };
        (writer, source)
    }

    #[test]
    fn what_comes_in_drops_is_cut_into_whole_pieces() {
        let (mut writer, mut source) = fed(4);
        writer.write_all(b"abc").unwrap();
        source.fill().unwrap();
        assert!(!source.has_datagram(), "three bytes of four");
        writer.write_all(b"defghij").unwrap();
        source.fill().unwrap();
        assert_eq!(source.take(1), [b"abcd"]);
        assert_eq!(source.take(9), [b"efgh"]);
        assert!(!source.has_datagram() && !source.is_over());
        drop(writer);
        source.fill().unwrap();
        assert!(source.has_datagram());
        assert_eq!(source.take(9), [b"ij"], "the last one is shorter");
        assert!(source.is_over());
    }

    #[test]
    fn a_stream_is_the_same_in_pieces_as_in_one() {
        let (mut writer, mut source) = fed(7);
        let sent: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let copy = sent.clone();
        let feeder = std::thread::spawn(move || {
            for piece in copy.chunks(333) {
                writer.write_all(piece).unwrap();
            }
        });
        let mut got = Vec::new();
        while !source.is_over() {
            source.fill().unwrap();
            for datagram in source.take(3) {
                assert!(datagram.len() == 7 || got.len() + datagram.len() == sent.len());
                got.extend_from_slice(datagram);
            }
        }
        feeder.join().unwrap();
        assert_eq!(got, sent);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for path in ["/nowhere/at/all", "/"] {
            let error = Source::open(Some(Path::new(path)), 1).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
