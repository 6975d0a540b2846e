//! Which entries stay, and which entry a person means.

use cove_types::{At, Classify, EntryId, EntryKind, ErrorKind};
use jiff::{SignedDuration, Timestamp};

use crate::entry::EntryRecord;

/// The most entries that a project can be told to keep.
pub const KEEP_MAX: u32 = 200;

/// How many a project keeps unless it says otherwise.
pub const KEEP_DEFAULT: u32 = 5;

/// How many automatic entries stay whatever their age.
const AUTOMATIC_LAST: usize = 50;

/// For how many days one automatic entry a day stays.
const AUTOMATIC_DAYS: i64 = 7;

/// For how many weeks one automatic entry a week stays.
const AUTOMATIC_WEEKS: i64 = 4;

/// How an entry counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Asked for by a person; among the counted ones it goes last.
    Manual,
    /// Hibernation and publish: counted, and goes first.
    Event,
    /// Made along the way; thinned by age.
    Automatic,
    /// Never rolls off.
    Kept,
}

fn class(kind: EntryKind) -> Class {
    match kind {
        EntryKind::Manual => Class::Manual,
        EntryKind::Hibernation | EntryKind::Publish => Class::Event,
        EntryKind::BeforeRestore
        | EntryKind::BeforeMerge
        | EntryKind::Graph
        | EntryKind::Dependencies
        | EntryKind::Files
        | EntryKind::Agent
        | EntryKind::Install => Class::Automatic,
        // a rescue stays until its user dismisses it, a VolumeSnapshot until it is deleted
        EntryKind::Rescue | EntryKind::Csi => Class::Kept,
    }
}

/// The entries that go to the trash when `new` comes, the oldest first.
///
/// `entries` are the live ones without `new`, in any order; `held` are those that are
/// shared, published or being restored. Neither they nor pinned ones nor `new`
/// itself roll off, and pinned ones do not count. `keep` is how many manual, hibernation and publish
/// entries stay, with `new`; 1 to [`KEEP_MAX`], what is outside is taken as the nearest.
///
/// - Over the number, the oldest hibernation or publish entry goes first, the oldest manual
///   one only when no other is left.
/// - Of the automatic ones the last 50 stay, then the newest of each day for 7
///   days and the newest of each week for 4 weeks, counted back from `new`.
#[must_use]
pub fn roll_off(
    entries: &[EntryRecord],
    keep: u32,
    new: &EntryRecord,
    held: &[EntryId],
) -> Vec<EntryId> {
    let mut loose: Vec<&EntryRecord> = entries
        .iter()
        .filter(|entry| entry.is_live() && !entry.pinned && entry.id != new.id)
        .collect();
    loose.sort_by_key(|entry| (entry.time, entry.id));
    let mut gone: Vec<&EntryRecord> = counted(&loose, keep, new, held);
    gone.extend(automatic(&loose, new).into_iter().filter(|entry| !held.contains(&entry.id)));
    gone.sort_by_key(|entry| (entry.time, entry.id));
    gone.into_iter().map(|entry| entry.id).collect()
}

/// The counted entries that are too many; `loose` is sorted, the oldest first.
fn counted<'a>(
    loose: &[&'a EntryRecord],
    keep: u32,
    new: &EntryRecord,
    held: &[EntryId],
) -> Vec<&'a EntryRecord> {
    let of = |wanted: Class| loose.iter().copied().filter(move |e| class(e.kind) == wanted);
    let counts = matches!(class(new.kind), Class::Manual | Class::Event) && !new.pinned;
    let number = of(Class::Event).count() + of(Class::Manual).count() + usize::from(counts);
    let keep = usize::try_from(keep.clamp(1, KEEP_MAX)).unwrap_or(usize::MAX);
    of(Class::Event)
        .chain(of(Class::Manual))
        .filter(|entry| !held.contains(&entry.id))
        .take(number.saturating_sub(keep))
        .collect()
}

/// The automatic entries that are too old and not the newest of their day or week.
fn automatic<'a>(loose: &[&'a EntryRecord], new: &EntryRecord) -> Vec<&'a EntryRecord> {
    let newest_first = loose.iter().rev().copied().filter(|e| class(e.kind) == Class::Automatic);
    let mut spans = Vec::new();
    let last = AUTOMATIC_LAST - usize::from(class(new.kind) == Class::Automatic);
    newest_first
        .skip(last)
        .filter(|entry| match span(entry.time, new.time) {
            None => true,
            Some(span) if spans.contains(&span) => true,
            Some(span) => {
                spans.push(span);
                false
            }
        })
        .collect()
}

/// The day or week before `now` that `time` lies in, of which one entry stays.
fn span(time: Timestamp, now: Timestamp) -> Option<(bool, i64)> {
    let days = now.duration_since(time).max(SignedDuration::ZERO).as_hours() / 24;
    match days {
        ..AUTOMATIC_DAYS => Some((false, days)),
        _ if days < AUTOMATIC_WEEKS * 7 => Some((true, days / 7)),
        _ => None,
    }
}

/// What a person means by a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The present state.
    Now,
    /// An entry.
    Entry(EntryId),
}

/// Why a moment is none.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No entry has this id, prefix, label or number.
    #[error("there is no entry {at}")]
    NotFound { at: At },
    /// Several have.
    #[error("{at} is one of {}", list(.candidates))]
    Ambiguous { at: At, candidates: Vec<EntryId> },
}

impl Classify for ResolveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } => ErrorKind::Invalid,
        }
    }
}

fn list(ids: &[EntryId]) -> String {
    ids.iter().map(EntryId::as_str).collect::<Vec<_>>().join(", ")
}

/// The shortest prefix that names an entry.
const PREFIX_MIN: usize = 3;

/// Finds what `at` means among `entries`, in any order.
///
/// A whole id means that entry, else a label the one that has it; else the text is tried as a prefix
/// of an id, and has to mean one entry. `~n` counts the entries that somebody asked for, the newest first.
/// The caller passes those that may be meant: the live ones, or those in the trash.
///
/// # Errors
///
/// [`ResolveError`].
pub fn resolve(at: &At, entries: &[EntryRecord]) -> Result<Moment, ResolveError> {
    let not_found = || ResolveError::NotFound { at: at.clone() };
    match at {
        At::Now => Ok(Moment::Now),
        At::Newest(n) => {
            let mut asked_for: Vec<_> =
                entries.iter().filter(|entry| entry.kind.is_asked_for()).collect();
            asked_for.sort_by_key(|entry| std::cmp::Reverse((entry.time, entry.id)));
            let at = usize::try_from(*n).ok().and_then(|n| n.checked_sub(1));
            let entry = at.and_then(|at| asked_for.get(at)).ok_or_else(not_found)?;
            Ok(Moment::Entry(entry.id))
        }
        At::Named(text) => {
            if let Some(entry) = entries.iter().find(|entry| entry.id.as_str() == text) {
                return Ok(Moment::Entry(entry.id));
            }
            let ids = |is: &dyn Fn(&EntryRecord) -> bool| -> Vec<EntryId> {
                entries.iter().filter(|entry| is(entry)).map(|entry| entry.id).collect()
            };
            // In the trash several may have one.
            let mut candidates =
                ids(&|entry| entry.label.as_ref().is_some_and(|label| label.as_str() == text));
            if candidates.is_empty() && text.len() >= PREFIX_MIN {
                candidates = ids(&|entry| entry.id.as_str().starts_with(text.as_str()));
            }
            candidates.sort_unstable();
            match candidates.as_slice() {
                [] => Err(not_found()),
                [one] => Ok(Moment::Entry(*one)),
                _ => Err(ResolveError::Ambiguous { at: at.clone(), candidates }),
            }
        }
    }
}

#[cfg(test)]
mod tests;
