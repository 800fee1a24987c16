//! Which rule takes an address and what becomes of it, in words.
//!
//! Promises: says what [`Map::push`], [`Map::join`] and the roles of unicast
//! addresses answer, for this host. Is not a second implementation of them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use flexcast_wire::{Channel, ChannelId};

use crate::join::Join;
use crate::map::Map;
use crate::push::Push;
use crate::rule::{EmptyPolicy, Role, Rule, Senders};
use crate::unicast::{Call, Serve, Wait};

/// The roles that serve at an address.
const LISTENS: &str = "A program that listens there on a datagram socket: accept gives a socket \
                       when its first receiver asks; each datagram sent on that goes once to \
                       the whole audience.";
const ANSWERS: &str = "A program that answers hellos there: the peer it sees stands for the whole \
                       audience.";

/// What a map makes of one address on one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The address that was asked about.
    pub address: SocketAddr,
    /// The rule that takes it, from 1; none: no rule does.
    pub rule_number: Option<usize>,
    /// That rule, as it is written.
    pub rule: Option<String>,
    /// The id of its channel, alike on all hosts.
    pub id: Option<ChannelId>,
    /// The channels that a receiver here requests.
    pub channels: Vec<Channel>,
    /// Whether this host is a sender of it.
    pub sends_here: bool,
    /// What becomes of what a program does with the address: sentences.
    pub words: Vec<String>,
}

impl Map {
    /// Explains what becomes of `address` on this host, whose addresses are
    /// `locals`, and which `is_local` knows (`FLEXCAST_SELF` included).
    #[must_use]
    pub fn explain(
        &self,
        address: SocketAddr,
        locals: &[IpAddr],
        is_local: &dyn Fn(IpAddr) -> bool,
    ) -> Explanation {
        let found = self.match_of(address);
        let mut explanation = Explanation {
            address,
            rule_number: found.map(|found| found.index + 1),
            rule: found.map(|found| found.rule.to_string()),
            id: found.map(|found| found.id),
            channels: Vec::new(),
            sends_here: false,
            words: Vec::new(),
        };
        match found {
            None => explanation.words.push(self.unmatched(address)),
            Some(found) if found.rule.role() == Some(Role::Off) => {
                let words = "The rule leaves it alone (role=off): as without Flexcast.";
                explanation.words.push(words.to_owned());
            }
            Some(found) => {
                self.explain_push(&mut explanation, is_local);
                if address.ip().to_canonical().is_multicast() {
                    self.explain_join(&mut explanation, found.rule, is_local);
                } else {
                    self.explain_unicast(&mut explanation, locals, is_local);
                }
                let options = options(found.rule, explanation.sends_here);
                explanation.words.extend(options);
            }
        }
        explanation
    }

    fn unmatched(&self, address: SocketAddr) -> String {
        if self.names_group(address.ip()) {
            "No rule takes this port of the group: the kernel's, and that the network has no \
             multicast is hidden from the program."
        } else {
            "No rule takes it: as without Flexcast."
        }
        .to_owned()
    }

    fn explain_push(&self, to: &mut Explanation, is_local: &dyn Fn(IpAddr) -> bool) {
        let words = match self.push(to.address, is_local, None) {
            Push::Own { sender, .. } => {
                to.sends_here = true;
                let who = sender.map_or("this host".to_owned(), |s| format!("this host as {s}"));
                format!("A program that sends there: {who} is the sender; each datagram goes once to the whole audience.")
            }
            Push::Foreign { rule } => format!(
                "A program that sends there: dropped and counted, since this host is not among \
                 the senders ({}).",
                senders(rule)
            ),
            Push::Calls { channels, .. } => {
                to.channels.clone_from(&channels);
                let sender = channels.first().map_or(to.address.ip(), |c| c.sender);
                format!(
                    "A program that connects or sends there: requests {}; what it sends goes \
                     to {} as ordinary unicast.",
                    list(&channels),
                    SocketAddr::new(sender, to.address.port())
                )
            }
            Push::NotMapped => "A program that sends there: as without Flexcast.".to_owned(),
        };
        to.words.push(words);
    }

    fn explain_join(&self, to: &mut Explanation, rule: &Rule, is_local: &dyn Fn(IpAddr) -> bool) {
        let words = match self.join(to.address.ip(), to.address.port(), None, is_local) {
            Join::Channels(channels, _) => {
                let words = format!("A program that joins it: requests {}", list(&channels));
                to.channels = channels;
                format!("{words}; a source that the join names is asked instead.")
            }
            Join::LeaveToKernel => "A program that joins it: left to the kernel unless the join \
                                    names a source, which is then asked."
                .to_owned(),
            Join::NotMapped => format!(
                "A program that joins it: as without Flexcast (role={}).",
                rule.role().map_or("", Role::name)
            ),
        };
        to.words.push(words);
    }

    fn explain_unicast(
        &self,
        to: &mut Explanation,
        locals: &[IpAddr],
        is_local: &dyn Fn(IpAddr) -> bool,
    ) {
        let address = to.address;
        if !is_local(address.ip()) {
            return;
        }
        if let Wait::Channels(channels, _) = self.wait(address, locals, is_local) {
            let list = list(&channels);
            to.words.push(format!(
                "A program that binds it: requests {list}; ordinary unicast still arrives."
            ));
            to.channels = channels;
        }
        for (role, words) in [(Role::Listen, LISTENS), (Role::Hello, ANSWERS)] {
            if let Serve::Own { .. } = self.serve(role, address, locals, is_local) {
                to.words.push(words.to_owned());
            }
        }
        if let Call::Channels(channels, _) = self.call(address, is_local, true) {
            to.words.push(format!(
                "A program that connects there while another of this host serves it: requests {}.",
                list(&channels)
            ));
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let (Some(number), Some(rule)) = (self.rule_number, &self.rule) {
            write!(f, ": rule {number}, {rule}")?;
        }
        if let Some(id) = self.id {
            write!(f, "\n  channel id {id}")?;
        }
        for words in &self.words {
            write!(f, "\n  {words}")?;
        }
        Ok(())
    }
}

/// What the options change; nobody's absence matters where nobody sends.
fn options(rule: &Rule, sends_here: bool) -> Vec<String> {
    let mut words = Vec::new();
    if !rule.via().is_empty() {
        let nodes: Vec<String> = rule.via().iter().map(ToString::to_string).collect();
        let nodes = nodes.join(", then ");
        words.push(format!("Requests go to {nodes} instead of the sender."));
    }
    let empty = match rule.empty() {
        EmptyPolicy::Drop => "While nobody receives: dropped and counted.".to_owned(),
        EmptyPolicy::Error => "While nobody receives: sending fails.".to_owned(),
        EmptyPolicy::Wait { receivers, limit } => format!(
            "While nobody receives: the first send waits for {receivers} receiver(s), at most \
             {} s.",
            limit.as_secs_f64()
        ),
    };
    if sends_here {
        words.push(empty);
    }
    if rule.keeps_port() {
        words.push("A receiving socket keeps its port (port=keep).".to_owned());
    }
    if rule.is_strict() {
        words.push("Nothing but the stream is delivered (strict).".to_owned());
    }
    words
}

fn senders(rule: &Rule) -> String {
    match rule.senders() {
        Senders::Hosts(hosts) => {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            hosts.join(", ")
        }
        Senders::Own => "self".to_owned(),
        Senders::Unnamed => "none named".to_owned(),
    }
}

fn list(channels: &[Channel]) -> String {
    let channels: Vec<String> = channels.iter().map(ToString::to_string).collect();
    channels.join(", ")
}
