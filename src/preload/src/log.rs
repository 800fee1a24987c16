//! `FLEXCAST_LOG=LEVEL[,FILE]`: lines to standard error or a file.
//!
//! Promises: silent unless asked; raw writes, one a line, no lock, and no descriptor
//! kept (the file is opened for each line). Is not for packets: those are counted.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use ::log::{LevelFilter, Metadata, Record};
use flexcast_rules::{Log, LogLevel};
use flexcast_runtime::kernel::{boottime_us, pid, raw};
use flexcast_runtime::Errno;

/// The logger; leaked, since the facade keeps it for ever.
struct Lines {
    level: LevelFilter,
    /// The file's path, ending in NUL; none: standard error.
    file: Option<Vec<u8>>,
}

/// Starts logging as `wanted`.
pub(crate) fn start(wanted: &Log) {
    let level = match wanted.level {
        LogLevel::Off => LevelFilter::Off,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    };
    let file = wanted.file.as_ref().map(|path| {
        let mut path = path.as_os_str().as_bytes().to_vec();
        path.push(0);
        path
    });
    // A second start (two threads at once) finds the first one's.
    if ::log::set_logger(Box::leak(Box::new(Lines { level, file }))).is_ok() {
        ::log::set_max_level(level);
    }
}

/// One line on standard error, asked for or not.
pub(crate) fn say(line: &str) {
    put(2, format!("flexcast: {line}\n").as_bytes());
}

impl ::log::Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (now, level) = (boottime_us(), record.level());
        let mut line = String::new();
        let (seconds, millis) = (now / 1_000_000, now / 1_000 % 1_000);
        // Writing to a string cannot fail.
        let _ = writeln!(
            line,
            "flexcast[{}] {seconds}.{millis:03} {level} {}",
            pid(),
            record.args()
        );
        match &self.file {
            None => put(2, line.as_bytes()),
            Some(path) => append(path, line.as_bytes()),
        }
    }

    fn flush(&self) {}
}

fn append(path: &[u8], line: &[u8]) {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY;
    let (directory, at) = (raw::int(libc::AT_FDCWD), path.as_ptr() as usize);
    // SAFETY: the path ends in NUL.
    let opened = unsafe {
        raw::call(
            libc::SYS_openat,
            [directory, at, raw::int(flags), 0o644, 0, 0],
        )
    };
    if let Ok(fd) = opened {
        let number = i32::try_from(fd).unwrap_or(-1);
        put(number, line);
        // SAFETY: opened above, and nobody else's.
        let _ = unsafe { raw::call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]) };
    }
}

fn put(fd: i32, mut line: &[u8]) {
    while !line.is_empty() {
        let words = [raw::int(fd), line.as_ptr() as usize, line.len(), 0, 0, 0];
        // SAFETY: the kernel reads a slice that is alive.
        match unsafe { raw::call(libc::SYS_write, words) } {
            Ok(0) => return,
            Ok(written) => line = &line[written.min(line.len())..],
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
