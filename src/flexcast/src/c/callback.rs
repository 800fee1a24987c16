//! `FLEXCAST_ON_REQUEST`: a C function that decides who is let in.
//!
//! Promises: what it is shown is good as long as it runs. Is not when it is asked
//! (`runtime`).

use std::ffi::{c_int, c_void};

use flexcast_runtime::kernel::Family;
use flexcast_runtime::send::{Applicant, Guard};
use flexcast_runtime::Errno;

use super::address;

/// `struct flexcast_request`.
#[repr(C)]
struct Request {
    /// `struct flexcast_channel6`, whose words are aligned as this is.
    channel: [u64; 3],
    requester: [u64; 16],
    credential: *const c_void,
    credential_length: usize,
}

type Callback = unsafe extern "C" fn(*const Request, *mut c_void) -> c_int;

/// `struct flexcast_on_request`.
#[repr(C)]
#[derive(Clone, Copy)]
struct OnRequest {
    callback: Option<Callback>,
    argument: *mut c_void,
}

// SAFETY: the argument is the program's; it was told that another thread passes it on.
unsafe impl Send for OnRequest {}
// SAFETY: as above; questions are put one at a time.
unsafe impl Sync for OnRequest {}

/// What the option's value names; none where its function is null.
///
/// # Safety
/// The function may be called, with its argument, from another thread, as long as
/// anything listens that was told of it.
pub(super) unsafe fn guard(value: &[u8]) -> Result<Option<Guard>, Errno> {
    if value.len() != size_of::<OnRequest>() {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the length is right, the struct is two words of C's, and any alignment
    // will do.
    let on_request: OnRequest = unsafe { std::ptr::read_unaligned(value.as_ptr().cast()) };
    let guard = |callback| Guard::new(move |applicant| ask(callback, &on_request, applicant));
    Ok(on_request.callback.map(guard))
}

fn ask(callback: Callback, on_request: &OnRequest, applicant: &Applicant) -> bool {
    let words = |bytes: &[u8], words: &mut [u64]| {
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
        }
    };
    let mut requester = [0; 128];
    address::write_socket(applicant.address, &mut requester);
    let credential = applicant.credential.as_bytes();
    let mut request = Request {
        channel: [0; 3],
        requester: [0; 16],
        credential: credential.as_ptr().cast(),
        credential_length: credential.len(),
    };
    let channel = address::write(applicant.channel.into(), Family::V6);
    words(&channel, &mut request.channel);
    words(&requester, &mut request.requester);
    // SAFETY: the program named this function for this; the request lives through it.
    unsafe { callback(&raw const request, on_request.argument) != 0 }
}
