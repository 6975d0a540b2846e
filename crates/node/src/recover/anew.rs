//! Heads that are lost while this machine remembers them: the same bytes are put again.
//!
//! Whoever runs a recovery holds the store, so that nobody else writes meanwhile. What another owner, or
//! another copy of this home, saved after the head that is remembered was put is recorded in its packs: then
//! what is remembered would hide it, and is not put. What another owner changed without a pack (a name, a
//! label, a pin, what went to the trash) is recorded nowhere, and is lost with the head.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cove_content::chunks::{Chunks, NamedPacks, PackCache};
use cove_content::head::Head;
use cove_content::rebuild::{Remains, newest_operation};
use cove_content::volumes::Rebuilt;
use cove_types::{OperationId, PackId, VolumeId, chain};

use crate::node::Inner;
use crate::recover::rebuild::{Damaged, Found, PACKS_AT_ONCE, found, has_files};
use crate::recover::said;
use crate::save::put_head;
use crate::volume::{Known, Volume};

/// What became of a head that is lost and that this machine remembers.
pub(super) enum Anew {
    /// It is there again. In words, what of its content is gone, if anything.
    Put(Rebuilt, Option<String>),
    /// It is there after all.
    NotLost,
    /// The packs record a change that this machine does not know, beside those that wait here.
    Newer { waiting: Vec<OperationId> },
}

/// The volumes whose heads were not listed, or are damaged, and of which this machine has the files and the
/// head as it was put last; not those of which it knows a newer owner.
pub(super) fn remembered(
    inner: &Inner,
    named: &[VolumeId],
    damaged: &BTreeMap<VolumeId, Damaged>,
) -> Vec<(Arc<Volume>, Known)> {
    let volumes = inner.all_volumes();
    let lost = volumes.into_iter().filter(|volume| {
        (!named.contains(&volume.id) || damaged.contains_key(&volume.id))
            && has_files(inner, &volume.id)
    });
    let known = lost.filter_map(|volume| {
        let known = {
            let state = volume.state();
            state.known.clone().filter(|_| !state.fenced)?
        };
        Some((volume, known))
    });
    known.collect()
}

/// Puts the head that is remembered again, if what is there is missing or damaged still; a change that waits to
/// be saved meets it as its own. When packs that it names are gone, what the present state has of them is
/// put again with the next save. May be repeated.
///
/// Costs a list of all packs.
///
/// # Errors
///
/// The store did not answer.
pub(super) fn put_anew(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    remains: Option<&Remains>,
) -> Result<Anew, String> {
    let id = &volume.id;
    let before = match found(inner, id) {
        Found::Whole => return Ok(Anew::NotLost),
        Found::Unknown(why) => return Err(why),
        Found::Missing => None,
        Found::Damaged(Some((_, version))) => Some(Known { version, ..known.clone() }),
        Found::Damaged(None) => return Err("what is there is longer than any head".into()),
    };
    let waiting: Vec<OperationId> =
        volume.state().queue.iter().map(|pending| pending.operation).collect();
    let after = remains.map_or_else(|| Some(Vec::new()), |remains| remains.after(at(&known.head)));
    let after = after.map(|after| {
        after.into_iter().map(|head| (at(head), newest_operation(head))).collect::<Vec<_>>()
    });
    if !is_newest(at(&known.head), after.as_deref(), &waiting) {
        return Ok(Anew::Newer { waiting });
    }
    let put = put_head(inner, id, before.as_ref(), known.head.clone(), known.older.clone(), None);
    let put = put.map_err(said)?;
    tracing::warn!(volume = %id, "a lost head was put again, as it is remembered here");
    let gone = match gone(inner, &put.head) {
        Ok(0) => None,
        Ok(number) => Some(format!("{number} of the packs that it names are gone from the store")),
        Err(why) => {
            Some(format!("it is not known whether the packs that it names are there: {why}"))
        }
    };
    if gone.is_some() {
        volume.state().mend = true;
    }
    let rebuilt = Rebuilt { lost: id.clone(), volume: id.clone(), recorded_at: put.head.time };
    Ok(Anew::Put(rebuilt, gone))
}

/// How many objects that a head names, by itself or through an index, are not in the store.
fn gone(inner: &Inner, head: &Head) -> Result<usize, String> {
    // what the store says, not what this node remembers of it
    let nothing = Arc::new(PackCache::new(None));
    let stored = Chunks::new(inner.remote.clone(), nothing, head.locations.clone());
    let NamedPacks { packs, damaged } = stored.packs().map_err(|error| chain(&error))?;
    let mut missing: HashSet<PackId> = packs.into_iter().map(|(id, _)| id).collect();
    let mut after = None;
    loop {
        let page = inner.remote.packs(after.as_ref(), PACKS_AT_ONCE);
        let page = page.map_err(|error| chain(&error))?;
        for (id, _) in &page.packs {
            missing.remove(id);
        }
        after = page.next;
        if after.is_none() {
            return Ok(missing.len() + damaged.len());
        }
    }
}

/// Where a head stands: its owner, then its change.
type At = (u64, u32);

fn at(head: &Head) -> At {
    (head.epoch, head.seq)
}

/// Whether every change after the one that is remembered, given where packs record it and its operation, is
/// one that waits here to be saved next. `None` when not all of them are known.
fn is_newest(
    (epoch, seq): At,
    after: Option<&[(At, Option<OperationId>)]>,
    waiting: &[OperationId],
) -> bool {
    after.is_some_and(|after| {
        after.iter().all(|(at, operation)| {
            *at == (epoch, seq + 1) && operation.is_some_and(|own| waiting.contains(&own))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_put_again_unless_somebody_saved_after_it() {
        let (own, other) = (OperationId([1; 16]), OperationId([2; 16]));
        let next = (2, 8);
        let is_newest = |after: &[_]| is_newest((2, 7), Some(after), &[own]);
        assert!(is_newest(&[]));
        assert!(is_newest(&[(next, Some(own)), (next, Some(own))]), "tried twice");
        assert!(!super::is_newest((2, 7), None, &[own]), "there may be more");
        for other in [(next, Some(other)), (next, None), ((2, 9), Some(own)), ((3, 1), Some(own))] {
            assert!(!is_newest(&[(next, Some(own)), other]), "{other:?}");
        }
    }
}
