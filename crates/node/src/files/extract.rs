//! Extracting an archive into the files of the present state, all of it or nothing.
//!
//! The stream is extracted beside the volume, while others read, write and capture as ever. Once its end
//! has come, in the turn to capture, what was made is copied into the volume beside `files/` (content is
//! shared, not copied), compared with what is there, and moved into place by renames. Whatever fails
//! before the first rename leaves the files as they were.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use cove_btrfs::{Dir, FileKind, Metadata, PathError};
use cove_content::archive::{ExtractError, ExtractOptions, Extracted, extract};
use cove_content::read::project_root;
use cove_content::restore::copy_tree;
use cove_content::volumes::{Edited, Progress, VolumeError};
use cove_types::TreePath;

use crate::capture::{Built, LIMITS, OWNER, litter, open_live, staging_of};
use crate::files::edit::{make_directories, seen};
use crate::files::{lawful, make_owned};
use crate::node::Inner;
use crate::volume::{Turn, Volume};

/// An archive that came to its end, extracted beside its volume.
pub(crate) struct Staged {
    built: Built,
    /// Where it is to be merged, from the project's root.
    path: TreePath,
    extracted: Extracted,
}

fn failed(error: ExtractError) -> VolumeError {
    VolumeError::failed("failed to copy the files", error)
}

fn path_failed(error: PathError) -> VolumeError {
    failed(error.into())
}

/// Extracts an archive beside its volume; the volume is only looked at.
pub(crate) fn stage(
    inner: &Arc<Inner>,
    volume: &Volume,
    path: TreePath,
    stream: &mut dyn Read,
) -> Result<Staged, VolumeError> {
    let at = lawful(&path)?;
    let live = open_live(inner, &volume.id)?;
    // before a long stream is read for nothing
    if live.find(&at).map_err(path_failed)?.is_some() {
        live.open_dir(&at).map_err(path_failed)?;
    }
    drop(live);
    let options = ExtractOptions { owner: Some(OWNER), limits: LIMITS, new_names_only: false };
    let (built, extracted) = Built::create(inner, &volume.id)?.filled(|dir| {
        make_owned(dir, &at).map_err(path_failed)?;
        extract(stream, dir, &at, &options, &|_, _| {}).map_err(failed)
    })?;
    Ok(Staged { built, path, extracted })
}

/// Merges what was extracted into the files; durable when it returns.
///
/// # Errors
///
/// Nothing has changed, unless a program changed the same files in this very moment or the kernel refuses
/// a rename.
pub(crate) fn merge(
    inner: &Inner,
    volume: &Volume,
    staged: &Staged,
    _turn: Turn,
) -> Result<Edited, VolumeError> {
    let _place = volume.place.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let live = open_live(inner, &volume.id)?;
    let waiting = staging_of(&inner.env.operation_id(0))?;
    let merged = merge_by(&live, &waiting, staged);
    if live.find(&waiting).ok().flatten().is_some()
        && let Err(error) = live.remove(&waiting, true)
    {
        tracing::warn!(volume = %volume.id, %error, "what was extracted stays behind");
        litter(volume);
    }
    // also what a merge that failed has changed is told, and must be on disk
    inner
        .pool
        .flush()
        .map_err(|error| VolumeError::failed("failed to write the files to disk", error))?;
    merged?;
    // from the subvolume's top, as the extraction names them
    let files = staged.extracted.files.iter().filter_map(|found| found.below(&project_root()));
    let files = files.map(|shown| seen(&live, &shown)).collect::<Result<_, _>>()?;
    Ok(Edited { files, remarks: staged.extracted.remarks.clone() })
}

fn merge_by(live: &Dir, waiting: &TreePath, staged: &Staged) -> Result<(), VolumeError> {
    let at = lawful(&staged.path)?;
    let built = staged.built.open()?;
    live.create_dir(waiting, 0o700).map_err(path_failed)?;
    let from = waiting
        .join(b"new")
        .map_err(|error| VolumeError::failed("failed to name a place for files", error))?;
    copy_tree(&built, &at, live, &from, &Progress::default())
        .map_err(|error| VolumeError::failed("failed to copy the files", error))?;
    let named = staged.extracted.directories.iter().collect();
    let merging = Merging { live, named };
    merging.refuse_conflicts(&from, &at)?;
    make_directories(live, &staged.path)?;
    merging.directory(&from, &at)
}

/// One merge of a directory into another of the same subvolume.
struct Merging<'a> {
    live: &'a Dir,
    /// The directories that the archive names, whose looks count.
    named: HashSet<&'a TreePath>,
}

/// A child of the directory that is merged, and what is in its place.
struct Child {
    name: Vec<u8>,
    from: TreePath,
    to: TreePath,
    new: Metadata,
    old: Option<Metadata>,
}

impl Child {
    fn is_merged(&self) -> bool {
        let is_directory = |found: &Metadata| found.kind == FileKind::Directory;
        is_directory(&self.new) && self.old.as_ref().is_some_and(is_directory)
    }

    /// Whether one of the two, and not the other, is a directory.
    fn conflict(&self) -> Option<ExtractError> {
        let old = self.old.as_ref()?;
        let is_either = old.kind == FileKind::Directory || self.new.kind == FileKind::Directory;
        (is_either && old.kind != self.new.kind).then(|| ExtractError::Conflict {
            path: self.to.clone(),
            found: old.kind,
            wanted: self.new.kind,
        })
    }
}

impl Merging<'_> {
    fn children(&self, from: &TreePath, to: &TreePath) -> Result<Vec<Child>, VolumeError> {
        let mut children = Vec::new();
        for (name, new) in self.live.list(from).map_err(path_failed)? {
            let joined = |path: &TreePath| {
                path.join(&name)
                    .map_err(|error| VolumeError::failed("failed to copy the files", error))
            };
            let (from, to) = (joined(from)?, joined(to)?);
            let old = self.live.find(&to).map_err(path_failed)?;
            children.push(Child { name, from, to, new, old });
        }
        Ok(children)
    }

    /// Refuses what would replace a directory by something else, or something else by a directory.
    fn refuse_conflicts(&self, from: &TreePath, to: &TreePath) -> Result<(), VolumeError> {
        for child in self.children(from, to)? {
            if let Some(conflict) = child.conflict() {
                return Err(failed(conflict));
            }
            if child.is_merged() {
                self.refuse_conflicts(&child.from, &child.to)?;
            }
        }
        Ok(())
    }

    /// Moves all that is in `from` to `to`, which is a directory.
    fn directory(&self, from: &TreePath, to: &TreePath) -> Result<(), VolumeError> {
        // before renames change its time
        let looks = self.live.metadata(from).map_err(path_failed)?;
        let (into, moved): (Vec<Child>, Vec<Child>) =
            self.children(from, to)?.into_iter().partition(Child::is_merged);
        if !moved.is_empty() {
            let source = self.live.open_dir(from).map_err(path_failed)?;
            let target = self.live.open_dir(to).map_err(path_failed)?;
            for child in moved {
                let name = child.name.as_slice();
                rustix::fs::renameat(source.descriptor(), name, target.descriptor(), name)
                    .map_err(|errno| {
                        let (verb, path) = ("replace", child.to.clone());
                        path_failed(PathError::Io { verb, path, source: errno.into() })
                    })?;
            }
        }
        for child in into {
            self.directory(&child.from, &child.to)?;
        }
        if !self.named.contains(to) {
            return Ok(());
        }
        self.dress(from, &looks, to).map_err(path_failed)
    }

    /// Makes a directory look as another, which was `looks`: owner, mode, attributes and, last, its time.
    fn dress(&self, from: &TreePath, looks: &Metadata, to: &TreePath) -> Result<(), PathError> {
        let live = self.live;
        live.set_owner(to, looks.uid, looks.gid)?;
        live.set_mode(to, looks.mode)?;
        for name in live.list_xattrs(from)? {
            if let Some(value) = live.find_xattr(from, &name)? {
                live.set_xattr(to, &name, &value)?;
            }
        }
        live.set_times(to, looks.mtime)
    }
}
