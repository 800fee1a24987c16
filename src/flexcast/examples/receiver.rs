//! Asks for a channel and writes what comes to standard output, to the stream's end.
//! `receiver SENDER#ID`. Is the Rust twin of legacy-apps/native/receiver.c.

use std::io::Write as _;

use flexcast::{Channel, Family, Received, Socket};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let channel: Channel = std::env::args()
        .nth(1)
        .ok_or("usage: receiver SENDER#ID")?
        .parse()?;
    let socket = Socket::new(Family::V6)?;
    socket.connect(channel)?;
    let mut buffer = [0; 2048];
    let mut output = std::io::stdout().lock();
    while let Received::Datagram(length) = socket.recv(&mut buffer)? {
        output.write_all(&buffer[..length.min(2048)])?;
    }
    Ok(output.flush()?)
}
