//! Checking a volume against the store.

use std::sync::Arc;

use cove_content::chunks::{Chunks, PackCache};
use cove_content::claim::{self, StoreRecord};
use cove_content::entry::EntryRecord;
use cove_content::head::{Head, Older};
use cove_content::verify::{self, State, Subject};
use cove_content::volumes::{Verified, VerifyLevel, VolumeError};
use cove_objects::{Key, ReadError};
use cove_types::{chain, wire};

use crate::node::Inner;
use crate::save::{Cause, chunks_of, read_lacks};
use crate::volume::{Known, Volume};

pub(crate) fn unsaved_problem() -> wire::VerifyProblem {
    wire::VerifyProblem::new("nothing of it is in the store yet")
}

/// Checks a volume against what the store has, not against what this node remembers.
///
/// # Errors
///
/// The store did not answer.
pub(crate) fn check(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    level: VerifyLevel,
    verified: &mut Verified,
) -> Result<(), VolumeError> {
    let key = inner.remote.head_key(&volume.id);
    let of_head = |what: String| {
        let object = Some(key.to_string());
        wire::VerifyProblem { object, ..wire::VerifyProblem::new(what) }
    };
    let head = match inner.remote.get(&key) {
        Ok(object) => Head::decode_of(&volume.id, &object.bytes).map_err(|error| chain(&error)),
        Err(error @ (ReadError::NotFound { .. } | ReadError::TooLong { .. })) => Err(chain(&error)),
        Err(error) => return Err(VolumeError::failed("failed to read the head", error)),
    };
    let head = match head {
        Ok(head) => head,
        Err(what) => {
            verified.problems.push(of_head(what));
            return Ok(());
        }
    };
    if head.seq < known.head.seq {
        let (found, saved) = (head.seq, known.head.seq);
        let what = format!("the head is at {found}, this node had {saved} saved");
        verified.problems.push(of_head(what));
    }
    verified.problems.extend(verify::contradictions(&head).into_iter().map(of_head));
    // what the store says, not what this node remembers of it
    let nothing = Arc::new(PackCache::new(None));
    let stored = Chunks::new(inner.remote.clone(), nothing, head.locations.clone());
    read_lacks(volume, &head.now.not_captured, &stored);
    let mut entries = head.entries.clone();
    let lists = older(&stored, &head)?;
    let is_damaged = lists.iter().any(Result::is_err);
    let is_here = known.is_whole() && head.lists().eq(known.head.lists());
    if is_damaged && is_here {
        // their trees may be whole, and they are checked as this node knows them; the next save puts
        // the list anew from here
        entries.extend(known.older.entries.iter().cloned());
        volume.state().mend = true;
    }
    for list in lists {
        match list {
            Ok(_) if is_damaged && is_here => {}
            Ok(list) => entries.extend(list),
            Err(problem) => verified.problems.push(problem),
        }
    }
    let mut states = vec![State { entry: None, root: head.now.clone() }];
    let entry = |entry: &EntryRecord| State { entry: Some(entry.id), root: entry.root.clone() };
    states.extend(entries.iter().map(entry));
    let read = match level {
        VerifyLevel::Agree => {
            verified.checked.entries = states.len() as u64;
            return Ok(());
        }
        VerifyLevel::Located => None,
        VerifyLevel::Read { part, of } => Some((part, of)),
    };
    let remembered = chunks_of(inner, &head.locations);
    let subject = Subject { stored: &stored, remembered: &remembered, states: &states };
    let is_whole = verify::check(&subject, read, &mut verified.problems, &mut verified.checked)
        .map_err(|error| VolumeError::failed("failed to verify a volume", error))?;
    name_nearest_good(&states, &entries, &mut verified.problems);
    // the first is the present one, whose bytes this node has too
    if is_whole.first() == Some(&false) {
        volume.state().mend = true;
    }
    if read == Some((1, 1)) {
        note_whole(volume, &entries, &verified.problems);
    }
    Ok(())
}

/// Checks the record of who holds the store, which belongs to no volume.
///
/// # Errors
///
/// The store did not answer.
pub(crate) fn check_record(inner: &Inner) -> Result<Option<wire::VerifyProblem>, VolumeError> {
    let key = Key::parse(claim::KEY)
        .map_err(|error| VolumeError::failed("failed to name the store's record", error))?;
    let what = match inner.remote.get(&key) {
        Ok(object) => StoreRecord::decode(&object.bytes).err().map(|error| chain(&error)),
        Err(error @ (ReadError::NotFound { .. } | ReadError::TooLong { .. })) => {
            Some(chain(&error))
        }
        Err(error) => return Err(VolumeError::failed("failed to read who holds the store", error)),
    };
    Ok(what.map(|what| {
        let what = format!("who holds the store: {what}");
        wire::VerifyProblem { object: Some(key.to_string()), ..wire::VerifyProblem::new(what) }
    }))
}

/// Takes in which damaged states are whole again, now that every byte of them was read.
fn note_whole(volume: &Volume, entries: &[EntryRecord], problems: &[wire::VerifyProblem]) {
    let is_bad = |record: &EntryRecord| {
        let id = record.id.to_string();
        problems.iter().any(|problem| problem.entry.as_ref() == Some(&id))
    };
    let damaged = entries.iter().filter(|entry| Cause::of_unseen(entry) == Some(Cause::Damage));
    let mut state = volume.state();
    for record in damaged {
        match is_bad(record) {
            true => state.whole.remove(&record.id),
            false => state.whole.insert(record.id),
        };
    }
}

/// The older entries as the store has them, list by list, or what is wrong with a list.
fn older(
    stored: &Chunks,
    head: &Head,
) -> Result<Vec<Result<Vec<EntryRecord>, wire::VerifyProblem>>, VolumeError> {
    let problem = |list: &Older, what: String, object| {
        let what = format!("the list of {} older entries: {what}", list.count);
        wire::VerifyProblem { object, ..wire::VerifyProblem::new(what) }
    };
    let read = |list: &Older| match stored.chunk(&list.digest) {
        Ok(chunk) => {
            let entries = Head::decode_list(list, &chunk);
            Ok(entries.map_err(|error| problem(list, chain(&error), None)))
        }
        Err(error) if error.is_damage() => Ok(Err(problem(list, chain(&error), error.object()))),
        Err(error) => Err(VolumeError::failed("failed to read older entries", error)),
    };
    head.lists().map(read).collect()
}

/// Says in each problem which live entry without a problem was made nearest to its state.
fn name_nearest_good(
    states: &[State],
    entries: &[EntryRecord],
    problems: &mut [wire::VerifyProblem],
) {
    let place = |id: Option<&str>| {
        states.iter().position(|state| state.entry.map(|id| id.to_string()).as_deref() == id)
    };
    let bad: Vec<_> =
        problems.iter().filter_map(|problem| place(problem.entry.as_deref())).collect();
    let live = entries.iter().filter(|entry| entry.is_live());
    let good: Vec<_> = live
        .filter_map(|entry| Some((place(Some(&entry.id.to_string()))?, entry.id)))
        .filter(|(place, _)| !bad.contains(place))
        .collect();
    for problem in problems {
        let from = place(problem.entry.as_deref()).unwrap_or(0);
        let nearest = good.iter().min_by_key(|(place, _)| place.abs_diff(from));
        problem.nearest_good = nearest.map(|(_, id)| id.to_string());
    }
}
