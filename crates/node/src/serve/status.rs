//! A volume as this node knows it.

use cove_btrfs::SubvolumePath;
use cove_content::entry::EntryRecord;
use cove_content::volumes::{VolumeError, VolumeStatus};
use cove_types::{Durability, EntryId, ErrorKind, wire};

use crate::capture::SWAP_FILE;
use crate::claim::Holding;
use crate::node::{Inner, chain};
use crate::save::Cause;
use crate::volume::{Known, State, Trouble, Volume};
use crate::work::Work;

/// Where more is to be read of what is lost.
const LOST_HINT: &str = "the log in Cove's home says which operation it was";
/// What helps when a swap file keeps a volume from being captured.
const SWAP_HINT: &str = "`swapoff` the file, or keep swap files outside the project";
/// What helps a volume that another Cove has taken over.
const FENCED_HINT: &str =
    "what is not saved stays in the directory that `cove path` prints: copy it from there";

/// The rescue entries that nobody has looked at, by why they were made: what, since when, and what to do.
fn rescued(state: &State) -> Vec<(String, jiff::Timestamp, String)> {
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

/// How many plain bytes of the files, as they were looked at last, the head does not have: 0 exactly when
/// it is that state, none when it is not known.
fn unsaved_bytes(state: &State) -> Option<u64> {
    let head = state.known.as_ref().map(|known| &known.head)?;
    let captured = state.queue.iter().rfind(|pending| {
        !matches!(pending.work, Work::EditEntry { .. } | Work::Fork { .. } | Work::Describe { .. })
    });
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

pub(crate) fn status(inner: &Inner, volume: &Volume) -> Result<VolumeStatus, VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    let found = inner.pool.find(&live);
    // where it could not be looked for, nothing is missing as far as is known
    let here = !matches!(found, Ok(None));
    let path = here.then(|| inner.pool.absolute(&live).join("files"));
    let (holding, silent) = (inner.holding(), inner.silent());
    let unique = inner.pool.usage(&volume.id).map(|usage| usage.charged_bytes).unwrap_or(0);
    let mut state = volume.state();
    let document =
        state.document.clone().ok_or_else(|| VolumeError::NotHere { volume: volume.id.clone() })?;
    let is_live = state.is_live();
    let is_missing = !here && is_live && state.queue.is_empty();
    let missing_since = is_missing.then(|| state.missing.unwrap_or_else(|| inner.env.now()));
    state.missing = missing_since;
    let unread = state.known.as_ref().map_or(0, Known::unread);
    let unread_since = (unread > 0).then(|| state.unread.unwrap_or_else(|| inner.env.now()));
    state.unread = unread_since;
    let state = state;
    let head = state.known.as_ref().map(|known| &known.head);
    let unsaved_bytes = unsaved_bytes(&state);
    let counts = head.map(|head| head.now.counts).unwrap_or_default();
    let mut problems = Vec::new();
    let mut problem = |what: String, since: jiff::Timestamp, who: &str, hint: Option<&str>| {
        problems.push(wire::Problem {
            what,
            since: since.to_string(),
            who_acts: who.to_owned(),
            hint: hint.map(ToOwned::to_owned),
        });
    };
    for (trouble, act) in [(&state.saving, "not saved"), (&state.looking, "not looked at")] {
        if let Some(Trouble { what, kind, since }) = trouble {
            let who = match kind {
                ErrorKind::Unavailable | ErrorKind::TimedOut => "nobody",
                ErrorKind::Precondition => "you",
                _ => "operator",
            };
            let hint = state.fenced.then_some(FENCED_HINT);
            problem(format!("{act}: {what}"), *since, who, hint);
        }
    }
    for Trouble { what, since, .. } in &state.lost {
        problem(what.clone(), *since, "operator", Some(LOST_HINT));
    }
    if let Some(since) = inner.signs.another() {
        problem(
            "another copy of this Cove saves to the same store under the same name".into(),
            since,
            "you",
            Some("stop one of the two, or give the other a home and a store of its own"),
        );
    }
    if let Some(Trouble { what, since, .. }) = &state.reread {
        problem(what.clone(), *since, "nobody", None);
    }
    if let Err(error) = &found {
        let what = format!("its files could not be looked at: {}", chain(error));
        problem(what, inner.env.now(), "operator", None);
    }
    if let Some(since) = missing_since {
        problem(
            "its files are not on this machine".into(),
            since,
            "you",
            Some("`cove recover` brings them back, as far as they can be read"),
        );
    }
    if let Some(since) = unread_since {
        let what = VolumeError::EntriesUnread { count: unread }.to_string();
        problem(what, since, "operator", Some("`cove verify` names the object"));
    }
    for (what, since, hint) in rescued(&state) {
        problem(what, since, "you", Some(&hint));
    }
    if let Some(since) = state.swap_file {
        problem(format!("not captured: {SWAP_FILE}"), since, "you", Some(SWAP_HINT));
    }
    if let (Holding::Held, Some((why, since))) = (&holding, &silent) {
        problem(format!("the store does not answer: {why}"), *since, "operator", None);
    }
    let store = match &holding {
        Holding::Held if state.fenced => "held_by_another",
        Holding::Held if silent.is_some() => "unreachable",
        Holding::Held => match &state.saving {
            Some(trouble) if trouble.kind == ErrorKind::Unavailable => "unreachable",
            _ => "reachable",
        },
        Holding::HeldByAnother { .. } => {
            problem(
                "the store is held by another Cove: nothing is saved".into(),
                inner.held_since(),
                "you",
                Some("run `cove recover` to take it over"),
            );
            "held_by_another"
        }
        Holding::Unknown { why } => {
            let what = format!("the store does not answer: {why}");
            problem(what, inner.held_since(), "operator", None);
            "unreachable"
        }
    };
    Ok(VolumeStatus {
        volume: volume.id.clone(),
        document,
        seq: state.seq(),
        path,
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
        entries: u32::try_from(state.entries().iter().filter(|view| view.record.is_live()).count())
            .unwrap_or(u32::MAX),
        unread_entries: unread,
        not_captured: state
            .not_captured()
            .iter()
            .map(|lack| wire::NotCaptured {
                path: lack.path.strip_prefix("files/").unwrap_or(&lack.path).to_owned(),
                what: lack.what.clone(),
            })
            .collect(),
        not_captured_count: head.map_or(0, |head| head.now.not_captured.count),
        problems,
        store: store.to_owned(),
    })
}
