//! Files in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use cove_content::root::{Counts, NotCaptured, Root};
use cove_content::volumes::{FileView, VolumeError};
use cove_types::{Digest, ErrorKind, FileTime, TreePath};

/// Files by path; directories are what lies above them, and those that were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<TreePath, Vec<u8>>,
    pub(super) directories: BTreeSet<TreePath>,
    /// Symbolic links that point out.
    pub(super) links: BTreeSet<TreePath>,
}

impl Tree {
    /// `path=content`, line by line.
    pub(super) fn extract(
        &mut self,
        mut archive: Box<dyn Read + Send>,
        below: &TreePath,
    ) -> Result<(), VolumeError> {
        let refused = |what: &str| VolumeError::Refused {
            kind: ErrorKind::Invalid,
            what: format!("the archive {what}"),
        };
        let mut text = String::new();
        archive.read_to_string(&mut text).map_err(|_| refused("breaks off"))?;
        for line in text.lines() {
            let (path, content) = line.split_once('=').ok_or_else(|| refused("is none"))?;
            let path = TreePath::parse(path)
                .and_then(|path| below.join_path(&path))
                .map_err(|_| refused("has a path that climbs"))?;
            self.files.insert(path, content.as_bytes().to_vec());
        }
        Ok(())
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::of(format!("{self:?}").as_bytes())
    }

    pub(super) fn root(&self) -> Root {
        let logical_bytes = self.files.values().map(|content| content.len() as u64).sum();
        let counts = Counts {
            entries: self.files.len() as u64,
            logical_bytes,
            data_bytes: logical_bytes,
            depth: 1,
        };
        let json = serde_json::json!({
            "tree": self.digest(), "counts": counts, "not_captured": NotCaptured::default(),
            "document": Digest::HOLE, "level": 0,
        });
        serde_json::from_value(json).expect("a root has these fields")
    }

    pub(super) fn is_directory(&self, path: &TreePath) -> bool {
        path.is_top()
            || self.directories.contains(path)
            || self.paths().any(|other| other != path && other.below(path).is_some())
    }

    /// Refuses a file where a directory is, and one whose directory is not there.
    pub(super) fn may_hold(&self, path: &TreePath) -> Result<(), VolumeError> {
        self.view(path).map(drop).or_else(|error| match error {
            VolumeError::NoPath { .. } => Ok(()),
            error => Err(error),
        })?;
        let path = path.clone();
        if self.is_directory(&path) {
            return Err(VolumeError::WrongKind { path, found: "a directory", wanted: "a file" });
        }
        match path.parent().is_none_or(|parent| self.is_directory(&parent)) {
            true => Ok(()),
            false => Err(VolumeError::NoPath { path }),
        }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &TreePath> {
        self.files.keys().chain(&self.directories)
    }

    pub(super) fn view(&self, path: &TreePath) -> Result<FileView, VolumeError> {
        let view = |kind, bytes, mode| FileView {
            path: path.clone(),
            kind,
            bytes,
            mode,
            modified: FileTime::default(),
            target: None,
        };
        let is_below = |link: &&TreePath| *link != path && path.below(link).is_some();
        if self.links.iter().find(is_below).is_some() {
            return Err(VolumeError::Refused {
                kind: ErrorKind::Denied,
                what: format!("\"files/{path}\" leaves its directory through a symbolic link"),
            });
        }
        if self.links.contains(path) {
            return Ok(view("symlink", 0, 0o777));
        }
        match self.files.get(path) {
            Some(content) => Ok(view("file", content.len() as u64, 0o644)),
            None if self.is_directory(path) => Ok(view("directory", 0, 0o755)),
            None => Err(VolumeError::NoPath { path: path.clone() }),
        }
    }

    pub(super) fn below(
        &self,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Vec<FileView>, VolumeError> {
        if self.view(path)?.kind != "directory" {
            let (found, wanted) = ("a file", "a directory");
            return Err(VolumeError::WrongKind { path: path.clone(), found, wanted });
        }
        let mut found = BTreeSet::new();
        for other in self.paths() {
            let mut at = Some(other.clone());
            while let Some(each) = at {
                let depth = each.below(path).map_or(0, |rest| rest.names().count());
                if depth == 1 || depth > 1 && recursive {
                    found.insert(each.clone());
                }
                at = each.parent();
            }
        }
        found.iter().map(|path| self.view(path)).collect()
    }

    pub(super) fn remove(&mut self, path: &TreePath) {
        self.files.retain(|other, _| other.below(path).is_none());
        self.directories.retain(|other| other.below(path).is_none());
    }
}
