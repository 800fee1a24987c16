//! The `FLEXCAST_*` variables as they were when the library was loaded.
//!
//! Promises: read once, before the program can change or unset them; a process that
//! has none costs a walk over its environment and nothing more. Is not the meaning
//! (crate `rules`).

use std::ffi::{c_char, CStr};
use std::sync::atomic::{AtomicPtr, Ordering};

extern "C" {
    static environ: *const *const c_char;
}

type Variables = Vec<(String, String)>;

static KEPT: AtomicPtr<Variables> = AtomicPtr::new(std::ptr::null_mut());

/// Keeps them; called once, by the constructor. Gives whether there are any: also a
/// misspelt one has to be looked at, sooner or later.
pub(crate) fn keep() -> bool {
    let found = read();
    if found.is_empty() {
        return false;
    }
    KEPT.store(Box::into_raw(Box::new(found)), Ordering::Release);
    true
}

/// What was kept.
pub(crate) fn kept() -> &'static [(String, String)] {
    // SAFETY: null, or leaked by `keep` and never changed.
    let kept = unsafe { KEPT.load(Ordering::Acquire).as_ref() };
    kept.map_or(&[], |kept| kept.as_slice())
}

fn read() -> Variables {
    let mut found = Vec::new();
    // SAFETY: the C library's variable; other threads do not run yet.
    let mut at = unsafe { environ };
    while !at.is_null() {
        // SAFETY: the array ends in a null pointer, which ends this loop.
        let entry = unsafe { *at };
        if entry.is_null() {
            break;
        }
        // SAFETY: entries are strings that end in NUL.
        let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
        if entry.starts_with(b"FLEXCAST_") {
            let text = String::from_utf8_lossy(entry);
            if let Some((name, value)) = text.split_once('=') {
                found.push((name.to_owned(), value.to_owned()));
            }
        }
        // SAFETY: this entry was not the last one.
        at = unsafe { at.add(1) };
    }
    found
}
