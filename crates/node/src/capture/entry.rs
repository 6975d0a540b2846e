//! An entry as files of this node: a copy of its local snapshot, or built from the store.

use cove_btrfs::{Access, SubvolumePath};
use cove_content::read::project_root;
use cove_content::restore::restore_tree;
use cove_content::volumes::{Progress, VolumeError};
use cove_types::{Digest, EntryId, ErrorKind, TreePath, VolumeId};
use tokio::sync::oneshot;

use crate::capture::{OWNER, SERVICES, path_failed, pool_failed};
use crate::node::{Inner, chain};
use crate::save::chunks_of;
use crate::volume::Volume;
use crate::work::Work;

/// The subvolume on this node that is exactly an entry, if there is one.
pub(crate) fn local_entry(
    inner: &Inner,
    volume: &Volume,
    entry: &EntryId,
) -> Option<SubvolumePath> {
    let state = volume.state();
    let record = state.known.as_ref()?.find_entry(entry)?;
    // what a tree does not hold is not to come back from a local snapshot either
    if record.root.not_captured.count > 0 {
        return None;
    }
    let tree = record.root.tree.to_string();
    let row = state
        .stored
        .values()
        .find(|row| row.entry == Some(*entry) && row.root.as_ref() == Some(&tree))?;
    let place = SubvolumePath::Stored(volume.id.clone(), row.operation);
    drop(state);
    inner.pool.find(&place).ok().flatten().map(|_| place)
}

/// The root of an entry that is saved.
pub(crate) fn entry_root(
    volume: &Volume,
    entry: &EntryId,
) -> Result<(Digest, cove_content::locations::Locations), VolumeError> {
    let state = volume.state();
    let known = state.known.as_ref().ok_or(VolumeError::NoEntry { entry: *entry })?;
    let record = known.find_entry(entry).ok_or(VolumeError::NoEntry { entry: *entry })?;
    Ok((record.root.tree, known.head.locations.clone()))
}

/// Makes `target` a writable subvolume of group `group` that holds an entry.
pub(crate) fn build_entry(
    inner: &Inner,
    volume: &Volume,
    entry: &EntryId,
    target: &SubvolumePath,
    group: &VolumeId,
    progress: &Progress,
) -> Result<(), VolumeError> {
    inner.pool.delete(target).map_err(pool_failed("failed to clear the place for an entry"))?;
    if let Some(local) = local_entry(inner, volume, entry) {
        return inner
            .pool
            .snapshot(&local, target, Access::ReadWrite, group)
            .map_err(pool_failed("failed to copy an entry"));
    }
    let (tree, locations) = entry_root(volume, entry)?;
    build_tree(inner, &tree, &locations, target, group, progress)
}

/// Makes `target` a writable subvolume of group `group` that holds a tree, from the store.
pub(crate) fn build_tree(
    inner: &Inner,
    tree: &Digest,
    locations: &cove_content::locations::Locations,
    target: &SubvolumePath,
    group: &VolumeId,
    progress: &Progress,
) -> Result<(), VolumeError> {
    inner
        .pool
        .create(target, group)
        .map_err(pool_failed("failed to make a place for the files"))?;
    progress.step("restoring");
    let dir = inner.pool.open(target).map_err(pool_failed("failed to open the new files"))?;
    let chunks = chunks_of(inner, locations);
    let top = TreePath::top();
    let built = restore_tree(&chunks, tree, &top, &dir, &top, progress)
        .map_err(|error| VolumeError::failed("failed to restore the files", error));
    let built = built.and_then(|()| {
        for path in [project_root(), TreePath::from_bytes(SERVICES).unwrap_or_default()] {
            let there = dir.find(&path).map_err(path_failed("failed to look at the files"))?;
            if there.is_none() {
                dir.create_dir(&path, 0o755).map_err(path_failed("failed to make a directory"))?;
                dir.set_owner(&path, OWNER.0, OWNER.1)
                    .map_err(path_failed("failed to make a directory"))?;
            }
        }
        Ok(())
    });
    drop(dir);
    if let Err(error) = built {
        if let Err(left) = inner.pool.delete(target) {
            tracing::warn!(error = chain(&left), "a part of a restore stays behind");
        }
        return Err(error);
    }
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

/// Waits until an entry that is only captured is saved.
pub(crate) fn wait_entry(
    volume: &Volume,
    inner: &Inner,
    entry: &EntryId,
) -> Result<(), VolumeError> {
    let receiver = {
        let mut state = volume.state();
        let operation = state.queue.iter().find_map(|pending| match &pending.work {
            Work::Snapshot { entry: record, .. } if record.id == *entry => Some(pending.operation),
            Work::Restore { before, .. } | Work::RestorePaths { before, .. }
                if before.id == *entry =>
            {
                Some(pending.operation)
            }
            _ => None,
        });
        let Some(operation) = operation else { return Ok(()) };
        let (sender, receiver) = oneshot::channel();
        state.waiting.entry(operation).or_default().push(sender);
        receiver
    };
    inner.wait(receiver).map(drop).map_err(|_| VolumeError::Refused {
        kind: ErrorKind::Unavailable,
        what: "cove is stopping".into(),
    })
}
