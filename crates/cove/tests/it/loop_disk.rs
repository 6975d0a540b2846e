//! A disk of a test's own, which can be filled and can fail.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mount::{UnmountFlags, unmount};
use tempfile::TempDir;

use crate::harness::run;

/// An ext4 on a loop device, mounted; its image takes what was written to it.
pub struct LoopDisk {
    dir: TempDir,
}

impl LoopDisk {
    /// An empty one of so many bytes.
    pub fn mount(bytes: u64) -> Self {
        let dir = tempfile::Builder::new().prefix("cove-it-disk-").tempdir().unwrap();
        let disk = Self { dir };
        File::create(disk.image()).unwrap().set_len(bytes).unwrap();
        let mut mkfs = Command::new("mkfs.ext4");
        let made = run(mkfs.args(["-q", "-m", "0"]).arg(disk.image()), b"");
        assert_eq!(made.code, 0, "{}", made.stderr);
        std::fs::create_dir(disk.path()).unwrap();
        disk.mount_again();
        disk
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Takes all the room that there is, until the file is removed.
    pub fn fill(&self) -> PathBuf {
        let place = self.path().join("ballast");
        let file = File::create(&place).unwrap();
        let mut length = 0;
        let mut piece = 256 << 20;
        while piece >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), length, piece) {
                Ok(()) => length += piece,
                Err(_) => piece /= 4,
            }
        }
        place
    }

    /// How much more it takes, but for what a file system keeps to itself.
    pub fn free_bytes(&self) -> u64 {
        let room = rustix::fs::statvfs(self.path()).unwrap();
        room.f_bavail * room.f_frsize
    }

    /// Nothing is written to it any more, as when the kernel gives up a disk that failed.
    pub fn fail(&self) {
        let mut mount = Command::new("mount");
        let failed = run(mount.args(["-o", "remount,abort"]).arg(self.path()), b"");
        assert_eq!(failed.code, 0, "{}", failed.stderr);
    }

    /// Takes it away.
    pub fn unmount(&self) {
        unmount(self.path(), UnmountFlags::empty()).unwrap();
    }

    /// Brings it back with what was on it.
    pub fn mount_again(&self) {
        let mut mount = Command::new("mount");
        let mounted = run(mount.args(["-o", "loop"]).arg(self.image()).arg(self.path()), b"");
        assert_eq!(mounted.code, 0, "{}", mounted.stderr);
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
