//! Places where volumes are mounted for a moment.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

/// A directory with places to mount at. Nothing is mounted there, and it is gone, once the value is,
/// whatever failed in between.
pub struct Mounts {
    directory: PathBuf,
    places: Vec<PathBuf>,
}

impl Mounts {
    /// Makes the directory; its places are named and not made.
    pub fn make(directory: PathBuf, names: &[&str]) -> Result<Self> {
        // The driver takes absolute paths alone.
        let directory = std::path::absolute(directory)?;
        fs::create_dir_all(&directory)?;
        let places = names.iter().map(|name| directory.join(name)).collect();
        Ok(Self { directory, places })
    }

    /// A place.
    pub fn place(&self, nth: usize) -> Result<&Path> {
        self.places.get(nth).map(PathBuf::as_path).context("there is no such place")
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in &self.places {
            // It ends with an error: where nothing is mounted any more, or nothing ever was.
            while unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
            let _ = fs::remove_dir(place);
        }
        // What is not empty stays, rather than that files of a volume are removed.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Mounts a directory at another, by the call alone.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    mount_bind(source, target).with_context(|| format!("failed to mount at {}", target.display()))
}

/// Takes a mount away.
pub fn unbind(target: &Path) -> Result<()> {
    unmount(target, UnmountFlags::NOFOLLOW)
        .with_context(|| format!("failed to unmount {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_put_at_a_place_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let mounts = Mounts::make(parent.path().join("mounts"), &["used", "empty"]).unwrap();
        for nth in 0..2 {
            fs::create_dir(mounts.place(nth).unwrap()).unwrap();
        }
        let file = mounts.place(0).unwrap().join("file");
        fs::write(&file, "mine").unwrap();
        mounts.place(2).unwrap_err();
        drop(mounts);
        assert_eq!(fs::read(&file).unwrap(), b"mine");
        assert!(!parent.path().join("mounts/empty").exists());
    }
}
