//! What must hold for any bytes that are read as a datagram.
//!
//! Promises: one function for the fuzzer and for `cargo test`; it panics where
//! reading and writing disagree. Is not: a source of bytes.
#![allow(unreachable_pub)] // a module of two programs

use flexcast_wire::{Body, Control, Kind, Malformed, Trailer, TRAILER_LEN};

/// Reads `datagram` in every way; the control message, or the one reason against it.
pub fn check(datagram: &[u8]) -> Result<Control<'_>, Malformed> {
    match Trailer::split(datagram) {
        Ok((body, trailer)) => {
            let mut again = body.to_vec();
            again.extend_from_slice(&trailer.bytes());
            assert_eq!(again, datagram, "split and joined");
            assert!(trailer.token != 0);
            assert!(trailer.kind != Kind::End || body.is_empty());
        }
        Err(reason) => {
            assert_eq!(Control::parse(datagram), Err(reason), "the same reason");
        }
    }
    let read = Control::parse(datagram);
    match &read {
        Ok(control) => check_control(datagram, control),
        Err(reason) => assert!(Malformed::ALL[reason.index()] == *reason),
    }
    read
}

fn check_control(datagram: &[u8], control: &Control<'_>) {
    let mut written = Vec::new();
    control.emit(&mut written);
    // Unknown options and reserved bytes are all that may have gone.
    assert!(written.len() <= datagram.len(), "nothing grows");
    let trailer_at = written.len() - TRAILER_LEN;
    assert_eq!(
        written[trailer_at..][..8],
        datagram[datagram.len() - TRAILER_LEN..][..8]
    );
    let again = Control::parse(&written).expect("what is written is read");
    assert_eq!(again, *control, "read, written, read");
    let mut twice = Vec::new();
    again.emit(&mut twice);
    assert_eq!(twice, written, "written the same");
    match &control.body {
        Body::Request(request) => {
            assert!(request.credential.as_bytes().len() <= 64);
            assert!(
                written.len() > 80 + TRAILER_LEN,
                "longer than any challenge"
            );
        }
        Body::Status(status) => assert!(status.path.nodes().len() <= 32),
        Body::Trace(trace) => assert!(trace.records.iter().count() <= 32),
        Body::TraceReply(reply) => assert!(reply.records.iter().count() <= 32),
        Body::Challenge(_) => {}
    }
}
