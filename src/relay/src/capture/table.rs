//! The table's life: made, changed, looked at, removed, over the one netlink
//! socket that owns it.
//!
//! ```text
//!   none ─create─▶ ours ─change, inspect─▶ ours ─remove, or the socket closes─▶ none
//!   another's table of that name: an error that says whose, unless it has no
//!   owner and nobody has renewed it for 2 s: then it is replaced
//! ```

use std::os::fd::{AsRawFd, RawFd};

use flexcast_udp::Errno;

use super::attribute::{find, number, read, text};
use super::error::{CaptureError, Part};
use super::finding::Finding;
use super::netlink::{Netlink, Replies};
use super::rule::{self, RuleName, RULES};
use super::ruleset::{self, Manner};
use super::set;
use super::transaction::{content, get, list, Message, Refusal, Transaction};
use super::{owner, Counters, Settings};

const TABLE_OWNER: u16 = 7;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_COMMENT: u16 = 7;
const ELEMENTS: u16 = 3;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const COUNTER_PACKETS: u16 = 2;

/// The netlink socket, and with it the table.
pub(super) struct Table {
    netlink: Netlink,
    /// Whether there is one that is ours to remove.
    made: bool,
}

/// Whose the table of our name is.
enum Found {
    Nothing,
    /// No owner, nothing alive in it.
    Abandoned,
    Taken {
        owner: String,
    },
}

impl Table {
    /// # Errors
    /// [`CaptureError::NoNfTables`] where the kernel has no netfilter netlink.
    pub(super) fn open() -> Result<Self, CaptureError> {
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_NETFILTER);
        let netlink = netlink.map_err(|error| CaptureError::socket(Part::Table, error))?;
        Ok(Self {
            netlink,
            made: false,
        })
    }

    /// Whether an abandoned table is to be replaced.
    ///
    /// # Errors
    /// [`CaptureError::TableTaken`] when it is somebody's.
    pub(super) fn look_for_another(&mut self, settings: &Settings) -> Result<bool, CaptureError> {
        match self.whose(&settings.table_name)? {
            Found::Nothing => Ok(false),
            Found::Abandoned => Ok(true),
            Found::Taken { owner } => {
                let table = settings.table_name.clone();
                Err(CaptureError::TableTaken { table, owner })
            }
        }
    }

    /// Makes the table, without the owner flag where the kernel lacks it.
    pub(super) fn create(
        &mut self,
        settings: &Settings,
        replace: bool,
    ) -> Result<Vec<Finding>, CaptureError> {
        let mut findings = Vec::new();
        let mut manner = Manner {
            owned: settings.owner,
            replace,
            untrack: true,
        };
        let mut result = self.try_create(settings, manner);
        let flag_refused =
            |refusal: &Refusal| refusal.part == Part::Table && refusal.errno == Errno::EINVAL;
        if settings.owner && result.as_ref().is_err_and(flag_refused) {
            findings.push(Finding::NoOwnerFlag);
            manner.owned = false;
            result = self.try_create(settings, manner);
        }
        if result
            .as_ref()
            .is_err_and(|refusal| refusal.part == Part::UntrackRules)
        {
            // Without connection tracking in the kernel there is nothing to keep out of it.
            log::debug!("no rules against connection tracking: the kernel knows none");
            manner.untrack = false;
            result = self.try_create(settings, manner);
        }
        if let Err(refusal) = result {
            // Somebody was faster.
            if matches!(refusal.errno, Errno::EEXIST | Errno::EPERM) {
                self.look_for_another(settings)?;
            }
            return Err(refusal.error);
        }
        self.made = true;
        if replace {
            findings.push(Finding::ReplacedTable {
                table: settings.table_name.clone(),
            });
        }
        Ok(findings)
    }

    /// Makes the table anew, whatever is left of ours.
    pub(super) fn replace(&mut self, settings: &Settings) -> Result<(), CaptureError> {
        match self.remove(settings) {
            Ok(()) | Err(CaptureError::Gone { .. }) => self.create(settings, false).map(drop),
            Err(error) => Err(error),
        }
    }

    /// One transaction on a table that should be there.
    pub(super) fn change(
        &mut self,
        write: impl FnOnce(&mut Transaction<'_>, &str),
        settings: &Settings,
    ) -> Result<(), CaptureError> {
        let mut to = Transaction::new(&mut self.netlink);
        write(&mut to, &settings.table_name);
        to.commit().map_err(|refusal| match refusal.errno {
            Errno::ENOENT => CaptureError::Gone { part: Part::Table },
            Errno::ENFILE => CaptureError::LetThroughFull,
            _ => refusal.error,
        })
    }

    /// The first part that is missing, and what the rules counted.
    pub(super) fn inspect(
        &mut self,
        settings: &Settings,
    ) -> Result<(Vec<Part>, Counters), CaptureError> {
        let which = ruleset::of_table(&settings.table_name);
        let replies = list(&mut self.netlink, Message::GetRule, &which);
        let replies = self.answered(replies, Part::RequestRule)?;
        let rules: Vec<_> = replies
            .bodies
            .iter()
            .map(|body| read_rule(content(body)))
            .collect();
        if rules.is_empty() {
            return Ok((vec![Part::Table], Counters::default()));
        }
        let count = |rule: &RuleName| rules.iter().find(|(comment, _)| comment == rule.comment);
        let mut missing: Vec<_> = RULES
            .iter()
            .filter(|rule| count(rule).is_none())
            .map(|rule| rule.part)
            .collect();
        missing.dedup();
        let sum = |names: &[RuleName]| {
            names
                .iter()
                .filter_map(count)
                .map(|&(_, packets)| packets)
                .sum()
        };
        let counters = Counters {
            captured: sum(&[rule::CAPTURED]),
            no_listener: sum(&[rule::UNHEARD]),
            let_through: sum(&[rule::PAIRS, rule::SENDERS].concat()),
            icmp_errors: sum(&rule::ICMP_ERRORS),
        };
        Ok((missing, counters))
    }

    /// Whether capture is alive at this moment.
    pub(super) fn is_alive(&mut self, settings: &Settings) -> Result<bool, CaptureError> {
        self.has_live_element(&settings.table_name)
    }

    /// Removes the table, if this made one.
    ///
    /// # Errors
    /// [`CaptureError::Gone`] when it was not there any more.
    pub(super) fn remove(&mut self, settings: &Settings) -> Result<(), CaptureError> {
        match std::mem::take(&mut self.made) {
            true => self.change(ruleset::remove, settings),
            false => Ok(()),
        }
    }

    fn try_create(&mut self, settings: &Settings, manner: Manner) -> Result<(), Refusal> {
        let mut to = Transaction::new(&mut self.netlink);
        ruleset::create(&mut to, settings, manner);
        to.commit()
    }

    fn whose(&mut self, table: &str) -> Result<Found, CaptureError> {
        let replies = get(
            &mut self.netlink,
            Message::GetTable,
            &ruleset::of_table(table),
        );
        let replies = match replies {
            Ok(replies)
                if replies
                    .refusal()
                    .is_some_and(|answer| answer.errno == Errno::ENOENT) =>
            {
                return Ok(Found::Nothing);
            }
            replies => self.answered(replies, Part::Table)?,
        };
        let described = replies.bodies.first().map_or(&[][..], |body| content(body));
        if let Some(port) = find(described, TABLE_OWNER) {
            let port = u32::try_from(number(port)).unwrap_or(0);
            return Ok(Found::Taken {
                owner: owner::describe(port),
            });
        }
        if self.has_our_rules(table)? && !self.has_live_element(table)? {
            return Ok(Found::Abandoned);
        }
        let command = format!("nobody in particular (nft delete table inet {table} removes it)");
        Ok(Found::Taken { owner: command })
    }

    fn has_our_rules(&mut self, table: &str) -> Result<bool, CaptureError> {
        let replies = list(
            &mut self.netlink,
            Message::GetRule,
            &ruleset::of_table(table),
        );
        let replies = self.answered(replies, Part::RequestRule)?;
        let comments = replies.bodies.iter().map(|body| read_rule(content(body)).0);
        Ok(comments
            .into_iter()
            .any(|comment| comment == rule::CAPTURED.comment))
    }

    fn has_live_element(&mut self, table: &str) -> Result<bool, CaptureError> {
        let replies = list(
            &mut self.netlink,
            Message::GetSetElement,
            &set::of_alive(table),
        );
        let replies = self.answered(replies, Part::AliveSet)?;
        let with_elements =
            |body: &Vec<u8>| find(content(body), ELEMENTS).is_some_and(|list| !list.is_empty());
        Ok(replies.bodies.iter().any(with_elements))
    }

    fn answered(
        &self,
        replies: std::io::Result<Replies>,
        part: Part,
    ) -> Result<Replies, CaptureError> {
        let replies = replies.map_err(|error| CaptureError::socket(part, error))?;
        match replies.refusal() {
            Some(answer) => Err(CaptureError::refused(part, answer)),
            None => Ok(replies),
        }
    }
}

impl AsRawFd for Table {
    fn as_raw_fd(&self) -> RawFd {
        self.netlink.as_raw_fd()
    }
}

/// A rule's comment, and the packets that its counter saw.
fn read_rule(rule: &[u8]) -> (String, u64) {
    let comment = find(rule, RULE_COMMENT)
        .and_then(|data| data.get(2..))
        .map_or("", text);
    let expressions = find(rule, RULE_EXPRESSIONS).unwrap_or(&[]);
    let counter = read(expressions)
        .map(|(_, expression)| expression)
        .find(|expression| find(expression, EXPRESSION_NAME).map(text) == Some("counter"));
    let packets = counter
        .and_then(|expression| find(expression, EXPRESSION_DATA))
        .and_then(|data| find(data, COUNTER_PACKETS))
        .map_or(0, number);
    (comment.to_owned(), packets)
}
