//! Status: what a node says to an entry, at once and with every heartbeat.
//!
//! ```text
//!  48    verdict   49   flags: 1 standby, 2 sign of life wanted, 4 ask,
//!                              8 from K starts at, 16 until J stopped at,
//!                              32 highest sequence known
//!  50    application's port, u16
//!  52    hold granted, ms, u32       56    heartbeat granted, ms, u32
//!  60    where from K starts, or until J stopped, u32
//!  64    stream token, u64 (0: none yet)
//!  72    fresh cookie, 16 bytes
//!  88    datagrams sent, u64         96    bytes sent, u64
//! 104    highest sequence, u32
//! 108    reason of a refusal         109   nodes in the path    110   reserved
//! 112    the node's own address, 16 bytes (unspecified: none)
//! 128    path: node ids from S down to here, 8 bytes each
//!        options
//! ```

use std::net::{IpAddr, Ipv6Addr};

use crate::channel::{from_wire, to_wire};
use crate::field::{Reader, Writer};
use crate::{option, Cookie, Malformed, Path, Sequence, StreamToken};

const STANDBY: u8 = 1;
const SIGN_OF_LIFE: u8 = 2;
const ASK: u8 = 4;
const STARTS: u8 = 8;
const STOPPED: u8 = 16;
const HIGHEST: u8 = 32;

/// What the node decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Verdict {
    /// The stream comes (or would, were there data).
    Granted = 1,
    /// Asked upstream, or the channel does not exist yet.
    Pending = 2,
    /// Gone from the audience, as asked.
    Left = 3,
    /// No, and asking again will not help: policy, credential.
    RefusedFinal = 4,
    /// Not now: full, loop, too deep, overload.
    RefusedPassing = 5,
    /// The stream came to its end.
    Ended = 6,
    /// The node goes away; find another parent.
    Draining = 7,
}

/// Why a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Reason {
    /// None given.
    #[default]
    None = 0,
    /// Denied by prefix or callback.
    Policy = 1,
    /// The credential did not fit.
    Credential = 2,
    /// A table's limit is reached.
    Full = 3,
    /// The node found itself in the path.
    Loop = 4,
    /// The hop budget is used up.
    TooDeep = 5,
    /// Too much asked of the node at once.
    Overload = 6,
}

/// Where a handover starts or stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handover {
    /// `from K` starts with this sequence.
    StartsAt(Sequence),
    /// `until J` stopped before this sequence.
    StoppedAt(Sequence),
}

/// A node's word to one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// What the node decided.
    pub verdict: Verdict,
    /// Entered beside another live parent: granted without stream.
    pub standby: bool,
    /// An ICMP error quoted our stream to you: refresh at once, or be let go.
    pub sign_of_life_wanted: bool,
    /// Relays below are to put each new requester to S.
    pub ask: bool,
    /// The handover's answer, where there is one.
    pub handover: Option<Handover>,
    /// The port that the sending application's socket is bound to; 0 unknown.
    pub app_port: u16,
    /// How long the entry lives without refresh, ms.
    pub hold_ms: u32,
    /// How often a status comes, ms.
    pub heartbeat_ms: u32,
    /// The stream token, once there is one.
    pub token: Option<StreamToken>,
    /// The cookie for the next request to this node.
    pub cookie: Cookie,
    /// Stream datagrams sent to this requester.
    pub datagrams: u64,
    /// Stream bytes (trailers included) sent to this requester.
    pub bytes: u64,
    /// The highest stream sequence that the node knows.
    pub highest: Option<Sequence>,
    /// Why a refusal.
    pub reason: Reason,
    /// The node's own address, for direct requests.
    pub own_address: Option<IpAddr>,
    /// The nodes from S down to the writer.
    pub path: Path,
}

impl Status {
    pub(crate) fn read(mut from: Reader<'_>) -> Result<Status, Malformed> {
        let verdict = match from.u8()? {
            1 => Verdict::Granted,
            2 => Verdict::Pending,
            3 => Verdict::Left,
            4 => Verdict::RefusedFinal,
            5 => Verdict::RefusedPassing,
            6 => Verdict::Ended,
            7 => Verdict::Draining,
            _ => return Err(Malformed::Verdict),
        };
        let flags = from.u8()?;
        let app_port = from.u16()?;
        let hold_ms = from.u32()?;
        let heartbeat_ms = from.u32()?;
        let at = Sequence(from.u32()?);
        let handover = match flags & (STARTS | STOPPED) {
            0 => None,
            STARTS => Some(Handover::StartsAt(at)),
            STOPPED => Some(Handover::StoppedAt(at)),
            _ => return Err(Malformed::Flags),
        };
        let token = Some(from.u64()?).filter(|&t| t != 0).map(StreamToken);
        let cookie = from.array()?;
        let datagrams = from.u64()?;
        let bytes = from.u64()?;
        let highest = Some(Sequence(from.u32()?)).filter(|_| flags & HIGHEST != 0);
        let reason = match from.u8()? {
            1 => Reason::Policy,
            2 => Reason::Credential,
            3 => Reason::Full,
            4 => Reason::Loop,
            5 => Reason::TooDeep,
            6 => Reason::Overload,
            _ => Reason::None, // later reasons read as "none given"
        };
        let nodes = from.u8()?;
        from.u16()?;
        let own_address = Some(from_wire(from.array()?)).filter(|a| !a.is_unspecified());
        let path = Path::read(nodes, &mut from)?;
        option::read(from.rest())?;
        Ok(Status {
            verdict,
            standby: flags & STANDBY != 0,
            sign_of_life_wanted: flags & SIGN_OF_LIFE != 0,
            ask: flags & ASK != 0,
            handover,
            app_port,
            hold_ms,
            heartbeat_ms,
            token,
            cookie,
            datagrams,
            bytes,
            highest,
            reason,
            own_address,
            path,
        })
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        let (handover, at) = match self.handover {
            None => (0, Sequence(0)),
            Some(Handover::StartsAt(j)) => (STARTS, j),
            Some(Handover::StoppedAt(j)) => (STOPPED, j),
        };
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = handover
            | flag(self.standby, STANDBY)
            | flag(self.sign_of_life_wanted, SIGN_OF_LIFE)
            | flag(self.ask, ASK)
            | flag(self.highest.is_some(), HIGHEST);
        let own = self
            .own_address
            .unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        to.u8(self.verdict as u8)
            .u8(flags)
            .u16(self.app_port)
            .u32(self.hold_ms)
            .u32(self.heartbeat_ms)
            .u32(at.0)
            .u64(self.token.map_or(0, |t| t.0))
            .bytes(&self.cookie)
            .u64(self.datagrams)
            .u64(self.bytes)
            .u32(self.highest.unwrap_or_default().0)
            .u8(self.reason as u8)
            .u8(self.path.len_on_wire())
            .u16(0)
            .bytes(&to_wire(own));
        self.path.write(to);
    }
}
