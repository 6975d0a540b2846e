//! Real files to store: copies of what lies on this machine.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::shell::{run, script};

/// Files above this size are left out, in bytes, so that none outweighs the others.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// A file, and how large it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path, from the root of where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Copies of real files, in a subvolume of the pool.
pub struct Corpus {
    /// The subvolume.
    pub root: PathBuf,
    /// What is in it, in the order in which it was found.
    pub files: Vec<Found>,
}

/// Takes files in their order until both limits are reached; `None` when there are too few.
fn choose(
    found: impl IntoIterator<Item = Found>,
    files_min: usize,
    bytes_min: u64,
) -> Option<Vec<Found>> {
    let mut chosen = Vec::new();
    let mut bytes = 0;
    for file in found.into_iter().filter(|file| file.bytes <= FILE_BYTES_MAX) {
        bytes += file.bytes;
        chosen.push(file);
        if chosen.len() >= files_min && bytes >= bytes_min {
            return Some(chosen);
        }
    }
    None
}

/// Every n-th of `files` that is large enough, so that `count` come from all over.
pub fn spread(files: &[Found], count: usize, bytes_min: u64) -> Vec<&Found> {
    let large: Vec<&Found> = files.iter().filter(|file| file.bytes >= bytes_min).collect();
    let step = (large.len() / count.max(1)).max(1);
    large.into_iter().step_by(step).take(count).collect()
}

/// The regular files below directories, each directory sorted by name, without following links or
/// leaving a file system.
fn walk(roots: &[PathBuf]) -> impl Iterator<Item = Found> {
    let mut stack: Vec<PathBuf> = roots.iter().rev().cloned().collect();
    std::iter::from_fn(move || {
        while let Some(path) = stack.pop() {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_file() {
                return Some(Found { path, bytes: metadata.len() });
            }
            if metadata.is_dir() {
                // What cannot be listed is not read either.
                let Ok(entries) = fs::read_dir(&path) else { continue };
                let mut below: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                below.sort_by(|a, b| b.cmp(a));
                stack.extend(below);
            }
        }
        None
    })
}

/// A list of paths as `xargs -0` and `tar --null` read it.
fn list(files: &[Found], target: &Path) -> Result<()> {
    let mut text = Vec::new();
    for file in files {
        let path = file.path.strip_prefix("/").unwrap_or(&file.path);
        text.extend_from_slice(path.as_os_str().as_bytes());
        text.push(0);
    }
    fs::write(target, text).with_context(|| format!("failed to write {}", target.display()))
}

impl Corpus {
    /// Copies files of this machine into `root`, a subvolume, until there are as many and as many
    /// bytes.
    pub fn copy(root: &Path, files_min: usize, bytes_min: u64, scratch: &Path) -> Result<Self> {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let cargo = std::env::var_os("CARGO_HOME").map_or(home.join(".cargo"), PathBuf::from);
        let rustup = std::env::var_os("RUSTUP_HOME").map_or(home.join(".rustup"), PathBuf::from);
        let roots =
            [PathBuf::from("/usr"), cargo.join("registry/src"), rustup, home.join(".pyenv")];
        let mut files = choose(walk(&roots), files_min, bytes_min).with_context(|| {
            format!("this machine has not {files_min} files of {bytes_min} bytes in {roots:?}")
        })?;
        for file in &mut files {
            file.path = file.path.strip_prefix("/").unwrap_or(&file.path).to_owned();
        }
        let names = scratch.join("corpus.list");
        list(&files, &names)?;
        let copy = r#"tar -C / --null -T "$1" --ignore-failed-read --hard-dereference -cf - | tar -C "$2" -xf -
            chown -R 1000:1000 "$2""#;
        run(&mut script(copy, &[&names, root]))?;
        // Another program may have taken a file away meanwhile.
        files.retain(|file| root.join(&file.path).is_file());
        Ok(Self { root: root.to_owned(), files })
    }

    /// The sizes of the files, added up.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Puts the first files of it below a directory of the same pool; their data is shared.
    pub fn clone_into(&self, target: &Path, files: usize, scratch: &Path) -> Result<()> {
        ensure!(files <= self.files.len(), "the corpus has {} files only", self.files.len());
        if files == self.files.len() {
            run(&mut script(r#"cp -a --reflink=always "$1/." "$2""#, &[&self.root, target]))?;
            return Ok(());
        }
        let names = scratch.join("part.list");
        list(&self.files[..files], &names)?;
        let copy = r#"cd "$1" && xargs -0 cp -a --reflink=always --parents -t "$2" <"$3""#;
        run(&mut script(copy, &[&self.root, target, &names]))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sizes: &[u64]) -> Vec<Found> {
        let file = |(n, bytes): (usize, &u64)| Found { path: n.to_string().into(), bytes: *bytes };
        sizes.iter().enumerate().map(file).collect()
    }

    #[test]
    fn files_are_taken_until_both_limits_are_reached() {
        let of = |sizes: &[u64], files, bytes| {
            choose(found(sizes), files, bytes).map(|chosen| chosen.len())
        };
        assert_eq!(of(&[5, 5, 5, 5], 2, 1), Some(2));
        assert_eq!(of(&[5, 5, 5, 5], 1, 15), Some(3));
        assert_eq!(of(&[5, 5, 5, 5], 5, 1), None);
        assert_eq!(of(&[5, 5, 5, 5], 1, 21), None);
        assert_eq!(of(&[FILE_BYTES_MAX + 1, 5, FILE_BYTES_MAX], 2, 1), Some(2));
    }

    #[test]
    fn files_to_change_come_from_all_over() {
        let files = found(&[9, 1, 9, 1, 9, 1, 9, 1, 9, 9]);
        let paths: Vec<_> = spread(&files, 3, 5).iter().map(|file| file.path.clone()).collect();
        assert_eq!(paths, [Path::new("0"), Path::new("4"), Path::new("8")]);
        assert_eq!(spread(&files, 30, 5).len(), 6);
    }

    #[test]
    fn a_walk_is_in_the_order_of_names_and_follows_no_link() {
        let directory =
            std::env::temp_dir().join(format!("cove-bench-walk-{}", std::process::id()));
        fs::create_dir_all(directory.join("b")).unwrap();
        for name in ["c", "a", "b/z", "b/y"] {
            fs::write(directory.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("c", directory.join("link")).unwrap();
        let names: Vec<_> = walk(std::slice::from_ref(&directory))
            .map(|file| file.path.strip_prefix(&directory).unwrap().display().to_string())
            .collect();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(names, ["a", "b/y", "b/z", "c"]);
    }
}
