//! A restore in the head: the entry becomes the state of now, the state before an entry, unless it was
//! known to be one.

use std::sync::Arc;

use cove_content::entry::EntryRecord;
use cove_content::head::Replace;
use cove_content::root::{NotCaptured, Root};
use cove_types::{EntryId, ErrorKind};

use crate::capture::strip_volume;
use crate::node::Inner;
use crate::save::SaveError;
use crate::save::commit::commit;
use crate::save::{known_of, never, plain, rolled_off};
use crate::volume::{Ended, Volume};
use crate::work::{Pending, Work};

/// Sets the head to an entry; what was swapped out becomes another, unless it is the one that was told.
pub(crate) fn restore(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    entry: &EntryId,
    before: &EntryRecord,
    keep: u32,
) -> Result<Ended, SaveError> {
    let known = known_of(volume)?;
    let target = known
        .get_entry(entry)
        // the files are those of the entry already: it is waited for
        .map_err(|error| SaveError::later("failed to find what was restored", &error))?
        .clone();
    let Work::Restore { tree, uuid, before_is, .. } = &pending.work else {
        let what = "a restore was mistaken for other work".to_owned();
        return Err(SaveError::Later { kind: ErrorKind::Internal, what });
    };
    let is_exact = tree.is_some();
    let not_captured = match is_exact {
        true => NotCaptured::default(),
        false => {
            // what it lacks was not known when it was copied; the next look says what is left
            let lacks = target.root.not_captured.clone();
            strip_volume(inner, &volume.id, Some(*uuid), &lacks)
                .map_err(|error| SaveError::later("failed to finish a restore", &error))?;
            lacks
        }
    };
    let ended = Ended { entry: Some(before.id), ..Ended::default() };
    commit(inner, volume, pending, ended, never, |head, root, made, stamp, op| {
        let replaced = head.commit(plain(head, root.clone()), None, stamp)?;
        let told = before_is.and_then(|told| head.find_entry(&told));
        let is_told = told.is_some_and(|told| told.is_live() && told.root.tree == root.tree);
        let next_root = Root {
            parents: vec![root.digest()],
            document: head.now.document,
            not_captured: not_captured.clone(),
            ..target.root.clone()
        };
        if is_told {
            made.entry = *before_is;
            return replaced.commit(plain(&replaced, next_root), op, stamp);
        }
        let record = EntryRecord { root, ..before.clone() };
        made.rolled_off = rolled_off(head, &record, keep);
        made.rolled_off.retain(|id| *id != target.id);
        let replace = Replace {
            root: next_root,
            locations: replaced.locations.clone(),
            root_frame: None,
            before: record,
            trash: made.rolled_off.clone(),
        };
        replaced.restore_to(replace, op, stamp)
    })
}
