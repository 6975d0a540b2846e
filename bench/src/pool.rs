//! The file system that Cove and the others work in.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell::{command, run};

/// A btrfs in an image file of its own, with the options of a pool that Cove makes.
///
/// The image is sparse, and what is deleted is given back only by [`trim`](Self::trim), between
/// measurements.
pub struct Pool {
    /// Where it is mounted.
    pub mount: PathBuf,
    image: PathBuf,
}

/// The options with which Cove mounts its pools.
const OPTIONS: &str = "loop,noatime,nosuid,nodev,compress=zstd:1,nodiscard";

/// Where Cove keeps subvolumes in a pool.
const OF_COVE: [&str; 4] = ["volumes", "stored", "incoming", "trash"];

impl Pool {
    /// Makes and mounts one in a directory.
    pub fn make(directory: &Path, bytes: u64) -> Result<Self> {
        let pool = Self { mount: directory.join("pool"), image: directory.join("pool.img") };
        fs::create_dir_all(&pool.mount)?;
        File::create_new(&pool.image)?.set_len(bytes)?;
        run(command("mkfs.btrfs", &["--quiet", "--nodiscard"]).arg(&pool.image))?;
        run(command("mount", &["-o", OPTIONS]).args([&pool.image, &pool.mount]))?;
        run(command("chmod", &["711"]).arg(&pool.mount))?;
        Ok(pool)
    }

    /// A read-only snapshot.
    pub fn snapshot(&self, source: &Path, target: &Path) -> Result<()> {
        run(command("btrfs", &["subvolume", "snapshot", "-r"]).args([source, target]))?;
        Ok(())
    }

    /// Makes an empty subvolume of the user that owns Cove's files.
    pub fn create(&self, path: &Path) -> Result<()> {
        run(command("btrfs", &["subvolume", "create"]).arg(path))?;
        run(command("chown", &["1000:1000"]).arg(path))?;
        Ok(())
    }

    /// Deletes subvolumes, those that are there.
    pub fn delete(&self, paths: &[PathBuf]) -> Result<()> {
        for some in paths.iter().filter(|path| path.exists()).collect::<Vec<_>>().chunks(200) {
            run(command("btrfs", &["subvolume", "delete"]).args(some))?;
        }
        Ok(())
    }

    /// Deletes all that a Cove which has ended has left in a directory of this pool.
    pub fn clear(&self, of_cove: &Path) -> Result<()> {
        let mut subvolumes = Vec::new();
        for name in OF_COVE {
            let Ok(entries) = fs::read_dir(of_cove.join(name)) else { continue };
            subvolumes.extend(entries.flatten().map(|entry| entry.path()));
        }
        self.delete(&subvolumes)?;
        if of_cove.exists() {
            fs::remove_dir_all(of_cove)
                .with_context(|| format!("failed to remove {}", of_cove.display()))?;
        }
        Ok(())
    }

    /// Waits until what was deleted is gone, and gives its room back to the host.
    pub fn trim(&self) -> Result<()> {
        // This wakes the kernel's cleaner, which else begins up to 30 s later.
        run(command("btrfs", &["filesystem", "sync"]).arg(&self.mount))?;
        run(command("btrfs", &["subvolume", "sync"]).arg(&self.mount))?;
        run(command::<&str>("fstrim", &[]).arg(&self.mount))?;
        Ok(())
    }

    /// Bytes in use, after all is written out.
    pub fn used_bytes(&self) -> Result<u64> {
        crate::machine::flush(&self.mount)?;
        let stat = rustix::fs::statvfs(&self.mount)?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Not through `run`, which refuses after an interruption. It may not be mounted.
        let unmounted = command::<&str>("umount", &[]).arg(&self.mount).output();
        if !unmounted.is_ok_and(|output| output.status.success()) {
            // Somebody looks at it: it goes when they have ended.
            let _ = command("umount", &["-l"]).arg(&self.mount).output();
        }
        let _ = fs::remove_file(&self.image);
        let _ = fs::remove_dir(&self.mount);
    }
}
