//! Bytes of whatever kind, read as datagrams:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run parse fuzz/corpus/parse fuzz/seeds` in `src/wire`.
//!
//! Promises: any panic, failed assertion or sanitizer's complaint is a finding.
//! Is not: what is asserted (`check.rs`, which `cargo test` runs as well).
#![no_main]

#[path = "../check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    let _ = check::check(datagram);
});
