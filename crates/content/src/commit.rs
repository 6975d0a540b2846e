//! What a writer does after its PUT of a head (R3, R4, R13 of the protocol).
//!
//! Pure: the store's answer and what was read since go in, the next step comes out.

use cove_types::OperationId;

use crate::head::{Head, HeadObject};

/// What the store said to a conditional PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Done,
    /// It did not and never will: the head is another than expected (412).
    Refused,
    /// Nobody knows: time-out, 5xx, 409, a failed fsync.
    Unknown,
}

/// What the head was when it was read after the PUT.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadHead {
    /// It is this.
    Found(HeadObject),
    /// The store says for certain that there is none (404).
    Absent,
    /// The read failed.
    Unknown,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The operation took effect. Its tree is that of the head, which need not be
    /// that of this attempt.
    Success,
    /// Somebody else owns the volume, or nobody does: stop, keep what is not stored as a rescue
    /// snapshot, tell the user.
    Fenced {
        /// Whether the operation took effect before; if not, its caller is told
        /// that this is unknown.
        took_effect: bool,
    },
    /// The Hub sealed a new epoch for this same node: take it, look at the local copy
    /// (R14), begin the session again.
    SealedForMe {
        /// Whether the operation took effect before; then there is nothing to repeat.
        took_effect: bool,
    },
    /// A tombstone: the volume is deleted, and does not come back.
    Deleted {
        /// Whether it ever lived: a create that finds that it did not has failed.
        lived: bool,
    },
    /// The head is gone, and nobody of the protocol removes heads: nothing is known of who owns the
    /// volume. Wait for it to come back, and tell the user.
    Missing,
    /// Another change of this owner was faster: plan again from the new head,
    /// deduplication included.
    BeginAgain,
    /// Send the very same PUT again: same bytes, same condition.
    RepeatSame,
    /// Read the head and ask again.
    ReadAgain,
    /// No time is left: say "unknown, ask again with this operation id", never "failed".
    AnswerUnknown,
}

/// What to do after a PUT of `mine` had `outcome`.
///
/// `read` is the head as it was read after the PUT, if it was. `op` is the operation for whose
/// sake the PUT was made; a seal has none. `time_left` says whether the caller still waits.
#[must_use]
pub fn after_put(
    outcome: Outcome,
    mine: &Head,
    read: Option<&ReadHead>,
    op: Option<&OperationId>,
    time_left: bool,
) -> Next {
    let or_unknown = |next| if time_left { next } else { Next::AnswerUnknown };
    match (outcome, read) {
        (Outcome::Done, _) => Next::Success,
        // A head that was read meanwhile proves nothing while the PUT may still
        // arrive, except that it has arrived.
        (Outcome::Unknown, Some(ReadHead::Found(found))) if took_effect(mine, found, op) => {
            after_refusal(mine, found, op)
        }
        (Outcome::Unknown, _) => or_unknown(Next::RepeatSame),
        (Outcome::Refused, None | Some(ReadHead::Unknown)) => or_unknown(Next::ReadAgain),
        // A create is refused only because something is there; when it is gone again, somebody
        // outside the protocol removes heads. The same holds for a change.
        (Outcome::Refused, Some(ReadHead::Absent)) => Next::Missing,
        (Outcome::Refused, Some(ReadHead::Found(found))) => after_refusal(mine, found, op),
    }
}

/// Whether `found` shows that the PUT of `mine`, or an earlier attempt of its operation, did.
fn took_effect(mine: &Head, found: &HeadObject, op: Option<&OperationId>) -> bool {
    match found {
        HeadObject::Head(head) => {
            let same = head.seq == mine.seq && head.nonce == mine.nonce;
            let listed = op.is_some_and(|op| head.ops.iter().any(|other| other.id == *op));
            // The id of a created volume is derived from the operation, so that a live
            // head there is its success even when the list has forgotten it.
            same || listed || mine.seq == 1
        }
        HeadObject::Tombstone(tombstone) => {
            tombstone.lived && op.is_some() && tombstone.op.as_ref() == op
        }
    }
}

fn after_refusal(mine: &Head, found: &HeadObject, op: Option<&OperationId>) -> Next {
    let took_effect = took_effect(mine, found, op);
    let head = match found {
        HeadObject::Head(head) => head,
        HeadObject::Tombstone(_) if took_effect => return Next::Success,
        HeadObject::Tombstone(tombstone) => return Next::Deleted { lived: tombstone.lived },
    };
    if mine.seq == 1 {
        return Next::Success;
    }
    match (head.epoch.cmp(&mine.epoch), head.holder == mine.holder) {
        (std::cmp::Ordering::Greater, true) => Next::SealedForMe { took_effect },
        (std::cmp::Ordering::Greater, false) => Next::Fenced { took_effect },
        (std::cmp::Ordering::Equal, true) if took_effect => Next::Success,
        (std::cmp::Ordering::Equal, true) => Next::BeginAgain,
        // Two sealed the same next epoch; the other was first.
        (std::cmp::Ordering::Equal, false) => Next::Fenced { took_effect },
        // Mine is a seal, and the owner before it was faster with a commit.
        (std::cmp::Ordering::Less, _) => Next::BeginAgain,
    }
}

#[cfg(test)]
mod tests;
