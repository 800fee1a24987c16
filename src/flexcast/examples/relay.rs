//! A relay of the API's two halves: accepts whatever channel is asked for of a host behind
//! this one, connects to it in its audience's stead, and copies. `relay`, as root or with
//! CAP_NET_ADMIN, beside rules that hand it the requests (legacy-apps/README.md). Is the
//! Rust twin of legacy-apps/native/relay.c, and passes what is queued on in one batch.

use std::io::Write as _;

use flexcast::{Binding, Errno, Family, Received, Socket};

/// As many as one segmented send takes.
const BATCH: usize = 44;
const LONGEST: usize = 65_536;

fn main() -> Result<(), Errno> {
    let listener = Socket::new(Family::V6)?;
    listener.set_transparent(true)?;
    listener.bind(Binding::ANY)?;
    listener.listen(64)?;
    loop {
        let (accepted, channel) = listener.accept()?;
        std::thread::spawn(move || {
            if let Err(errno) = pass(&accepted) {
                let _ = writeln!(std::io::stderr(), "relay: {channel}: {errno}");
            }
        });
    }
}

/// One channel, as long as somebody below wants it.
fn pass(accepted: &Socket) -> Result<(), Errno> {
    let connected = Socket::new(Family::V6)?;
    connected.connect_for(accepted)?;
    let mut buffers = vec![vec![0; LONGEST]; BATCH];
    loop {
        let Received::Datagram(first) = connected.recv(&mut buffers[0])? else {
            return Ok(());
        };
        let mut lengths = vec![first];
        while let Some(buffer) = buffers.get_mut(lengths.len()) {
            match connected.try_recv(buffer) {
                Ok(Received::Datagram(length)) => lengths.push(length),
                // Told again by the next call that waits.
                Ok(Received::End) | Err(_) => break,
            }
        }
        let batch = buffers.iter().zip(&lengths);
        let batch: Vec<&[u8]> = batch.map(|(buffer, length)| &buffer[..*length]).collect();
        match accepted.send_many(&batch) {
            Ok(_) | Err(Errno::EPIPE) => {}
            Err(errno) => return Err(errno),
        }
    }
}
