//! The socket of the Rust API: a descriptor and what it has become.
//! Is not std's: its address is a channel.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use flexcast_runtime::kernel::{Family, UdpSocket};
use flexcast_runtime::send::{Applicant, Guard};
use flexcast_runtime::Errno;
use flexcast_wire::Channel;

use crate::endpoint::Endpoint;
use crate::{Binding, Options, Received, Requester, Stats};

/// A Flexcast socket. Closed when dropped: a receiver leaves, an accepted channel ends,
/// a listener listens no longer.
///
/// Every method may be called by many threads at once.
#[derive(Debug)]
pub struct Socket {
    /// None only while it is dropped.
    socket: Option<UdpSocket>,
    endpoint: Endpoint,
}

impl Socket {
    /// A socket for IPv4, or for IPv6 (which speaks IPv4 as well); blocking,
    /// close-on-exec.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` where this host has no IPv6, `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new(family: Family) -> Result<Socket, Errno> {
        Ok(Socket {
            socket: Some(UdpSocket::for_program(family, false, true)?),
            endpoint: Endpoint::new(family),
        })
    }

    fn raw(&self) -> i32 {
        self.socket.as_ref().map_or(-1, UdpSocket::as_raw)
    }

    /// Asks for a channel, from now on until it is closed. Returns at once: whether
    /// anybody answers shows by what is received. The queue becomes as long as the system
    /// allows, at most 4 MiB, unless `SO_RCVBUF` was set before.
    ///
    /// # Errors
    /// `EISCONN` where it is connected, `EOPNOTSUPP` where it is bound,
    /// `EAFNOSUPPORT` for an IPv6 sender on an IPv4 socket, `EINVAL` for a sender that
    /// is no host.
    pub fn connect(&self, channel: Channel) -> Result<(), Errno> {
        self.endpoint.connect(self.raw(), channel)
    }

    /// Asks for the channel of an accepted socket of another host's channel, in the stead
    /// of its audience: as many requests as it has, what the node above says, the path
    /// and the end of the stream are passed on by themselves. What is received from then
    /// on are whole datagrams, each with the 16 bytes behind it and the end of the stream
    /// among them, for `accepted` to send as they are; [`Received::End`] comes when its
    /// audience is gone.
    ///
    /// # Errors
    /// As [`Socket::connect`]; `ENOTCONN` where `accepted` is not accepted, `EINVAL`
    /// where its channel is this host's own, `EPIPE` where its audience is gone,
    /// `EALREADY` where another socket asks for it.
    pub fn connect_for(&self, accepted: &Socket) -> Result<(), Errno> {
        self.endpoint.set_downstream(&accepted.endpoint)?;
        self.connect(accepted.peer()?)
    }

    /// Has it listen for channels of other hosts, whose requests pass this host and are
    /// handed to the port of requests by a rule of the administrator's (TPROXY), and for
    /// no others; to be called before [`Socket::bind`]. Each accepted socket then needs
    /// one that is connected for it: [`Socket::connect_for`].
    ///
    /// # Errors
    /// `EINVAL` where it is bound, `EISCONN` where it is connected.
    pub fn set_transparent(&self, on: bool) -> Result<(), Errno> {
        self.endpoint.set_transparent(on)
    }

    /// Chooses what is to be listened for.
    ///
    /// # Errors
    /// `EINVAL` where it is bound or connected, `EADDRNOTAVAIL` for an address that
    /// this host does not have (transparent: that it has), `EAFNOSUPPORT` for an IPv6
    /// one on an IPv4 socket.
    pub fn bind(&self, binding: impl Into<Binding>) -> Result<(), Errno> {
        self.endpoint.bind(binding.into())
    }

    /// Has `decide` asked about each requester of the channels that it is going to
    /// listen for, before it is let in; to be called before [`Socket::listen`]. Whom it
    /// refuses has its receive call fail with `ECONNREFUSED`. It runs in a thread for
    /// that alone, one question at a time, with no lock held, and may use any socket.
    /// A relay asks for all behind it.
    ///
    /// # Errors
    /// `EINVAL` where it listens already, `EISCONN` where it is connected.
    pub fn on_request(
        &self,
        decide: impl Fn(&Applicant) -> bool + Send + Sync + 'static,
    ) -> Result<(), Errno> {
        self.endpoint.set_guard(Some(Guard::new(decide)))
    }

    /// Answers requests from now on; at most `backlog` channels wait to be accepted.
    ///
    /// # Errors
    /// `EDESTADDRREQ` where it is not bound, `EADDRINUSE` where the id, or the
    /// wildcard, is taken on this host, or where the port of requests is somebody
    /// else's; `EINVAL` where it is connected, `EADDRNOTAVAIL` where loopback is down.
    /// Transparent: `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`, `EADDRINUSE` where
    /// another process has the port of requests, `EOPNOTSUPP` after
    /// [`Socket::on_request`].
    pub fn listen(&self, backlog: usize) -> Result<(), Errno> {
        self.endpoint.listen(self.raw(), backlog)
    }

    /// Waits until somebody asks for a channel, and opens it: a socket for its stream.
    /// Further requesters join in silence.
    ///
    /// # Errors
    /// `EAGAIN` where nobody waits and it is non-blocking (or `SO_RCVTIMEO` is over),
    /// `EINTR` where a signal came, `EINVAL` where it does not listen, `EMFILE`.
    pub fn accept(&self) -> Result<(Socket, Channel), Errno> {
        let new = |family| UdpSocket::for_program(family, false, true);
        let (socket, endpoint) = self.endpoint.accept(self.raw(), true, new)?;
        let channel = endpoint.peer()?;
        let socket = Some(socket);
        Ok((Socket { socket, endpoint }, channel))
    }

    /// Sends a datagram to everybody who asks for the channel, once each. Where the program
    /// sends faster than datagrams can leave one by one, or while another thread sends, it
    /// leaves within a fraction of a millisecond, in one batch with others; order is kept,
    /// and close, exit and fork see to it first that all have left.
    ///
    /// # Errors
    /// `EPIPE` where nobody is there any more (then whoever comes next is given to
    /// accept), at the latest on the next send; for another host's channel `EINVAL` for
    /// what is no whole datagram of a stream, and `ENOTCONN` before
    /// [`Socket::connect_for`]; `EMSGSIZE` above 65 491 bytes (IPv6: 65 511), and then
    /// nothing was sent; `ENOTCONN`,
    /// `EOPNOTSUPP` where it receives. Never `EAGAIN`: what a full send buffer has no
    /// room for within 10 ms is dropped where the socket is non-blocking.
    pub fn send(&self, datagram: &[u8]) -> Result<usize, Errno> {
        self.endpoint.send(self.raw(), &[&[datagram]], true)?;
        Ok(datagram.len())
    }

    /// Sends several datagrams, as [`Socket::send`] does one, in one batch.
    ///
    /// # Errors
    /// As there; `EMSGSIZE` where one is too long, and then none was sent.
    pub fn send_many(&self, datagrams: &[&[u8]]) -> Result<usize, Errno> {
        let parts: Vec<[&[u8]; 1]> = datagrams.iter().map(|datagram| [*datagram]).collect();
        let views: Vec<&[&[u8]]> = parts.iter().map(|parts| &parts[..]).collect();
        self.endpoint.send(self.raw(), &views, true)?;
        Ok(datagrams.len())
    }

    /// Takes the next datagram, none twice, or the end of the stream.
    ///
    /// # Errors
    /// `EAGAIN` where nothing is there and it is non-blocking (or `SO_RCVTIMEO` is
    /// over), `EINTR` where a signal came, `ECONNREFUSED` where the sender refuses for
    /// good, `ENOTCONN`.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        self.endpoint.recv(self.raw(), buffer, true)
    }

    /// As [`Socket::recv`], without waiting.
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        self.endpoint.recv(self.raw(), buffer, false)
    }

    /// How it asks.
    #[must_use]
    pub fn options(&self) -> Options {
        self.endpoint.options()
    }

    /// Sets how it asks.
    ///
    /// # Errors
    /// `EINVAL` for a time out of its bounds or a socket that sends, `EISCONN` where it
    /// is connected.
    pub fn set_options(&self, options: Options) -> Result<(), Errno> {
        self.endpoint.set_options(options)
    }

    /// Those who get the stream of an accepted channel.
    ///
    /// # Errors
    /// `ENOTCONN` where it is none.
    pub fn requesters(&self) -> Result<Vec<Requester>, Errno> {
        self.endpoint.requesters()
    }

    /// Requests that a socket which listens, or was accepted, had no room for: those of
    /// all sockets of the process ([`Options::requesters`],
    /// [`Options::entries_per_source`]).
    ///
    /// # Errors
    /// `ENOTCONN` for any other, `EOPNOTSUPP` in a child of the process.
    pub fn refused(&self) -> Result<u64, Errno> {
        self.endpoint.refused()
    }

    /// Where the first requester of an accepted channel asked from.
    #[must_use]
    pub fn first_requester(&self) -> Option<SocketAddr> {
        self.endpoint.first_requester()
    }

    /// What a receiver has counted.
    ///
    /// # Errors
    /// `ENOTCONN` where it is none.
    pub fn stats(&self) -> Result<Stats, Errno> {
        self.endpoint.stats(self.raw())
    }

    /// The channel that is received or sent.
    ///
    /// # Errors
    /// `ENOTCONN` where there is none.
    pub fn peer(&self) -> Result<Channel, Errno> {
        self.endpoint.peer()
    }

    /// What it is bound to; [`Binding::ANY`] for receivers.
    #[must_use]
    pub fn local(&self) -> Binding {
        self.endpoint.local()
    }

    /// The family that it was made with.
    #[must_use]
    pub fn family(&self) -> Family {
        self.endpoint.family()
    }

    /// Ends the stream of an accepted channel, or leaves a received one; whoever waits
    /// in [`Socket::recv`] is told the end.
    ///
    /// # Errors
    /// `ENOTCONN` where it is neither.
    pub fn shut_down(&self) -> Result<(), Errno> {
        self.endpoint.shut_down(self.raw(), true, true)
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.raw()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(self.socket.take());
        // Duplicates of the descriptor may live on: then its receiving does.
        let _ = self.endpoint.closed(true);
    }
}
