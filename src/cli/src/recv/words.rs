//! Verdicts and reasons as people say them. Is not the message of a failure.

use flexcast_wire::{Reason, Verdict};

/// A verdict as people say it.
pub(super) fn in_words(verdict: Verdict, reason: Reason) -> String {
    let because = because(reason);
    match verdict {
        Verdict::Granted | Verdict::Draining => "granted".to_owned(),
        Verdict::Pending => "pending: the sender has not begun yet".to_owned(),
        Verdict::Left => "left".to_owned(),
        Verdict::Ended => "the sender has ended the stream".to_owned(),
        Verdict::RefusedFinal => format!("refused: {because}"),
        Verdict::RefusedPassing => format!("refused for now: {because}; trying again"),
    }
}

/// A reason, after "refused:".
pub(super) fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::None => "no reason given",
        Reason::Policy => "its policy does not allow this host",
        Reason::Credential => "the credential does not fit",
        Reason::Full => "a table there is full",
        Reason::Loop => "relays stand in a ring",
        Reason::TooDeep => "too many relays one below the other",
        Reason::Overload => "too much is asked of it at once",
    }
}
