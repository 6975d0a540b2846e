//! Taking a store over after the machine that held it is lost.

use std::sync::Arc;

use cove_btrfs::{Access, SubvolumePath};
use cove_content::claim::Take;
use cove_content::head::{Head, HeadObject, HeadState, Nonce, Stamp};
use cove_content::volumes::{Progress, VolumeError};
use cove_database::{CopyRow, Finished, HeadRow, StoredRow};
use cove_types::{ErrorKind, OperationId, VolumeId, wire};

use crate::capture::build_tree;
use crate::claim::{Holding, claim_store};
use crate::node::{Inner, chain};
use crate::save::{SaveError, bring_older, put_head};
use crate::volume::{Known, Volume};

/// Takes the store and makes a copy of every volume that it names.
///
/// May be repeated: what is here already is left alone.
///
/// # Errors
///
/// The store is held by somebody who lives (`Precondition`), or does not answer. A single volume that
/// cannot be recovered is no error but is named.
pub(crate) fn recover(
    inner: &Arc<Inner>,
    take: bool,
    progress: &Progress,
) -> Result<(Vec<Arc<Volume>>, Vec<wire::Lost>), VolumeError> {
    let how = if take { Take::Force } else { Take::Recover };
    let store = Arc::clone(inner.remote.store());
    let holding = inner.wait(claim_store(&store, &inner.env, &inner.options.holder, how))?;
    inner.set_holding(holding.clone());
    if let Holding::HeldByAnother { age_seconds, .. } = holding {
        return Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!(
                "the store is held by another cove{}",
                crate::claim::last_seen(age_seconds)
            ),
        });
    }
    let named = inner
        .remote
        .volumes()
        .map_err(|error| VolumeError::failed("failed to list the volumes in the store", error))?;
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    let total = named.len() as u64;
    for (number, (volume, key)) in named.into_iter().enumerate() {
        progress.update(|progress| {
            "recovering".clone_into(&mut progress.step);
            progress.done_files = number as u64;
            progress.total_files = Some(total);
        });
        let Some(id) = volume else {
            // what is not a head's name is none of ours
            continue;
        };
        match recover_volume(inner, &id) {
            Ok(Some(volume)) => found.push(volume),
            Ok(None) => {}
            Err(why) => lost.push(wire::Lost { what: key.to_string(), why }),
        }
    }
    Ok((found, lost))
}

/// One volume; `None` for a tombstone.
fn recover_volume(inner: &Arc<Inner>, id: &VolumeId) -> Result<Option<Arc<Volume>>, String> {
    if let Some(volume) = inner.find_volume(id)
        && inner.pool.find(&SubvolumePath::Volume(id.clone())).ok().flatten().is_some()
    {
        return still_ours(inner, id, volume).map(Some);
    }
    let object = inner.remote.get(&inner.remote.head_key(id)).map_err(|error| chain(&error))?;
    let head = match HeadObject::decode(&object.bytes).map_err(|error| chain(&error))? {
        HeadObject::Head(head) if head.state != HeadState::Deleted => *head,
        HeadObject::Head(_) | HeadObject::Tombstone(_) => return Ok(None),
    };
    if head.document.is_none() {
        return Err("its head does not say which project it is".into());
    }
    let sealing = OperationId(inner.env.random());
    let stamp = Stamp { time: inner.env.now(), nonce: Nonce(inner.env.random()) };
    let sealed = head.seal(inner.options.node.clone(), stamp).map_err(|error| chain(&error))?;
    let older_of = Known { head, older: Vec::new(), version: object.version };
    let known =
        put_head(inner, id, Some(&older_of), sealed, Vec::new(), Some(&sealing)).map_err(said)?;
    let volume = inner.find_volume(id).unwrap_or_else(|| Arc::new(Volume::new(id.clone())));
    {
        let mut state = volume.state();
        state.document.clone_from(&known.head.document);
        state.saved_at = Some(known.head.time);
        state.known = Some(known.clone());
    }
    bring_older(inner, &volume).map_err(said)?;
    copy_here(inner, &volume, &known, sealing)?;
    inner.adopt(&volume);
    Ok(Some(volume))
}

/// A volume whose copy is here, when the store knows no other owner and no newer state.
fn still_ours(inner: &Inner, id: &VolumeId, volume: Arc<Volume>) -> Result<Arc<Volume>, String> {
    let object = match inner.remote.get(&inner.remote.head_key(id)) {
        Ok(object) => object,
        Err(error) => return Err(chain(&error)),
    };
    let head = Head::decode(&object.bytes).map_err(|error| chain(&error))?;
    let mut state = volume.state();
    let known = state.known.as_ref().map(|known| (known.head.epoch, known.head.seq));
    // a change whose answer was lost leaves a newer seq of this same owner
    if head.holder != inner.options.node || known.is_some_and(|(epoch, _)| head.epoch != epoch) {
        return Err(format!(
            "another Cove has changed it since: its state here was kept in {} and is not the store's",
            inner.pool.absolute(&SubvolumePath::Volume(id.clone())).display()
        ));
    }
    state.fenced = false;
    drop(state);
    Ok(volume)
}

/// Builds the files of now and writes down that they are here.
///
/// The row comes before the place: after a kill between the two the volume is known without a copy,
/// and a repeated recovery builds it again.
fn copy_here(
    inner: &Arc<Inner>,
    volume: &Volume,
    known: &Known,
    operation: OperationId,
) -> Result<(), String> {
    let head = &known.head;
    let incoming = SubvolumePath::Incoming(operation);
    let live = SubvolumePath::Volume(volume.id.clone());
    let tree = head.now.tree;
    build_tree(inner, &tree, &head.locations, &volume.id, &Progress::default())
        .and_then(|built| built.put(&incoming))
        .map_err(|error| chain(&error))?;
    inner
        .pool
        .snapshot(
            &incoming,
            &SubvolumePath::Stored(volume.id.clone(), operation),
            Access::ReadOnly,
            &volume.id,
        )
        .map_err(|error| chain(&error))?;
    // the snapshot's own: whatever is written from now on has a higher one
    let generation = inner
        .pool
        .find(&SubvolumePath::Stored(volume.id.clone(), operation))
        .map_err(|error| chain(&error))?
        .map_or(0, |subvolume| subvolume.generation);
    let body = head.encode().map_err(|error| chain(&error))?;
    let finished = Finished {
        heads: vec![HeadRow {
            volume: volume.id.clone(),
            version: known.version.0.clone(),
            body,
            saved_us: head.time.as_microsecond(),
        }],
        copies: vec![CopyRow {
            volume: volume.id.clone(),
            base: operation,
            tree,
            seq: head.seq,
            generation,
            unsaved_bytes: Some(0),
            looked_us: inner.now_us(),
        }],
        stored: vec![StoredRow {
            volume: volume.id.clone(),
            operation,
            entry: None,
            root: Some(tree.to_string()),
            captured_us: inner.now_us(),
        }],
        ..Finished::default()
    };
    inner.wait(inner.database.finish(&finished)).map_err(|error| chain(&error))?;
    inner.pool.rename(&incoming, &live).map_err(|error| chain(&error))?;
    let mut state = volume.state();
    state.copy = finished.copies.into_iter().next();
    for row in finished.stored {
        state.stored.insert(row.operation, row);
    }
    Ok(())
}

fn said(error: SaveError) -> String {
    match error {
        SaveError::Refused { what, .. }
        | SaveError::Later { what, .. }
        | SaveError::Fenced { what } => what,
    }
}
