//! A directory of files that only save requests.
//!
//! Nothing in it is believed: whoever reads a file checks it against a digest that
//! came from elsewhere. So a file may be lost, cut or damaged at any time.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

/// What a sweep leaves, in tenths of the bound, so that not each file brings the next sweep.
const LEFT_TENTHS: u64 = 8;

/// How the names end of files that are being written.
const TEMPORARY: &str = "tmp";

/// The files of one directory, whose names this program gave. Several threads may use it, one
/// process at a time.
pub(crate) struct CacheDir {
    dir: PathBuf,
    bytes_max: u64,
    /// At least what the files have together.
    bytes: AtomicU64,
    written: AtomicU64,
}

impl CacheDir {
    /// The cache in `dir`, which exists, with what an earlier process left there.
    pub(crate) fn open(dir: PathBuf, bytes_max: u64) -> Self {
        let cache = Self { dir, bytes_max, bytes: AtomicU64::new(0), written: AtomicU64::new(0) };
        for (path, _, _) in cache.files(|path| path.extension() == Some(TEMPORARY.as_ref())) {
            let _ = fs::remove_file(path);
        }
        cache.sweep();
        cache
    }

    /// The bytes kept under `name`, which the caller is to check.
    pub(crate) fn find(&self, name: &str) -> Option<Vec<u8>> {
        let mut file = File::open(self.dir.join(name)).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        // the oldest are swept first; a time that cannot be set makes this file one of them
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        Some(bytes)
    }

    /// Keeps bytes, in the place of others of that name. What cannot be written is not kept.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let fresh = self.dir.join(format!("{name}.{number}.{TEMPORARY}"));
        let kept = fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, self.dir.join(name)));
        if kept.is_err() {
            let _ = fs::remove_file(&fresh);
            return;
        }
        let length = bytes.len() as u64;
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length > self.bytes_max {
            self.sweep();
        }
    }

    /// Removes the files that were not asked for longest, until the rest is well below the bound.
    fn sweep(&self) {
        let mut files = self.files(|path| path.extension() != Some(TEMPORARY.as_ref()));
        let mut bytes: u64 = files.iter().map(|(_, length, _)| length).sum();
        if bytes > self.bytes_max {
            files.sort_by(|a, b| (a.2, &a.0).cmp(&(b.2, &b.0)));
            for (path, length, _) in files {
                if bytes <= self.bytes_max / 10 * LEFT_TENTHS {
                    break;
                }
                if fs::remove_file(path).is_ok() {
                    bytes -= length;
                }
            }
        }
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The files with names of ours that are `wanted`: where, how long and how old.
    fn files(&self, wanted: impl Fn(&Path) -> bool) -> Vec<(PathBuf, u64, SystemTime)> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let id = name.split('.').next()?;
            let is_ours = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            let metadata = entry.metadata().ok().filter(|found| is_ours && found.is_file())?;
            Some((entry.path(), metadata.len(), metadata.modified().ok()?))
        };
        entries.filter_map(|entry| file(entry.ok()?)).filter(|(path, _, _)| wanted(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u8) -> String {
        format!("{n:032x}")
    }

    fn set_age(dir: &Path, n: u8, seconds: u64) {
        let file = File::options().write(true).open(dir.join(name(n))).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
            .unwrap();
    }

    #[test]
    fn the_files_that_were_not_asked_for_longest_go_when_there_are_too_many_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CacheDir::open(dir.path().to_owned(), 1000);
        for n in 0..10 {
            cache.keep(&name(n), &[n; 100]);
            set_age(dir.path(), n, u64::from(n));
        }
        assert_eq!(cache.find(&name(0)), Some(vec![0; 100]));
        cache.keep(&name(10), &[10; 100]);
        let left = |n: u8| dir.path().join(name(n)).exists();
        assert_eq!((0..=10).filter(|n| left(*n)).collect::<Vec<_>>(), [0, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn a_start_sweeps_what_the_last_process_left_and_nothing_that_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..20 {
            fs::write(dir.path().join(name(n)), [n; 100]).unwrap();
            set_age(dir.path(), n, u64::from(n));
        }
        fs::write(dir.path().join(format!("{}.7.tmp", name(99))), "half").unwrap();
        fs::write(dir.path().join("notes"), vec![0; 5000]).unwrap();
        let cache = CacheDir::open(dir.path().to_owned(), 1000);
        assert_eq!(cache.bytes.load(Ordering::Relaxed), 800);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 9);
        assert!(dir.path().join("notes").exists());
    }
}
