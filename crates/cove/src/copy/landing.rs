//! A copy on its way out to its place.
//!
//! **Invariant:** nothing is in its place before all of it was extracted beside it and nothing
//! stands in its way, so a copy that is refused or breaks off has written nothing.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cove_btrfs::{Dir, FileKind, PathError};
use cove_client::ClientError;
use cove_content::archive::{self, ExtractOptions, Extracted, Limits};
use cove_env::Env;
use cove_types::wire::{self, FilesReply};
use cove_types::{Classify, ErrorKind, TreePath, escape_bytes};
use rustix::io::Errno;

use super::local::Local;
use super::{Landing, shown};
use crate::failure::Failure;

/// A stream that ends in an error as soon as somebody wants it to.
pub(super) struct Stoppable<'a, R> {
    pub reader: R,
    pub stop: &'a AtomicBool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        self.reader.read(piece)
    }
}

/// An archive on its way to its place.
pub(super) struct Landed {
    /// The target.
    pub local: Local,
    pub landing: Landing,
    /// The last name of the source as it was written; `None` where only what is in it is copied.
    pub name: Option<Vec<u8>>,
    /// The first name in the archive, `.` for a project's root.
    pub top: Vec<u8>,
}

impl Landed {
    /// Extracts the archive beside its place and moves it there.
    pub fn extract(
        &self,
        mut tar: impl Read,
        progress: &dyn Fn(u64, u64),
    ) -> Result<FilesReply, Failure> {
        // Beside its place is inside a directory that is there: that may be a mount of its own.
        let (base, at) = match self.landing {
            Landing::As => (self.local.parent.clone(), Some(self.local.name.clone())),
            Landing::Merged => (self.local.path(), None),
            Landing::Inside => {
                let name = self.name.as_deref().unwrap_or(&self.top);
                (self.local.path(), Some(TreePath::from_bytes(name)?))
            }
        };
        let dir = Dir::from_path(&base).map_err(|error| failed(&base, &error))?;
        let random: [u8; 8] = Env::system().random();
        let beside = format!(".cove-copying-{:016x}", u64::from_be_bytes(random));
        let beside = TreePath::from_bytes(beside.as_bytes())?;
        dir.create_dir(&beside, 0o700).map_err(|error| failed(&base, &error))?;
        let placed = self.unpack(&mut tar, &dir, &base, &beside, progress).and_then(|remarks| {
            let from = match self.top == b"." {
                true => beside.clone(),
                false => beside.join(&self.top)?,
            };
            let moves = self.moves(&dir, &base, &from, at.as_ref())?;
            for step in [Step::Look, Step::Move] {
                for (from, to) in &moves {
                    merge(step, (&dir, from), (&dir, to), &base)?;
                }
            }
            let placed: Vec<TreePath> = moves.into_iter().map(|(_, to)| to).collect();
            Ok(FilesReply { files: files(&dir, &base, &placed)?, remarks })
        });
        let swept = dir.remove(&beside, true).map_err(|error| failed(&base, &error));
        placed.and_then(|reply| swept.map(|_| reply))
    }

    /// What is moved where: one name, or each of those in a directory.
    fn moves(
        &self,
        dir: &Dir,
        base: &Path,
        from: &TreePath,
        at: Option<&TreePath>,
    ) -> Result<Vec<(TreePath, TreePath)>, Failure> {
        if let Some(at) = at {
            return Ok(vec![(from.clone(), at.clone())]);
        }
        let names = dir.list(from).map_err(|error| failed(base, &error))?;
        names
            .into_iter()
            .map(|(name, _)| Ok((from.join(&name)?, TreePath::from_bytes(&name)?)))
            .collect()
    }

    fn unpack(
        &self,
        tar: &mut dyn Read,
        dir: &Dir,
        base: &Path,
        at: &TreePath,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Vec<String>, Failure> {
        let options = ExtractOptions {
            owner: None,
            limits: Limits { entries: u64::MAX, bytes: u64::MAX, depth: cove_types::DEPTH_MAX },
            new_names_only: false,
        };
        let extracted = archive::extract(tar, dir, at, &options, progress);
        let Extracted { remarks, .. } = extracted.map_err(|error| {
            let nothing = format!("nothing was left below {}", shown(base));
            match ClientError::find_problem(&error) {
                Some(problem) => Failure::from(problem).also(&nothing),
                None => {
                    let what = format!("failed to write below {}; {nothing}", shown(base));
                    Failure::caused(what, &error, error.kind())
                }
            }
        })?;
        Ok(remarks)
    }
}

/// What is at local paths now, under their absolute names.
fn files(dir: &Dir, base: &Path, paths: &[TreePath]) -> Result<Vec<wire::File>, Failure> {
    let file = |path: &TreePath| {
        let found = dir.metadata(path).map_err(|error| failed(base, &error))?;
        let target = match found.kind {
            FileKind::Symlink => dir.read_link(path).ok().map(|target| escape_bytes(&target)),
            _ => None,
        };
        Ok(wire::File {
            path: shown(&below(base, path)),
            kind: word(found.kind).to_owned(),
            bytes: if found.kind == FileKind::File { found.size } else { 0 },
            mode: format!("{:04o}", found.mode & 0o7777),
            modified: found.mtime.to_string(),
            target,
        })
    };
    paths.iter().map(file).collect()
}

fn failed(base: &Path, error: &PathError) -> Failure {
    Failure::caused(format!("failed to write in {}", shown(base)), error, error.kind())
}

fn below(base: &Path, path: &TreePath) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    base.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

/// A kind as the wire has it.
fn word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "directory",
        FileKind::File => "file",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::Device => "device",
    }
}

/// How far a merge goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Whether anything stands in its way.
    Look,
    /// All of it.
    Move,
}

/// Moves what is at `from` to `to`: a directory that is there takes in the names of another,
/// a file replaces what is no directory.
fn merge(
    step: Step,
    from: (&Dir, &TreePath),
    to: (&Dir, &TreePath),
    base: &Path,
) -> Result<(), Failure> {
    let failed = |error: &PathError| failed(base, error);
    let refused = |why: &str| {
        Failure::new(ErrorKind::Precondition, format!("{} {why}", shown(&below(base, to.1))))
    };
    let moved = from.0.metadata(from.1).map_err(|error| failed(&error))?;
    let is_directory = moved.kind == FileKind::Directory;
    let there = to.0.find(to.1).map_err(|error| failed(&error))?;
    match (is_directory, there.map(|found| found.kind == FileKind::Directory)) {
        (true, Some(true)) => {
            let inside = from.0.open_dir(from.1).map_err(|error| failed(&error))?;
            let target = to.0.open_dir(to.1).map_err(|error| failed(&error))?;
            let base = below(base, to.1);
            for (name, _) in inside.list(&TreePath::top()).map_err(|error| failed(&error))? {
                let name = TreePath::from_bytes(&name)?;
                merge(step, (&inside, &name), (&target, &name), &base)?;
            }
            Ok(())
        }
        (false, Some(true)) => Err(refused("is a directory, and a file does not replace it")),
        (true, Some(false)) => Err(refused("is a file, and a directory does not replace it")),
        (_, None) | (false, Some(false)) if step == Step::Look => Ok(()),
        (_, None) | (false, Some(false)) => {
            let renamed = rename(from, to);
            let renamed = match renamed {
                // A directory that its owner may not write to does not move either.
                Err(Errno::ACCESS) if is_directory && moved.mode & 0o200 == 0 => {
                    from.0.set_mode(from.1, 0o700).map_err(|error| failed(&error))?;
                    let renamed = rename(from, to);
                    let at = if renamed.is_ok() { to } else { from };
                    at.0.set_mode(at.1, moved.mode & 0o7777).map_err(|error| failed(&error))?;
                    renamed
                }
                other => other,
            };
            renamed.map_err(|errno| {
                let what = format!("failed to write {}", shown(&below(base, to.1)));
                Failure::io(what, &errno.into())
            })
        }
    }
}

/// Renames without waiting for the disk: a copy outward is as durable as one of `cp`.
///
/// `from` is a path in the directory that this copy made, so nobody puts links into it; `to`
/// is one name.
fn rename(from: (&Dir, &TreePath), to: (&Dir, &TreePath)) -> Result<(), Errno> {
    let (source, target) = (from.0.descriptor(), to.0.descriptor());
    rustix::fs::renameat(source, from.1.as_bytes(), target, to.1.as_bytes())
}

#[cfg(test)]
mod tests;
