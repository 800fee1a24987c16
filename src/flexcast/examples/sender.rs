//! Sends standard input to all who ask this host for a channel, whichever is asked for
//! first, 1316 bytes a datagram. Is the Rust twin of legacy-apps/native/sender.c: it
//! does not pace itself.

use std::io::Read as _;

use flexcast::{Binding, Family, Socket};

fn main() -> std::io::Result<()> {
    let listener = Socket::new(Family::V6)?;
    listener.bind(Binding::ANY)?;
    listener.listen(5)?;
    let (socket, _channel) = listener.accept()?;
    let mut input = std::io::stdin().lock();
    loop {
        let mut datagram = Vec::with_capacity(1316);
        if input.by_ref().take(1316).read_to_end(&mut datagram)? == 0 {
            return Ok(());
        }
        socket.send(&datagram)?;
    }
}
