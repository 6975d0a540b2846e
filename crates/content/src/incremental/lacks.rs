//! What the new tree does not hold.

use std::collections::BTreeSet;

use cove_btrfs::{Dir, FileKind};
use cove_types::{TreePath, escape_bytes, unescape_text};
use rustix::fs::{FileType, Mode, OFlags};

use super::paths::cut;
use super::{Change, IncrementalError, full};
use crate::root::NotCapturedPath;
use crate::store::{StoreError, lack};
use crate::tree;

/// Up to how many names of a touched directory are compared with those of the new tree. More
/// would read nodes of the old tree that the change itself does not.
const COMPARED_NAMES_MAX: usize = 256;

/// Paths that are not captured, raw, and why.
pub(super) type Rows = BTreeSet<(Vec<u8>, &'static str)>;

impl Change<'_, '_, '_, '_> {
    pub(super) fn rows_of(&self, paths: &[NotCapturedPath]) -> Result<Rows, IncrementalError> {
        let mut rows = Rows::new();
        for NotCapturedPath { path, what } in paths {
            let Some(what) = lack::find(what) else {
                return full(format!("what was not captured of {path} is unknown: {what}"));
            };
            rows.insert((unescape_text(path)?, what));
        }
        Ok(rows)
    }

    /// The path, when a tree can hold it; else it is listed.
    pub(super) fn lawful(&mut self, path: &[u8]) -> Option<TreePath> {
        let lawful = TreePath::from_bytes(path).ok();
        if lawful.is_none() {
            self.rows.insert((cut(path).as_bytes().to_vec(), lack::LONG));
        }
        lawful
    }

    /// Lists what an entry that was described lacks; nothing else is so of it any more.
    pub(super) fn lists(&mut self, path: &TreePath, lacks: &[&'static str]) {
        self.described.insert(path.clone());
        self.rows.extend(lacks.iter().map(|what| (path.as_bytes().to_vec(), *what)));
    }

    /// Lists again what was not captured and was not touched.
    pub(super) fn carry_rows(&mut self, old_rows: &Rows) -> Result<(), IncrementalError> {
        for (old, what) in old_rows {
            let Some(now) = self.paths.now(old) else { continue };
            let Some(path) = self.lawful(&now) else { continue };
            let parent = path.parent().unwrap_or_default();
            let is_looked_up_again = match *what {
                lack::NESTED => self.directories.contains(&parent),
                lack::LONG if now != *old => {
                    return full(format!("what was too deep below {path} may not be so any more"));
                }
                lack::LONG => self.directories.contains(&path),
                _ => self.described.contains(&path),
            };
            if !is_looked_up_again {
                self.rows.insert((now, what));
            }
        }
        Ok(())
    }

    /// Lists what a directory has that send does not tell of, and makes sure of its names.
    pub(super) fn look_again(&mut self, path: &TreePath) -> Result<(), IncrementalError> {
        match self.dir.find(path)? {
            Some(metadata) if metadata.kind == FileKind::Directory => {}
            _ => return Ok(()),
        }
        let mut found = BTreeSet::new();
        for (name, kind) in list(self.dir, path)? {
            let Ok(child) = path.join(&name) else {
                self.rows.insert((path.as_bytes().to_vec(), lack::LONG));
                continue;
            };
            let may_be_directory = matches!(kind, FileType::Directory | FileType::Unknown);
            if may_be_directory && self.dir.metadata(&child)?.stands_for_subvolume() {
                self.rows.insert((child.as_bytes().to_vec(), lack::NESTED));
                continue;
            }
            let is_no_entry = |what| self.rows.contains(&(child.as_bytes().to_vec(), what));
            if !is_no_entry(lack::DEVICE) && !is_no_entry(lack::UNREADABLE) {
                found.insert(name);
            }
        }
        if found.len() > COMPARED_NAMES_MAX {
            return Ok(());
        }
        let mut names = self.names.remove(path).unwrap_or_default();
        let before = self.paths.before(path.as_bytes());
        if let Some(before) = before.and_then(|before| TreePath::from_bytes(&before).ok()) {
            for listed in tree::list_directory(&self.nodes, &self.root, &before) {
                let (name, _) = listed?;
                let now = before.join(&name).ok().and_then(|old| self.paths.now(old.as_bytes()));
                if now.is_some_and(|now| path.join(&name).is_ok_and(|new| new.as_bytes() == now)) {
                    names.insert(name);
                }
            }
        }
        match names.symmetric_difference(&found).next() {
            None => Ok(()),
            Some(name) => {
                full(format!("\"{}\" in \"{path}\" is not accounted for", escape_bytes(name)))
            }
        }
    }
}

/// The names in a directory and what kinds the directory itself says that they are of: a look at
/// each would cost more than all else when one of many names is new.
fn list(dir: &Dir, path: &TreePath) -> Result<Vec<(Vec<u8>, FileType)>, IncrementalError> {
    let failed =
        |errno: rustix::io::Errno| StoreError::Read { path: path.clone(), source: errno.into() };
    let opened = dir.open_dir(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(opened.descriptor(), c".", flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push((name.to_vec(), entry.file_type())),
        }
    }
    Ok(names)
}
