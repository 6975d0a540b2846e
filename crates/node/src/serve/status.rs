//! A volume as this node knows it.

use std::sync::Arc;

use cove_btrfs::{SubvolumePath, Usage};
use cove_content::entry::EntryRecord;
use cove_content::volumes::{VolumeError, VolumeFilter, VolumeStatus};
use cove_types::{Durability, EntryId, ErrorKind, chain, wire};
use jiff::Timestamp;

use crate::capture::SWAP_FILE;
use crate::claim::Holding;
use crate::node::{Inner, Node};
use crate::save::{Cause, is_head_lost};
use crate::serve::pool::PoolFault;
use crate::serve::waiting::blocking;
use crate::volume::{Known, State, Trouble, Volume};

/// Where more is to be read of what is lost.
const LOST_HINT: &str = "the log in Cove's home says which operation it was";
/// What helps when the timeline has no room for a rescue.
const ASIDE_HINT: &str =
    "`cove rm NAME@ENTRY` an entry that is not needed (`cove unpin` it first): it is saved then";
/// What helps when the head is missing or damaged, and is not overwritten because nobody knows by whom.
const HEAD_HINT: &str = "`cove recover` puts it again, as this machine remembers it, unless another copy \
     has saved; `cove new OTHER --from \"$(cove path NAME)\"` makes a project of the files";
/// What helps when a swap file keeps a volume from being captured.
const SWAP_HINT: &str = "`swapoff` the file, or keep swap files outside the project";
/// What helps a volume that another Cove has taken over.
const FENCED_HINT: &str =
    "what is not saved stays in the directory that `cove path` prints: copy it from there";

/// What helps a volume that may not hold more, by a quota of Cove's.
const QUOTA_HINT: &str = "raise its quota (`ModifyVolume` of the Volume Hub, or expand its claim), or remove what is \
     not needed";
/// The same, by a limit that somebody set beside Cove.
const LIMIT_HINT: &str =
    "whoever limits it raises its limit (`btrfs qgroup limit`), or remove what is not needed";
/// A quota is as good as used up when less than one part in so many of it is left.
const QUOTA_PART: u64 = 20;

/// What helps a volume whose files are not here.
const MISSING_HINT: &str = "`cove recover` brings them back, as far as they can be read";

/// The rescue entries that nobody has looked at, by why they were made: what, since when, and what to do.
fn rescued(state: &State) -> Vec<(String, Timestamp, String)> {
    let slug = state.document.as_ref().map(|document| document.slug.to_string());
    let slug = slug.unwrap_or_else(|| "NAME".into());
    let mut unseen: Vec<(Cause, &EntryRecord, usize)> = Vec::new();
    for record in state.known.iter().flat_map(Known::entries) {
        let Some(cause) = Cause::of_unseen(record) else { continue };
        if state.whole.contains(&record.id) {
            continue;
        }
        match unseen.iter_mut().find(|(other, ..)| *other == cause) {
            Some((_, newest, count)) => {
                *count += 1;
                if record.time > newest.time {
                    *newest = record;
                }
            }
            None => unseen.push((cause, record, 1)),
        }
    }
    let hint = |id: EntryId| {
        format!(
            "`cove timeline {slug}` lists them, `cove diff {slug}@{id}..{slug}` compares; \
             `cove pin {slug}@{id}` says that you have seen it"
        )
    };
    unseen
        .into_iter()
        .map(|(cause, newest, count)| {
            (
                format!("{}: {count}, the newest is {}", cause.problem(), newest.id),
                newest.time,
                hint(newest.id),
            )
        })
        .collect()
}

/// What a status tells beside the volume's own: it is the same for all volumes at a moment.
pub(super) struct Around {
    holding: Holding,
    held_since: Timestamp,
    /// Why the store does not answer, and since when.
    silent: Option<(String, Timestamp)>,
    /// Since when another copy of this Cove is known to be alive.
    another: Option<Timestamp>,
    /// What is wrong with the pool, and since when.
    pool: Option<(PoolFault, Timestamp)>,
}

impl Around {
    /// Looks around. Costs some calls of the kernel's.
    pub(super) fn look(inner: &Inner) -> Self {
        Self {
            holding: inner.holding(),
            held_since: inner.held_since(),
            silent: inner.silent(),
            another: inner.signs.another(),
            pool: super::pool::look(inner),
        }
    }
}

fn problem(what: String, since: Timestamp, who: &str, hint: Option<&str>) -> wire::Problem {
    wire::Problem {
        what,
        since: since.to_string(),
        who_acts: who.to_owned(),
        hint: hint.map(ToOwned::to_owned),
    }
}

/// How many plain bytes of the files, as they were looked at last, the head does not have: 0 exactly when
/// it is that state, none when it is not known.
fn unsaved_bytes(state: &State) -> Option<u64> {
    let head = state.known.as_ref().map(|known| &known.head)?;
    let captured = state.queue.iter().rfind(|pending| !pending.work.is_of_head_alone());
    if let Some(captured) = captured {
        // a change without bytes, of a name or a mode, is one nevertheless
        let (_, bytes) = state.measured.filter(|(of, _)| *of == captured.operation)?;
        return (bytes > 0).then_some(bytes);
    }
    // a look that failed, a lost volume or files of another state than the head's say nothing
    let copy = state.copy.as_ref()?;
    let is_known = state.looking.is_none()
        && !state.fenced
        && !state.changes.may_be_there()
        && head.now.tree == copy.tree;
    copy.unsaved_bytes.filter(|_| is_known)
}

/// What keeps a volume from being saved or looked at, and what of it is lost.
fn troubles(state: &State) -> Vec<wire::Problem> {
    let mut problems = Vec::new();
    for (trouble, act) in [(&state.saving, "not saved"), (&state.looking, "not looked at")] {
        if let Some(Trouble { what, kind, since }) = trouble {
            let who = match kind {
                ErrorKind::Unavailable | ErrorKind::TimedOut => "nobody",
                ErrorKind::Precondition => "you",
                _ => "operator",
            };
            let hint = match state.fenced {
                true => Some(FENCED_HINT),
                false => is_head_lost(what).then_some(HEAD_HINT),
            };
            problems.push(problem(format!("{act}: {what}"), *since, who, hint));
        }
    }
    let lost = state.lost.iter();
    problems.extend(lost.map(|Trouble { what, since, .. }| {
        problem(what.clone(), *since, "operator", Some(LOST_HINT))
    }));
    let aside = state.aside.iter().map(|(_, trouble)| trouble);
    problems.extend(
        aside.map(|Trouble { what, since, .. }| {
            problem(what.clone(), *since, "you", Some(ASIDE_HINT))
        }),
    );
    problems
}

/// Whether a volume may hold hardly more than it does.
fn is_used_up(usage: &Usage) -> bool {
    usage
        .limit_bytes
        .is_some_and(|limit| limit.saturating_sub(usage.charged_bytes) < limit / QUOTA_PART)
}

/// What is left of a quota, in words.
fn quota(usage: &Usage) -> String {
    let limit = usage.limit_bytes.unwrap_or(0);
    format!("{} of {} MiB are left", limit.saturating_sub(usage.charged_bytes) >> 20, limit >> 20)
}

/// What is to be said of the files and the entries.
fn remarks(state: &State) -> Vec<wire::Problem> {
    let mut problems = Vec::new();
    if let Some(Trouble { what, since, .. }) = &state.reread {
        problems.push(problem(what.clone(), *since, "nobody", None));
    }
    if let Some(since) = state.missing {
        let what = "its files are not on this machine".to_owned();
        problems.push(problem(what, since, "you", Some(MISSING_HINT)));
    }
    if let Some((usage, since)) = &state.quota {
        let what = format!("its quota is used up: {}", quota(usage));
        let hint = match state.spec().quota_bytes {
            Some(_) => QUOTA_HINT,
            None => LIMIT_HINT,
        };
        problems.push(problem(what, *since, "operator", Some(hint)));
    }
    if let Some(since) = state.unread {
        let count = state.known.as_ref().map_or(0, Known::unread);
        let what = VolumeError::EntriesUnread { count }.to_string();
        problems.push(problem(what, since, "operator", Some("`cove verify` names the object")));
    }
    for (what, since, hint) in rescued(state) {
        problems.push(problem(what, since, "you", Some(&hint)));
    }
    if let Some(since) = state.swap_file {
        let what = format!("not captured: {SWAP_FILE}");
        problems.push(problem(what, since, "you", Some(SWAP_HINT)));
    }
    problems
}

/// What is wrong with the store as such.
fn problem_of_store(around: &Around) -> Option<wire::Problem> {
    match (&around.holding, &around.silent) {
        (Holding::Held, Some((why, since))) => {
            let what = format!("the store does not answer: {why}");
            Some(problem(what, *since, "operator", None))
        }
        (Holding::Held, None) => None,
        (Holding::HeldByAnother { .. }, _) => {
            let what = "the store is held by another Cove: nothing is saved".to_owned();
            let hint = "run `cove recover` to take it over";
            Some(problem(what, around.held_since, "you", Some(hint)))
        }
        (Holding::Unknown { why }, _) => {
            let what = format!("the store cannot be used: {why}");
            Some(problem(what, around.held_since, "operator", None))
        }
    }
}

/// What could not be looked at now, and why.
struct Unseen {
    files: Option<(String, Timestamp)>,
    /// What the quota is charged.
    quota: Option<(String, Timestamp)>,
}

fn problems(state: &State, around: &Around, unseen: &Unseen) -> Vec<wire::Problem> {
    let another = around.another.map(|since| {
        let what = "another copy of this Cove saves to the same store under the same name";
        let hint = "stop one of the two, or give the other a home and a store of its own";
        problem(what.to_owned(), since, "you", Some(hint))
    });
    let failed = |what: &str, why: &Option<(String, Timestamp)>| {
        let (why, since) = why.as_ref()?;
        Some(problem(format!("{what}: {why}"), *since, "operator", None))
    };
    let files = failed("its files could not be looked at", &unseen.files);
    let quota = failed("what it takes on the disk could not be read", &unseen.quota);
    let pool = around
        .pool
        .as_ref()
        .map(|(fault, since)| problem(fault.what(), *since, "operator", Some(fault.hint())));
    let mut problems = troubles(state);
    problems.extend(another);
    problems.extend(files);
    problems.extend(quota);
    problems.extend(pool);
    problems.extend(remarks(state));
    problems.extend(problem_of_store(around));
    problems
}

/// The word for how the store stands to the volume.
fn store(state: &State, around: &Around) -> &'static str {
    match &around.holding {
        Holding::Held if state.fenced => "held_by_another",
        Holding::Held if around.silent.is_some() => "unreachable",
        Holding::Held => match &state.saving {
            Some(trouble) if trouble.kind == ErrorKind::Unavailable => "unreachable",
            _ => "reachable",
        },
        Holding::HeldByAnother { .. } => "held_by_another",
        Holding::Unknown { .. } => "unreachable",
    }
}

/// What a tree does not hold, by the paths that people write.
fn not_captured(state: &State) -> Vec<wire::NotCaptured> {
    let lacks = state.not_captured().iter();
    lacks
        .map(|lack| wire::NotCaptured {
            path: lack.path.strip_prefix("files/").unwrap_or(&lack.path).to_owned(),
            what: lack.what.clone(),
        })
        .collect()
}

pub(super) fn status(inner: &Inner, volume: &Volume) -> Result<VolumeStatus, VolumeError> {
    status_in(inner, volume, &Around::look(inner))
}

/// The same for one of many volumes that are looked at together.
fn status_in(inner: &Inner, volume: &Volume, around: &Around) -> Result<VolumeStatus, VolumeError> {
    let status = status_as_held(inner, volume, around)?;
    // one that is deleted is taken out before the work that deletes it leaves the queue: what was seen while it was
    // not taken out yet says that it is deleted
    match inner.find_volume(&volume.id) {
        Some(_) => Ok(status),
        None => Err(VolumeError::NotHere { volume: volume.id.clone() }),
    }
}

/// The same of one that the caller holds, which may have failed and be gone by now.
pub(super) fn status_as_held(
    inner: &Inner,
    volume: &Volume,
    around: &Around,
) -> Result<VolumeStatus, VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    // what the kernel has in memory is there; else it is looked for
    let found = match inner.pool.open_cached(&live) {
        Some(_) => Ok(true),
        None => inner.pool.find(&live).map(|found| found.is_some()),
    };
    // where it could not be looked for, nothing is missing as far as is known
    let here = !matches!(found, Ok(false));
    let path = here.then(|| inner.pool.absolute(&live).join("files"));
    let used = inner.pool.usage(&volume.id);
    let uncounted = used.as_ref().err().map(|error| (chain(error), inner.env.now()));
    let unique = used.as_ref().map_or(0, |usage| usage.charged_bytes);
    let unseen = found.err().map(|error| (chain(&error), inner.env.now()));
    let mut state = volume.state();
    let document =
        state.document.clone().ok_or_else(|| VolumeError::NotHere { volume: volume.id.clone() })?;
    let is_missing = !here && state.is_live() && state.queue.is_empty();
    let missing = is_missing.then(|| state.missing.unwrap_or_else(|| inner.env.now()));
    state.missing = missing;
    let is_unread = state.known.as_ref().is_some_and(|known| known.unread() > 0);
    state.unread = is_unread.then(|| state.unread.unwrap_or_else(|| inner.env.now()));
    let since = state.quota.map_or_else(|| inner.env.now(), |(_, since)| since);
    // of what cannot be read now, the last is what is known
    if let Ok(usage) = used {
        state.quota = is_used_up(&usage).then_some((usage, since));
    }
    let state = &*state;
    let head = state.known.as_ref().map(|known| &known.head);
    let unsaved_bytes = unsaved_bytes(state);
    let counts = head.map(|head| head.now.counts).unwrap_or_default();
    let live_entries = state.entries().iter().filter(|view| view.record.is_live()).count();
    Ok(VolumeStatus {
        volume: volume.id.clone(),
        document,
        spec: state.spec(),
        epoch: head.map_or(0, |head| head.epoch),
        seq: state.seq(),
        path,
        is_deleted: state.will_be_deleted(),
        trashed_at: head.and_then(|head| head.trashed_at),
        saved_at: state.saved_at.filter(|_| head.is_some()),
        durability: match unsaved_bytes {
            Some(0) => Durability::Saved,
            _ => Durability::OnThisNode,
        },
        unsaved_bytes,
        bytes: wire::Bytes {
            logical: counts.logical_bytes,
            unique,
            shared: counts.data_bytes.saturating_sub(unique),
        },
        entries: u32::try_from(live_entries).unwrap_or(u32::MAX),
        unread_entries: state.known.as_ref().map_or(0, Known::unread),
        not_captured: not_captured(state),
        not_captured_count: head.map_or(0, |head| head.now.not_captured.count),
        problems: problems(state, around, &Unseen { files: unseen, quota: uncounted }),
        store: store(state, around).to_owned(),
    })
}

impl Node {
    /// The volumes that a filter takes in, or all, in the order of their ids.
    pub(super) async fn statuses(
        &self,
        wanted: Option<VolumeFilter>,
    ) -> Result<Vec<VolumeStatus>, VolumeError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let around = Around::look(&inner);
            let mut found = Vec::new();
            let mut volumes = inner.all_volumes();
            volumes.sort_by(|a, b| a.id.cmp(&b.id));
            for volume in volumes {
                let is_meant = {
                    let state = volume.state();
                    // what could not be read again yet is named by the doctor
                    state.document.as_ref().is_some_and(|document| {
                        let is_in = |wanted: &VolumeFilter| {
                            wanted.includes(&volume.id, state.name(), &document.slug)
                        };
                        wanted.as_ref().is_none_or(is_in)
                    })
                };
                if is_meant {
                    match status_in(&inner, &volume, &around) {
                        Ok(status) => found.push(status),
                        // it went meanwhile
                        Err(VolumeError::NotHere { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    pub(super) async fn status_of(&self, volume: Arc<Volume>) -> Result<VolumeStatus, VolumeError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || status(&inner, &volume)).await
    }
}
