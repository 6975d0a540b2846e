//! How much memory a Cove takes, whatever the size of what it keeps: a large file, many files, many
//! files in one directory.
//!
//! What is measured is the most that the process was resident in (`VmHWM`), from the start of an act
//! to its end; the kernel is told to count anew before each (`clear_refs`). It is the program of the
//! tests, without optimisations but with the allocator of the release.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cove_testkit::proof::{Chance, figure, is_full, rounds};
use cove_types::Digest;
use serde_json::json;

use crate::harness::{Cove, Objects, Settings};

/// The most that a Cove may be resident in.
const PEAK_KIB_MAX: u64 = 256 << 10;
/// How long one act may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Each needs room on the disk, and is not to be slowed down by another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A Cove whose memory is looked at, act by act.
struct Watched {
    cove: Cove,
    _turn: MutexGuard<'static, ()>,
    /// Each act and its peak, in KiB.
    peaks: Vec<(&'static str, u64)>,
}

impl Watched {
    fn start() -> Option<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut settings = Settings::with(Objects::Directory);
        settings.pool_bytes = if is_full() { "4GiB" } else { "512MiB" };
        settings.patience = PATIENCE;
        Some(Self { cove: Cove::start_with(settings)?, _turn: turn, peaks: Vec::new() })
    }

    /// Does an act and takes the peak of it.
    fn act<T>(&mut self, what: &'static str, act: impl FnOnce(&Cove) -> T) -> T {
        let status = format!("/proc/{}/status", self.cove.pid());
        fs::write(format!("/proc/{}/clear_refs", self.cove.pid()), "5").unwrap();
        let begun = Instant::now();
        let done = act(&self.cove);
        let status = fs::read_to_string(status).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let (peak, now, own) = (field("VmHWM:"), field("VmRSS:"), field("RssAnon:"));
        eprintln!(
            "{what}: peak {} MiB, then {} MiB, {} of them no file's; {:.1} s",
            peak >> 10,
            now >> 10,
            own >> 10,
            begun.elapsed().as_secs_f64()
        );
        self.peaks.push((what, peak));
        done
    }

    /// Calls the program for an act; what it prints is not kept.
    fn verb(&mut self, what: &'static str, arguments: &[&str]) {
        self.act(what, |cove| {
            let mut command = cove.program();
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
            let output = command.stderr(Stdio::piped()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {said}");
        });
    }

    fn snapshot(&mut self, what: &'static str) -> String {
        self.act(what, |cove| cove.snapshot("large", what))
    }

    /// Everything is brought back on another machine, where only the store has the entries.
    fn lose_and_recover(&mut self) {
        self.cove.lose_home();
        self.cove.up();
        self.act("recover", |cove| {
            let recovered = cove.json(&["recover", "--take"]);
            assert_eq!(recovered["lost"], json!([]));
        });
    }

    fn verify(&mut self) {
        self.act("verify --level 2", |cove| {
            let found = cove.json(&["verify", "large", "--level", "2"]);
            assert_eq!(found["problems"], json!([]));
        });
    }

    /// Says what was found, and refuses too much.
    #[track_caller]
    fn end(self, of: &str) {
        let (act, most) = self.peaks.iter().max_by_key(|(_, peak)| peak).unwrap();
        let all: Vec<String> =
            self.peaks.iter().map(|(act, peak)| format!("{act} {}", peak >> 10)).collect();
        let told = format!("{} MiB in `{act}`; {}", most >> 10, all.join(", "));
        figure(&format!("memory: peak with {of}"), told);
        assert!(*most <= PEAK_KIB_MAX, "{of}: {} MiB in `{act}`", most >> 10);
    }
}

/// A block of a large file.
const BLOCK_BYTES: usize = 128 << 10;

/// A large file.
struct Large {
    blocks: u64,
    /// How much of each block is noise; the rest is a hole.
    noise_bytes: usize,
}

impl Large {
    fn bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES as u64
    }

    /// Writes noise into some blocks, each time other noise.
    fn write(&self, path: &Path, blocks: impl Iterator<Item = u64>, chance: &mut Chance) {
        let file = File::options().write(true).open(path).unwrap();
        let places = (BLOCK_BYTES / self.noise_bytes - 1).max(1) as u64;
        for block in blocks {
            let at = block * BLOCK_BYTES as u64 + (block % places) * self.noise_bytes as u64;
            file.write_all_at(&chance.bytes(self.noise_bytes), at).unwrap();
        }
    }

    /// The acts of a project with such a file.
    fn watch(&self, of: &str) {
        let Some(mut watched) = Watched::start() else { return };
        let mut chance = Chance::new(5);
        let source = watched.cove.make_dir("source");
        let large = source.join("large.bin");
        File::create(&large).unwrap().set_len(self.bytes()).unwrap();
        self.write(&large, 0..self.blocks, &mut chance);
        let wanted = self.digest(&large);

        watched.verb("new --from", &["new", "large", "--from", "source"]);
        let first = watched.snapshot("snapshot");
        let root = watched.cove.path("large");
        self.write(&root.join("large.bin"), (0..self.blocks).step_by(16), &mut chance);
        let changed = self.digest(&root.join("large.bin"));
        fs::copy(root.join("large.bin"), root.join("copy.bin")).unwrap();
        let second = watched.snapshot("snapshot of blocks and a copy");
        watched.verb("diff", &["diff", &format!("large@{first}"), &format!("large@{second}")]);
        watched.verb("files cat", &["files", "cat", "large:/large.bin"]);
        watched.verb("cp in", &["cp", "source/large.bin", "large:/again.bin"]);
        watched.verb("cp out", &["cp", "large:/large.bin", "out.bin"]);
        let out = watched.cove.dir.path().join("out.bin");
        assert_eq!(self.digest(&out), changed, "what was copied out");
        fs::remove_file(out).unwrap();
        watched.verb("restore", &["restore", "large", &first]);
        watched.verb("restore of a path", &["restore", "large", &second, "--", "large.bin"]);
        let here = watched.cove.path("large").join("large.bin");
        assert_eq!(self.digest(&here), changed, "what was restored from here");
        watched.verify();
        watched.lose_and_recover();
        let entry = format!("large@{first}:/large.bin");
        watched.verb("files cat from the store", &["files", "cat", &entry]);
        watched.verb("restore from the store", &["restore", "large", &first]);
        let back = watched.cove.path("large").join("large.bin");
        assert_eq!(self.digest(&back), wanted, "what was restored from the store");
        watched.end(of);
    }

    /// The digest of the digests of all blocks of such a file.
    fn digest(&self, path: &Path) -> Digest {
        let mut file = File::open(path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), self.bytes());
        let mut digests = Vec::new();
        let mut block = vec![0; BLOCK_BYTES];
        for _ in 0..self.blocks {
            file.read_exact(&mut block).unwrap();
            digests.extend(Digest::of(&block).to_string().into_bytes());
        }
        Digest::of(&digests)
    }
}

#[test]
fn a_large_file_takes_no_more_memory_than_a_small_one() {
    let large = Large { blocks: rounds(512, 40 << 10) as u64, noise_bytes: 4 << 10 };
    large.watch(&format!("a file of {} MiB, a part in 32 no hole", large.bytes() >> 20));
}

#[test]
fn a_large_file_without_holes_takes_no_more_memory_than_a_small_one() {
    let large = Large { blocks: rounds(256, 8 << 10) as u64, noise_bytes: BLOCK_BYTES };
    large.watch(&format!("a file of {} MiB that does not compress", large.bytes() >> 20));
}

/// Makes small files, so many in each directory, from a number on.
fn make_files(dir: &Path, from: usize, count: usize, in_each: usize) {
    for number in from..from + count {
        let below = dir.join(format!("d{:04}", number / in_each));
        if number % in_each == 0 || number == from {
            fs::create_dir_all(&below).unwrap();
        }
        let bytes = format!("export const number = {number};\n");
        fs::write(below.join(format!("file-{number:06}.js")), bytes).unwrap();
    }
}

/// The acts of a project of many files, of which so many are in each directory.
fn many_files(count: usize, in_each: usize, of: &str) {
    let Some(mut watched) = Watched::start() else { return };
    let source = watched.cove.make_dir("source");
    make_files(&source, 0, count, in_each);
    watched.verb("new --from", &["new", "large", "--from", "source"]);
    let first = watched.snapshot("snapshot");
    let root = watched.cove.path("large");

    let more = count / 10;
    make_files(&root, count, more, in_each);
    watched.snapshot("snapshot of a tenth more");
    let dir = watched.cove.make_dir("more");
    make_files(&dir, 2 * count, more, in_each);
    watched.verb("cp in", &["cp", "more/.", "large:/"]);
    for number in (0..count).step_by(100) {
        let file = format!("d{:04}/file-{number:06}.js", number / in_each);
        fs::write(root.join(file), "changed\n").unwrap();
    }
    let last = watched.snapshot("snapshot of changes");
    watched.verb("diff", &["diff", &format!("large@{first}"), &format!("large@{last}")]);
    watched.verb("files ls", &["files", "ls", "large:/d0000"]);
    watched.verb("files ls -R", &["files", "ls", "-R", "large:/"]);
    watched.verb("files find", &["files", "find", "large:/", "file-*"]);
    watched.verb("files grep", &["files", "grep", "changed", "large:/"]);
    watched.verb("cp out", &["cp", "large:/", "out"]);
    fs::remove_dir_all(watched.cove.dir.path().join("out")).unwrap();
    watched.verb("restore", &["restore", "large", &first]);
    watched.verb("restore of a path", &["restore", "large", &last, "--", "d0000"]);
    watched.verb("fork", &["fork", "large", "--as", "other"]);
    watched.verb("files rm -r", &["files", "rm", "-r", "other:/d0000"]);
    watched.verb("look", &["diff", "other@now", "other@now"]);
    watched.verify();
    watched.cove.json(&["rm", "other"]);
    watched.lose_and_recover();
    let listed = format!("large@{last}:/");
    watched.verb("files ls -R from the store", &["files", "ls", "-R", &listed]);
    watched.verb("restore from the store", &["restore", "large", &last]);
    let shown = watched.cove.json(&["files", "stat", &format!("large:/d0000/file-{:06}.js", 0)]);
    assert_eq!(shown["files"][0]["bytes"], 8, "the last state is back");
    watched.end(of);
}

#[test]
fn many_files_take_no_more_memory_than_few() {
    let count = rounds(4_000, 500_000);
    many_files(count, 100, &format!("{count} files"));
}

#[test]
fn a_directory_of_many_files_takes_no_more_memory_than_a_small_one() {
    let count = rounds(2_000, 100_000);
    many_files(count, count, &format!("{count} files in one directory"));
}
