//! Room on the disk of the databases that is kept for removals.
//!
//! What a call does is written down, and on a disk that is full nothing can be. Then nobody could remove
//! anything either: so a file takes some room while there is some, and gives it back for a removal.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tokio::runtime::Handle;

/// How much is kept. The logs of two databases grow to some 4 MiB each before they are written back
/// (1,000 pages, SQLite's default), and what a removal puts into a store on the same disk is small.
const RESERVE_BYTES: u64 = 16 << 20;
/// In which pieces the room is taken, so that the last of it is, too.
const PIECES: [u64; 3] = [1 << 20, 64 << 10, 4 << 10];

/// Room that is kept for removals. Cloning shares it.
///
/// Where files cannot be allocated (no room, or no such call of the file system) it is smaller, or
/// nothing: then removals are as likely to find room as anything else.
#[derive(Debug, Clone)]
pub struct Reserve(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    place: PathBuf,
    /// How many have borrowed it.
    lent: Mutex<usize>,
}

/// What the reserve holds may be written by whoever is first, until this is dropped.
///
/// Held as long as something is being written, and not while anything is waited for: as long as one is
/// held nothing is taken back, and whoever borrows next finds what is left. In a runtime the room is
/// taken back by a thread that may block, after this is dropped.
#[derive(Debug)]
pub struct Lent(Arc<Inner>);

impl Reserve {
    /// The reserve that is the file `place`; nothing is done until it is filled or lent.
    pub(crate) fn at(place: PathBuf) -> Self {
        Self(Arc::new(Inner { place, lent: Mutex::default() }))
    }

    /// Gives its room back to the disk, unless that has as much beside it. Blocks for the length of a
    /// truncation.
    #[must_use]
    pub fn lend(&self) -> Lent {
        let mut lent = self.0.lent();
        *lent += 1;
        if !has_room(&self.0.place)
            && let Ok(file) = File::options().write(true).open(&self.0.place)
        {
            // what cannot be given back is missed by whoever wanted it
            let _ = file.set_len(0);
        }
        Lent(Arc::clone(&self.0))
    }

    /// Takes what it lacks, as far as there is room, unless somebody has borrowed it. Costs a look at the
    /// file when it lacks nothing. Blocks.
    pub fn fill(&self) {
        self.0.fill(&self.0.lent());
    }
}

impl Inner {
    fn lent(&self) -> MutexGuard<'_, usize> {
        // A number is never half changed.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, lent: &usize) {
        if *lent > 0 {
            return;
        }
        let opened = File::options().create(true).append(true).mode(0o600).open(&self.place);
        let Ok(file) = opened else { return };
        let Ok(metadata) = file.metadata() else { return };
        let mut length = metadata.len();
        if length == RESERVE_BYTES {
            return;
        }
        for piece in PIECES {
            while length + piece <= RESERVE_BYTES
                && fallocate(&file, FallocateFlags::empty(), length, piece).is_ok()
            {
                length += piece;
            }
        }
        // a piece that did not fit may have left a part
        let _ = file.set_len(length);
    }
}

impl Inner {
    fn take_back(&self) {
        let mut lent = self.lent();
        *lent -= 1;
        self.fill(&lent);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let inner = Arc::clone(&self.0);
        match Handle::try_current() {
            // a disk that hangs stops none of the threads that serve
            Ok(runtime) => drop(runtime.spawn_blocking(move || inner.take_back())),
            Err(_) => inner.take_back(),
        }
    }
}

/// Whether the disk has as much free as the reserve is; one that cannot be asked has not.
fn has_room(place: &Path) -> bool {
    let dir = place.parent().unwrap_or(place);
    statvfs(dir).is_ok_and(|room| room.f_bavail.saturating_mul(room.f_frsize) >= RESERVE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_its_room_once_and_only_while_nobody_has_borrowed_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("reserve");
        let length = || std::fs::metadata(&place).map(|found| found.len()).unwrap_or(0);
        let reserve = Reserve::at(place.clone());
        assert_eq!(length(), 0);
        let lent = (reserve.lend(), reserve.lend());
        reserve.fill();
        assert_eq!(length(), 0, "two have borrowed it");
        drop(lent.0);
        assert_eq!(length(), 0, "one still has");
        drop(lent.1);
        assert_eq!(length(), RESERVE_BYTES);
        reserve.fill();
        assert_eq!(length(), RESERVE_BYTES);
        let taken = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&place).unwrap());
        assert!(taken * 512 >= RESERVE_BYTES, "{taken} blocks: it is no hole");
    }

    #[tokio::test]
    async fn giving_it_back_stops_no_thread_that_serves() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("reserve");
        let reserve = Reserve::at(place.clone());
        let lent = reserve.lend();
        // Somebody takes it back, on a disk that hangs.
        let hanging = reserve.0.lent();
        drop(lent);
        assert!(!place.exists());
        drop(hanging);
        let taken = async {
            while std::fs::metadata(&place).map(|found| found.len()).unwrap_or(0) < RESERVE_BYTES {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), taken).await.unwrap();
    }
}
