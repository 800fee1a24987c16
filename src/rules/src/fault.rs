//! Why a text is no rule: one fault each, with its place and value.
//!
//! Promises: the message names the byte, the value, what was expected and,
//! where there is one, the nearest thing that would have been right.

use std::fmt;

/// A text that is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where in the text `value` stands, in bytes from its start.
    pub position: usize,
    /// The offending part, as written.
    pub value: String,
    /// What is wrong with it, and what was expected.
    pub fault: Fault,
    /// What was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {:?} {}", self.position, self.value, self.fault)?;
        match &self.nearest {
            Some(nearest) => write!(f, " (did you mean {nearest:?}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for RuleError {}

/// What is wrong with a part of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Neither IPv4 nor IPv6.
    #[error("is no address: expected an IPv4 address, or an IPv6 address in brackets")]
    Address,
    /// IPv6 where a port may follow.
    #[error("is not in brackets: expected [IPv6 address], since a port may follow")]
    Brackets,
    /// A `[` without its `]`.
    #[error("opens a bracket that is not closed: expected [IPv6 address]")]
    BracketOpen,
    /// Something between an address and what may follow it.
    #[error("does not belong here: expected /LENGTH, :PORTS, =SENDERS, #ID or ,OPTION")]
    Excess,
    /// A host name, and nobody here to resolve it.
    #[error(
        "is a host name, and rules are not resolved inside a program: \
         write the address, or start the program by `flexcast run`, which resolves names"
    )]
    HostName,
    /// A host name that the name service does not know.
    #[error("was not resolved: {0}")]
    Unresolved(String),
    /// 0.0.0.0 or ::.
    #[error("is no address that a rule can name: expected a host, a group, or a prefix")]
    Unspecified,
    /// No number, or more than the family has bits.
    #[error("is no prefix length: expected 0 to {0}")]
    PrefixLength(u8),
    /// Nothing but groups that a prefix never covers.
    #[error(
        "covers nothing: a prefix never covers 224.0.0.0/24, ff01::/16 or ff02::/16; \
         write such a group out if it is meant"
    )]
    CoversNothing,
    /// No port.
    #[error("is no port: expected 1 to 65535, or FROM-TO")]
    Port,
    /// First above last.
    #[error("runs backwards: expected FROM-TO with FROM not above TO")]
    PortOrder,
    /// A group or no address at all where a host is expected.
    #[error("is no host's address: expected a unicast address")]
    Host,
    /// IPv4 beside IPv6.
    #[error("is not {0}, as the rule's range is: expected a host of the same family")]
    HostFamily(crate::range::Family),
    /// `self` beside others.
    #[error("stands alone: expected either self or addresses joined by +")]
    SelfAmongOthers,
    /// A host named twice.
    #[error("is named twice: expected each host once")]
    HostTwice,
    /// No channel id.
    #[error("is no channel id: expected 1 to 18446744073709551615, after =SENDERS")]
    Id,
    /// No option.
    #[error("is no option: expected via=, empty=, role=, port=keep or strict")]
    Option,
    /// An option given twice.
    #[error("is given twice: expected each option once")]
    OptionTwice,
    /// An option without the value that it takes.
    #[error("lacks its value: expected {0}")]
    OptionValueMissing(&'static str),
    /// `strict=…`
    #[error("takes no value: expected strict alone")]
    OptionValueExcess,
    /// No empty policy.
    #[error("is no policy: expected drop, error or wait[:N[:SECONDS]]")]
    Empty,
    /// No number of receivers.
    #[error("is no number of receivers: expected 1 to 4294967295")]
    Receivers,
    /// No duration.
    #[error("is no time to wait: expected seconds, such as 10 or 0.5, or 500ms, up to 86400")]
    Seconds,
    /// No role.
    #[error("is no role: expected push, join, call, listen, hello, wait or off")]
    Role,
    /// A role that nothing in the range can have.
    #[error(
        "is a role that nothing in {0} can have: groups take push and join, hosts all but join"
    )]
    RoleNeverFits(crate::range::Range),
    /// `port=` something else.
    #[error("is no way to treat the port: expected keep")]
    PortOption,
}
