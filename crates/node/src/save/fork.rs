//! The heads of forks.

use std::sync::Arc;

use cove_btrfs::SubvolumePath;
use cove_content::head::{Create, Head, OlderEntries};
use cove_content::root::{NotCaptured, Root};
use cove_content::volumes::NewVolume;
use cove_database::{CopyRow, Finished};
use cove_types::{EntryId, ErrorKind, chain};

use crate::capture::{background, strip_volume};
use crate::node::{Inner, document_digest};
use crate::save::SaveError;
use crate::save::commit::commit;
use crate::save::finish::result_row;
use crate::save::head_put::{create_empty, head_row, put_head};
use crate::save::rescue::keep_foreign;
use crate::save::{is_now, known_of, op, plain, stamp};
use crate::volume::{Ended, Volume};
use crate::work::{Pending, Work};

/// Creates the heads of forks.
///
/// # Errors
///
/// Refused when a target is deleted for ever, as by somebody who asks again under an old operation id: that says nothing
/// about who holds the source.
pub(crate) fn fork(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    entry: Option<&EntryId>,
    targets: &[NewVolume],
    is_exact: bool,
) -> Result<Ended, SaveError> {
    if entry.is_none() {
        let now = Pending { work: Work::Background, ..pending.clone() };
        commit(inner, volume, &now, Ended::default(), is_now, |head, root, _, stamp, op| {
            head.commit(plain(head, root), op, stamp)
        })
        .map_err(|error| match error {
            // the forks are there and used: they are not taken back
            SaveError::Refused { kind, what } => SaveError::Later { kind, what },
            other => other,
        })?;
    }
    let known = known_of(volume)?;
    let source = match entry {
        None => Some((&known.head.now, known.head.root_frame)),
        // the forks are there and used, also when the entry did not come to be
        Some(entry) => match known.get_entry(entry) {
            Ok(found) => Some((&found.root, None)),
            Err(error) => {
                let why = chain(&error);
                tracing::warn!(volume = %volume.id, %entry, why, "forks are saved by themselves");
                None
            }
        },
    };
    let mut finished = Finished { operations: vec![pending.operation], ..Finished::default() };
    for NewVolume { volume: target, document, spec } in targets {
        // an earlier attempt has put its head, and it has been used since
        let is_known = |fork: Arc<Volume>| fork.state().known.is_some();
        if inner.find_volume(target).is_some_and(is_known) {
            continue;
        }
        let files = SubvolumePath::Volume(target.clone());
        let is_here = inner.pool.find(&files).map(|found| found.is_some());
        let is_here = is_here
            .map_err(|error| SaveError::later("failed to look for the files of a fork", &error))?;
        let mut document = document.clone();
        let create = match source {
            None => create_empty(inner, target, &document),
            Some((root, root_frame)) => {
                // of exact copies nothing is missing; of others what is missing is taken away, and
                // their next look says so
                let not_captured = match is_exact {
                    true => NotCaptured::default(),
                    false => root.not_captured.clone(),
                };
                if is_here {
                    strip_volume(inner, target, None, &not_captured)
                        .map_err(|error| SaveError::later("failed to finish a fork", &error))?;
                }
                if let Some(forked) = &mut document.forked_from {
                    forked.tree = root.tree;
                }
                Create {
                    now: Root {
                        document: document_digest(&document),
                        parents: vec![root.digest()],
                        not_captured,
                        ..root.clone()
                    },
                    locations: known.head.locations.clone(),
                    root_frame,
                    ..create_empty(inner, target, &document)
                }
            }
        };
        let tree = create.now.tree;
        let mut head = Head::create(create, op(pending, Vec::new()), stamp(inner));
        head.document = Some(document.clone());
        head.spec.clone_from(spec);
        let operation = Some(&pending.operation);
        let put = put_head(inner, target, None, head.clone(), OlderEntries::default(), operation);
        let made = match put {
            // an earlier attempt has put its head, and it is deleted since, with its files
            Err(SaveError::Refused { kind: ErrorKind::Precondition, .. }) if !is_here => {
                inner.forget(target);
                continue;
            }
            put => put?,
        };
        let (made, _) = keep_foreign(inner, target, &head, made, operation)?;
        let fork = inner.find_volume(target);
        let copy = fork.as_ref().and_then(|fork| fork.state().copy.clone());
        // of one that is saved by itself the files are another state than the head's
        let copy = copy.filter(|_| source.is_some()).map(|copy| CopyRow {
            tree,
            seq: made.head.seq,
            unsaved_bytes: Some(0),
            ..copy
        });
        // written before its own task may save: later, it would be what is older
        let written = Finished {
            heads: vec![head_row(inner, &made)?],
            copies: copy.iter().cloned().collect(),
            ..Finished::default()
        };
        inner
            .wait(inner.database.finish(&written))
            .map_err(|error| SaveError::later("failed to write down a fork", &error))?;
        let Some(fork) = fork else { continue };
        let mut state = fork.state();
        state.copy = copy.or(state.copy.take());
        state.document = Some(document);
        state.saved_at = Some(inner.env.now());
        state.known = Some(made);
        drop(state);
        fork.wake.notify_one();
        if source.is_none() {
            capture_now(inner, &fork);
        }
    }
    finished.results.push(result_row(inner, pending, known.head.seq, &Ended::default())?);
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| SaveError::later("failed to write down a fork", &error))?;
    Ok(Ended::default())
}

/// Captures a fork of whose files nothing is stored; the next look does what fails of it.
fn capture_now(inner: &Arc<Inner>, fork: &Arc<Volume>) {
    let _turn = fork.capture.blocking_lock();
    if let Err(error) = background(inner, fork) {
        tracing::warn!(volume = %fork.id, error = chain(&error), "a fork is not captured yet");
    }
}
