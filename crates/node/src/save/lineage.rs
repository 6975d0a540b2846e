//! Whether a head that was read goes on from the one that is remembered here.

use cove_content::head::Head;
use cove_types::OperationId;

use crate::save::rescue::{Cause, rescue_id};

/// Where a head comes from that is another than is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lineage {
    /// From this copy: its state is the one that is remembered, or the one whose answer was lost.
    Own,
    /// From another copy of this Cove, which saved a state that this one never had.
    Foreign {
        /// Whether that state is an entry already.
        is_kept: bool,
    },
}

/// Compares the head that is remembered with the one that is in the store.
///
/// `operation` is the work that is being saved. Nothing of this node follows it before it is
/// written down here, so its own lost answer is the newest change of the head or not alone.
pub(crate) fn lineage(known: &Head, found: &Head, operation: Option<&OperationId>) -> Lineage {
    if operation.is_some_and(|own| is_answer(found, own)) || found.now.tree == known.now.tree {
        return Lineage::Own;
    }
    Lineage::Foreign {
        is_kept: found.find_entry(&rescue_id(&found.now, Cause::AnotherCopy)).is_some(),
    }
}

/// Whether `operation` took effect with this very head, so that its state is what that work saved.
pub(crate) fn is_answer(found: &Head, operation: &OperationId) -> bool {
    found.ops.iter().any(|op| op.id == *operation && op.seq == found.seq)
}

#[cfg(test)]
mod tests;
