//! A disk that errs when a test wishes it.

mod passthrough;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fuser::{BackgroundSession, Config, Errno, MountOption};
use tempfile::TempDir;

/// What a program asks of a disk, as far as it can fail by a test's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// read(2).
    Read,
    /// write(2).
    Write,
    /// fsync(2) of a file. One that fails has lost what was written since the last: those bytes
    /// are zeros from then on, and the next fsync succeeds.
    Sync,
    /// fsync(2) of a directory.
    SyncDirectory,
    /// A new file or directory.
    Create,
    /// rename(2).
    Rename,
    /// unlink(2) and rmdir(2).
    Remove,
    /// chmod(2), truncate(2) and ftruncate(2), and an open(2) that cuts a file to nothing.
    SetAttributes,
}

impl Step {
    /// All that tests fail one at a time; attributes are refused with the other changes only.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::SyncDirectory,
        Self::Create,
        Self::Rename,
        Self::Remove,
    ];

    /// Whether it changes the disk.
    #[must_use]
    pub fn is_change(self) -> bool {
        self != Self::Read
    }
}

/// Whether what fails was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It was not.
    BeforeEffect,
    /// It was, and the caller is told that it failed.
    AfterEffect,
}

#[derive(Debug, Default)]
struct State {
    seen: BTreeMap<Step, u64>,
    /// Fails one step, after so many others of its kind.
    once: Option<(Step, u64, Errno, When)>,
    /// Fails each change.
    changes: Option<Errno>,
    hangs: bool,
    /// How many wait for it to go on.
    waiting: u64,
    failed: u64,
}

#[derive(Debug, Default)]
struct Faults {
    state: Mutex<State>,
    released: Condvar,
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a step and says how it fails.
    fn meet(&self, step: Step) -> Option<(Errno, When)> {
        let mut state = self.state();
        *state.seen.entry(step).or_default() += 1;
        let changes = state.changes;
        let fault = match (&mut state.once, changes) {
            (_, Some(errno)) if step.is_change() => Some((errno, When::BeforeEffect)),
            (Some((kind, left, errno, when)), _) if *kind == step => match left {
                0 => Some((*errno, *when)),
                _ => {
                    *left -= 1;
                    None
                }
            },
            _ => None,
        };
        if fault.is_some() {
            state.failed += 1;
            state.once = None;
        }
        fault
    }

    /// Waits while the disk hangs.
    fn wait(&self) {
        let mut state = self.state();
        state.waiting += 1;
        while state.hangs {
            state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }
}

/// A directory as a file system of its own (FUSE), whose steps fail by a test's wish.
///
/// What a program does in [`path`](Self::path) is done in [`behind`](Self::behind), where a test
/// looks without meeting the faults. It is enough for a store in a directory: files, directories,
/// renames and locks, no links, no mappings, and one user. Nothing is cached, so each call of a
/// program is met here; an fsync is not passed on, as no test cuts the power.
#[derive(Debug)]
pub struct FaultyDisk {
    faults: Arc<Faults>,
    /// Unmounts when it is dropped, so before its directory goes.
    session: Option<BackgroundSession>,
    dir: TempDir,
}

impl FaultyDisk {
    /// An empty disk that works. `None` where there can be none, which is said.
    ///
    /// # Panics
    ///
    /// Temporary directories cannot be made.
    #[must_use]
    pub fn mount() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("cove-disk-").tempdir();
        let dir = dir.expect("temporary directories can be made");
        for name in ["behind", "disk"] {
            std::fs::create_dir(dir.path().join(name)).expect("a new directory takes names");
        }
        let faults = Arc::new(Faults::default());
        let disk = passthrough::Passthrough::new(&dir.path().join("behind"), Arc::clone(&faults));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("cove-faulty-disk".to_owned())];
        match fuser::spawn_mount(disk, dir.path().join("disk"), &config) {
            Ok(session) => Some(Self { faults, session: Some(session), dir }),
            Err(error) => {
                eprintln!("SKIPPED: a disk that errs needs root and /dev/fuse: {error}");
                None
            }
        }
    }

    /// Where programs find the disk.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// The same directory for a test, without faults.
    #[must_use]
    pub fn behind(&self) -> PathBuf {
        self.dir.path().join("behind")
    }

    /// Lets the step after `after` others of its kind fail, once.
    pub fn fail_after(&self, step: Step, after: u64, error: io::ErrorKind, when: When) {
        self.faults.state().once = Some((step, after, errno(error), when));
    }

    /// Lets every change fail until it is healed.
    pub fn fail_changes(&self, error: io::ErrorKind) {
        self.faults.state().changes = Some(errno(error));
    }

    /// Lets whoever comes wait until it is healed.
    pub fn hang(&self) {
        self.faults.state().hangs = true;
    }

    /// Works again, for whoever waits too.
    pub fn heal(&self) {
        let mut state = self.faults.state();
        (state.once, state.changes, state.hangs) = (None, None, false);
        self.faults.released.notify_all();
    }

    /// How many steps of a kind there were.
    #[must_use]
    pub fn seen(&self, step: Step) -> u64 {
        self.faults.state().seen.get(&step).copied().unwrap_or(0)
    }

    /// How many steps failed by a test's wish.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.faults.state().failed
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        self.heal();
        // Whoever has files open on it is refused from now on. A process that serves its own disk would
        // wait for itself when it ends.
        let flags = rustix::mount::UnmountFlags::FORCE | rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(self.path(), flags);
        drop(self.session.take());
    }
}

/// What the kernel calls an error; a general one is of the medium.
fn errno(kind: io::ErrorKind) -> Errno {
    match kind {
        io::ErrorKind::StorageFull => Errno::ENOSPC,
        io::ErrorKind::QuotaExceeded => Errno::EDQUOT,
        io::ErrorKind::ReadOnlyFilesystem => Errno::EROFS,
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests;
