//! Building as much of a tree as can be read.

use cove_btrfs::Dir;
use cove_types::{Classify, Digest, ErrorKind, ParseError, TreePath};

use crate::chunks::Chunks;
use crate::restore::ahead::Step;
use crate::restore::{Building, RestoreError};
use crate::tree::{self, Gap, Item, Key};
use crate::volumes::Progress;

/// Something of a tree that could not be read and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The file or, of a range, the first path that may be missing.
    pub path: TreePath,
    /// Where a range of names ends: the first path that is there again, or the end of the tree.
    pub until: Option<Option<TreePath>>,
    /// Why.
    pub why: String,
}

/// Builds all that can be read of `root` in `dir`, where nothing is yet.
///
/// A file is there with all its bytes, checked against their digests, or not at all. Where nodes of
/// the tree are lost, names may be missing; directories that were among them are made anew for what
/// is below them. Everything that is not there is in what this returns.
///
/// # Errors
///
/// [`RestoreError`]: the topmost node cannot be read ([`RestoreError::Tree`], of kind `Corrupt`), so
/// nothing can; the store does not answer, which is no damage; or the disk did not take it.
pub fn restore_readable(
    chunks: &Chunks,
    root: &Digest,
    dir: &Dir,
    progress: &Progress,
) -> Result<Vec<Unreadable>, RestoreError> {
    let top = TreePath::top();
    let mut building = Building::new(dir, (&top, &top), progress);
    building.unreadable = Some(Vec::new());
    building.build(chunks, |steps| {
        let mut cursor = tree::range(chunks, root, Key::all());
        while let Some(next) = cursor.next_or_gap() {
            steps.say(match next {
                Ok(item) => Step::Item(item),
                Err(gap) if gap.error.kind() != ErrorKind::Corrupt || gap.keys == Key::all() => {
                    return steps.say(Step::Broken(gap.error.into()));
                }
                Err(gap) => Step::Gap(gap),
            })?;
        }
        Ok(())
    })?;
    building.finish(chunks)?;
    Ok(building.unreadable.unwrap_or_default())
}

impl Building<'_> {
    /// Goes on although something is damaged, when that is wanted, without what it is about.
    pub(super) fn leave_out(&mut self, error: RestoreError) -> Result<(), RestoreError> {
        let path = match &error {
            RestoreError::Chunk { path, .. } | RestoreError::Order { path } => path.clone(),
            _ => return Err(error),
        };
        if self.unreadable.is_none() || error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        let cause = std::error::Error::source(&error);
        let why = cause.map_or_else(|| error.to_string(), ToString::to_string);
        self.drop_file(path, why)
    }

    /// The same for an item that says nothing.
    pub(super) fn leave_out_item(
        &mut self,
        item: &Item,
        error: ParseError,
    ) -> Result<(), RestoreError> {
        if self.unreadable.is_none() {
            return Err(error.into());
        }
        let path = first_path(&item.key).unwrap_or_default();
        self.drop_file(path, error.to_string())
    }

    /// Takes a file away of which not everything is there. A directory stays, without what of its
    /// metadata could not be read.
    fn drop_file(&mut self, path: TreePath, why: String) -> Result<(), RestoreError> {
        self.open = self.open.take().filter(|open| open.path != path);
        self.firsts.retain(|_, target| *target != path);
        let found = if path.is_top() { None } else { self.dir.find(&path)? };
        if found.is_some_and(|found| found.kind != cove_btrfs::FileKind::Directory) {
            self.dir.remove(&path, false)?;
        }
        if let Some(unreadable) = &mut self.unreadable {
            unreadable.push(Unreadable { path, until: None, why });
        }
        Ok(())
    }

    /// Goes on behind a part of the tree that is lost.
    pub(super) fn pass(&mut self, gap: &Gap) -> Result<(), RestoreError> {
        // chunk lists of the file under way may be in it: what has none is a hole
        let cut = self.open.as_ref().filter(|open| {
            let file = Key::file_range(&open.path);
            gap.keys.start < file.end && file.start < gap.keys.end
        });
        if let Some(path) = cut.map(|open| open.path.clone()) {
            self.drop_file(path, gap.error.to_string())?;
        }
        self.end_file()?;
        let path = first_path(&gap.keys.start).unwrap_or_default();
        let until = Some(first_path(&gap.keys.end));
        if let Some(unreadable) = &mut self.unreadable {
            unreadable.push(Unreadable { path, until, why: gap.error.to_string() });
        }
        Ok(())
    }

    /// Makes the directories above `target` whose own entries are lost.
    pub(super) fn make_parents(&mut self, target: &TreePath) -> Result<(), RestoreError> {
        let has_gaps = self
            .unreadable
            .as_ref()
            .is_some_and(|unreadable| unreadable.iter().any(|lost| lost.until.is_some()));
        let Some(parent) = target.parent().filter(|parent| has_gaps && !parent.is_top()) else {
            return Ok(());
        };
        if self.dir.find(&parent)?.is_none() {
            self.make_parents(&parent)?;
            self.dir.create_dir(&parent, 0o755)?;
            self.dir.set_owner(&parent, 1000, 1000)?;
        }
        Ok(())
    }
}

/// The path that a key is of; `None` when it is no item's.
fn first_path(key: &Key) -> Option<TreePath> {
    key.parse().ok().map(|parts| parts.path)
}

#[cfg(test)]
mod tests;
