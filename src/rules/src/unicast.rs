//! What binding to, and connecting to, mapped unicast addresses means.
//!
//! Promises: which of the roles *waits*, *listens*, *answers hellos* and *calls*
//! an address allows; the application's own calls then choose among them.

use std::net::{IpAddr, SocketAddr};

use flexcast_wire::{canonical, Channel, ChannelId};

use crate::map::Map;
use crate::push::channels_called;
use crate::range::Family;
use crate::rule::{Role, Rule, Senders};

/// What a bound socket waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wait<'a> {
    /// Nothing of ours.
    NotMapped,
    /// Requested, each; ordinary unicast still arrives. Never empty.
    Channels(Vec<Channel>, &'a Rule),
}

/// What a bound socket serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Serve<'a> {
    /// Nothing of ours.
    NotMapped,
    /// A channel of this host.
    Own {
        /// The channel's id.
        channel_id: ChannelId,
        /// The local address that is S; none: any local address.
        sender: Option<IpAddr>,
        /// The rule.
        rule: &'a Rule,
    },
}

/// What connecting to an address means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call<'a> {
    /// No call of ours.
    NotMapped,
    /// Requested, each; what is sent goes to S as ordinary unicast. Never empty.
    Channels(Vec<Channel>, &'a Rule),
}

impl Map {
    /// What a bind to `bound` waits for: the first rule that writes this port
    /// out, covers a local address (`bound`'s own, or any of `locals` where it
    /// is unspecified) and whose senders are all other hosts.
    #[must_use]
    pub fn wait(
        &self,
        bound: SocketAddr,
        locals: &[IpAddr],
        is_local: &dyn Fn(IpAddr) -> bool,
    ) -> Wait<'_> {
        let found = self.first_at(bound, locals, |rule| {
            rule.writes_ports() && rule.allows(Role::Wait)
        });
        match found {
            Some((rule, _, id)) => match &rule.senders {
                Senders::Hosts(hosts) if !hosts.iter().any(|&s| is_local(s)) => {
                    Wait::Channels(rule.named_channels(id), rule)
                }
                _ => Wait::NotMapped,
            },
            None => Wait::NotMapped,
        }
    }

    /// What a bind to `bound` may listen for or answer hellos at, `role` being
    /// [`Role::Listen`] or [`Role::Hello`]: the first rule that covers a local
    /// address, where this host is the sender.
    #[must_use]
    pub fn serve(
        &self,
        role: Role,
        bound: SocketAddr,
        locals: &[IpAddr],
        is_local: &dyn Fn(IpAddr) -> bool,
    ) -> Serve<'_> {
        let Some((rule, address, channel_id)) =
            self.first_at(bound, locals, |rule| rule.allows(role))
        else {
            return Serve::NotMapped;
        };
        let sender = match &rule.senders {
            Senders::Own => None,
            Senders::Unnamed if bound.ip().is_unspecified() => None,
            Senders::Unnamed => Some(address),
            Senders::Hosts(hosts) => match hosts.iter().find(|&&s| is_local(s)) {
                Some(&own) => Some(own),
                None => return Serve::NotMapped,
            },
        };
        Serve::Own {
            channel_id,
            sender,
            rule,
        }
    }

    /// What connecting to `to` means. `served_here`: a live process of this host
    /// listens or answers hellos there, so that calling an own address is a call.
    #[must_use]
    pub fn call(
        &self,
        to: SocketAddr,
        is_local: &dyn Fn(IpAddr) -> bool,
        served_here: bool,
    ) -> Call<'_> {
        let address = canonical(to.ip());
        let Some(found) = self.match_of(to) else {
            return Call::NotMapped;
        };
        let rule = found.rule;
        if address.is_multicast() || !rule.allows(Role::Call) {
            return Call::NotMapped;
        }
        let own = match &rule.senders {
            Senders::Own => true,
            Senders::Unnamed => is_local(address),
            Senders::Hosts(hosts) => hosts.iter().any(|&s| is_local(s)),
        };
        if own && !served_here {
            return Call::NotMapped;
        }
        Call::Channels(channels_called(rule, address, found.id), rule)
    }

    /// The rule that takes the address a socket is bound to; where that is
    /// unspecified, the first rule that takes one of `locals` of its family (of
    /// both, for `[::]`) and is `wanted`.
    fn first_at(
        &self,
        bound: SocketAddr,
        locals: &[IpAddr],
        wanted: impl Fn(&Rule) -> bool,
    ) -> Option<(&Rule, IpAddr, ChannelId)> {
        let at = canonical(bound.ip());
        if at.is_multicast() {
            return None;
        }
        let one = [at];
        let addresses = if at.is_unspecified() { locals } else { &one };
        addresses
            .iter()
            .map(|&address| canonical(address))
            .filter(|&address| bound.is_ipv6() || Family::of(address) == Family::V4)
            .filter_map(|address| {
                let found = self.match_of(SocketAddr::new(address, bound.port()))?;
                wanted(found.rule).then_some((found, address))
            })
            .min_by_key(|(found, _)| found.index)
            .map(|(found, address)| (found.rule, address, found.id))
    }
}
