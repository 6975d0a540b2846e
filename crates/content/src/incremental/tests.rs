//! The law: an incremental store gives what a full store of the same snapshot gives.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use cove_btrfs::{Access, BtrfsPool, FakePool, LoopPool, Pool, SubvolumePath, Touched};
use cove_env::Env;
use cove_objects::MemoryStore;
use cove_testkit::proof::{self, Chance};
use cove_types::{FileTime, OperationId, VolumeId};
use rustix::fs::{CWD, FallocateFlags, FileType, IFlags, Mode, RenameFlags};

use super::files::dirty_chunks;
use super::*;
use crate::chunks::PackCache;
use crate::locations::{Locations, PackRef};
use crate::remote::Remote;
use crate::store::store_tree;

fn volume() -> VolumeId {
    "v".parse().unwrap()
}

fn live() -> SubvolumePath {
    SubvolumePath::Volume(volume())
}

fn stored(n: u64) -> SubvolumePath {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    SubvolumePath::Stored(volume(), OperationId(id))
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// A store of one volume in memory.
struct Content {
    env: Env,
    _runtime: tokio::runtime::Runtime,
    remote: Remote,
    cache: Arc<PackCache>,
    packs: Vec<PackRef>,
}

impl Content {
    fn new() -> Self {
        let env = Env::system();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Arc::new(MemoryStore::new(env.clone()));
        let remote = Remote::new(store, runtime.handle().clone(), "t".parse().unwrap());
        let cache = Arc::new(PackCache::new(None));
        Self { env, _runtime: runtime, remote, cache, packs: Vec::new() }
    }

    fn chunks(&self) -> Chunks {
        let locations = Locations { indexes: Vec::new(), packs: self.packs.clone() };
        Chunks::new(self.remote.clone(), Arc::clone(&self.cache), locations)
    }

    fn store<E>(
        &mut self,
        run: impl FnOnce(&Chunks, &mut Session<'_>) -> Result<StoredTree, E>,
    ) -> Result<StoredTree, E> {
        let known = self.chunks();
        let mut session = Session::new(&known, &self.env, &volume(), [7; 8], Progress::default());
        let stored = run(&known, &mut session)?;
        let packed = session.finish(b"{}").unwrap();
        self.packs.extend(packed.packs.into_iter().map(|(pack, _)| pack));
        Ok(stored)
    }

    fn full(&mut self, dir: &Dir) -> StoredTree {
        let stored = self.store(|_, session| store_tree(dir, session, &Progress::default()));
        in_order(stored.unwrap())
    }

    fn changed(
        &mut self,
        pool: &dyn Pool,
        place: &SubvolumePath,
        changes: &Changes,
        old: &StoredTree,
    ) -> Result<StoredTree, IncrementalError> {
        let dir = pool.open(place).unwrap();
        let names = |inode| pool.names_of_inode(place, inode);
        let old = OldTree { root: &old.root.digest, not_captured: &old.not_captured };
        self.store(|known, session| {
            store_changes(changes, &dir, &names, known, old, session, &Progress::default())
        })
    }

    /// Whether all that a tree names is there.
    fn holds(&self, tree: &StoredTree) -> bool {
        let chunks = self.chunks();
        let has = |digest: &Digest| digest.is_hole() || chunks.locate(digest).unwrap().is_some();
        tree::range(&chunks, &tree.root.digest, Key::all()).all(|item| {
            let (_, value) = item.unwrap().decode().unwrap();
            match value {
                Value::Entry(entry) => {
                    let mut named = Vec::new();
                    if let tree::Content::File { chunk, .. } = entry.content {
                        named.extend(chunk);
                    }
                    if let tree::Xattrs::Chunk(digest) = entry.xattrs {
                        named.push(digest);
                    }
                    named.iter().all(has)
                }
                Value::Chunks(list) => list.digests().iter().all(has),
            }
        })
    }
}

/// As a root lists them.
fn in_order(mut stored: StoredTree) -> StoredTree {
    stored.not_captured.sort_unstable();
    stored.not_captured.dedup();
    stored
}

/// What two trees differ in, to be read by a person.
fn differences(a: (&Content, &StoredTree), b: (&Content, &StoredTree)) -> String {
    let items = |(content, stored): (&Content, &StoredTree)| {
        let chunks = content.chunks();
        tree::range(&chunks, &stored.root.digest, Key::all())
            .map(|item| {
                let item = item.unwrap();
                (item.key.clone(), item.decode().unwrap().1)
            })
            .collect::<BTreeMap<_, _>>()
    };
    let (a, b) = (items(a), items(b));
    let mut text = String::new();
    for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        if a.get(key) != b.get(key) {
            let shown = |value: Option<&Value>| match value {
                Some(Value::Chunks(list)) => {
                    format!("{} chunks, {} bytes", list.digests().len(), list.bytes())
                }
                other => format!("{other:?}"),
            };
            text += &format!(
                "{key}\n  incremental {}\n  full        {}\n",
                shown(a.get(key)),
                shown(b.get(key))
            );
        }
    }
    text
}

/// Changes as a person reads them.
fn shown(changes: &Result<Changes, cove_btrfs::ChangesError>) -> String {
    let Ok(changes) = changes else { return format!("{changes:?}") };
    let mut text = String::new();
    for gone in &changes.gone {
        text += &format!("gone {}\n", escape_bytes(gone));
    }
    for (old, new) in &changes.moved {
        text += &format!("moved {} to {}\n", escape_bytes(old), escape_bytes(new));
    }
    for touched in &changes.touched {
        let origin = touched.origin.as_deref().map(escape_bytes);
        let path = escape_bytes(&touched.path);
        text += &format!("touched {path} from {origin:?}: {:?}\n", touched.content);
    }
    text
}

/// One volume, edited and stored again and again, both ways.
struct Both<'p> {
    pool: &'p dyn Pool,
    /// By which the changes are also taken in the other way.
    search: Option<&'p BtrfsPool>,
    incremental: Content,
    full: Content,
    old: Option<StoredTree>,
    /// The round in which `old` was stored.
    base: u64,
    round: u64,
    /// Older rounds whose snapshots are still there.
    kept: Vec<(u64, StoredTree)>,
}

/// How many older snapshots are kept, to be restored.
const KEPT: usize = 3;

impl<'p> Both<'p> {
    fn new(pool: &'p dyn Pool) -> Self {
        pool.create(&live(), &volume()).unwrap();
        Self {
            pool,
            search: None,
            incremental: Content::new(),
            full: Content::new(),
            old: None,
            base: 0,
            round: 0,
            kept: Vec::new(),
        }
    }

    /// As [`new`](Self::new), with changes by search too.
    fn searched(pool: &'p LoopPool) -> Self {
        Self { search: Some(pool.inner()), ..Self::new(pool) }
    }

    /// Makes an older snapshot the live one; what is stored next is compared with it, or with
    /// what was stored last, which has nothing to do with it then.
    fn restore(&mut self, seeded: &mut Seeded) {
        if self.kept.is_empty() {
            return;
        }
        let (round, tree) = seeded.pick(&self.kept).clone();
        self.pool.delete(&live()).unwrap();
        if seeded.next(3) == 0 {
            // As one that is built from the store: the same files with other inode numbers.
            self.pool.create(&live(), &volume()).unwrap();
            let from = self.pool.absolute(&stored(round)).join(".");
            run("cp", &["--archive", "--no-target-directory"], &[&from, &self.at()]);
        } else {
            self.pool.snapshot(&stored(round), &live(), Access::ReadWrite, &volume()).unwrap();
        }
        if seeded.next(2) == 0
            && let Some(last) = self.old.replace(tree)
        {
            self.kept.retain(|(kept, _)| *kept != round);
            self.kept.push((self.base, last));
            self.base = round;
        }
    }

    fn at(&self) -> PathBuf {
        self.pool.absolute(&live())
    }

    /// Takes a snapshot and stores it; why incrementally it was refused, if it was.
    fn store(&mut self) -> Option<String> {
        self.round += 1;
        let (base, new) = (stored(self.base), stored(self.round));
        self.pool.snapshot(&live(), &new, Access::ReadOnly, &volume()).unwrap();
        let dir = self.pool.open(&new).unwrap();
        let full = self.full.full(&dir);
        let old = self.old.take();
        let before = self.base;
        self.base = self.round;
        let Some(old) = old else {
            let first = self.incremental.full(&dir);
            assert_eq!(first.root, full.root);
            self.old = Some(first);
            return None;
        };
        let mut refused = None;
        if let Some(pool) = self.search {
            let told = pool.changes_by_search(&base, &new);
            refused = self.incrementally(&new, &told, &old, &full).err();
        }
        let told = self.pool.changes(&base, &new);
        match self.incrementally(&new, &told, &old, &full) {
            Ok(stored) => self.old = Some(stored),
            Err(why) => {
                self.old = Some(self.incremental.full(&dir));
                refused = Some(why);
            }
        }
        if self.round.is_multiple_of(10) {
            assert!(self.incremental.holds(self.old.as_ref().unwrap()), "a chunk was not put");
        }
        self.kept.push((before, old));
        while self.kept.len() > KEPT {
            let (round, _) = self.kept.remove(0);
            self.pool.delete(&stored(round)).unwrap();
        }
        refused
    }

    /// Stores what was told, which is to give what a full store gave; why it was refused.
    fn incrementally(
        &mut self,
        new: &SubvolumePath,
        told: &Result<Changes, cove_btrfs::ChangesError>,
        old: &StoredTree,
        full: &StoredTree,
    ) -> Result<StoredTree, String> {
        let result = match told {
            Ok(changes) => self.incremental.changed(self.pool, new, changes, old),
            Err(error) => return Err(format!("{error:?}")),
        };
        match result {
            Ok(stored) => {
                if stored.root != full.root || stored.not_captured != full.not_captured {
                    let differences = differences((&self.incremental, &stored), (&self.full, full));
                    panic!(
                        "round {}\n{differences}\nincremental {:?}\nfull {:?}\n{}",
                        self.round,
                        stored.not_captured,
                        full.not_captured,
                        shown(told)
                    );
                }
                Ok(stored)
            }
            Err(IncrementalError::NeedsFullStore { why }) => Err(why),
            Err(error) => panic!("round {}: {error:?}\n{}", self.round, shown(told)),
        }
    }
}

/// Numbers that a seed decides.
struct Seeded(Chance);

impl Seeded {
    fn next(&mut self, below: u64) -> u64 {
        self.0.below(below)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.next(all.len() as u64) as usize]
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        let kind = self.next(4);
        let salt = self.next(1 << 20);
        let fill = |n: u64| match kind {
            0 => 0,
            1 => (n / 100 + salt) as u8,
            _ => ((n ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8,
        };
        (0..count).map(fill).collect()
    }

    /// Often exactly on a border of chunks or groups, or beside one.
    fn offset(&mut self) -> u64 {
        let unit = *self.pick(&[16 << 10, 128 << 10, 128 << 10, 1 << 20]);
        let near = self.next(9) * unit;
        match self.next(4) {
            0 => near,
            1 => near + 1,
            2 => near.saturating_sub(1),
            _ => self.next(near + 4096),
        }
    }
}

fn walk(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            found.push(entry.path());
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Held by whoever starts a process, which for a moment has all descriptors of this one, and by
/// whoever unmounts.
static STARTING: RwLock<()> = RwLock::new(());

#[expect(clippy::disallowed_methods, reason = "a user makes and copies by programs")]
fn run(program: &str, arguments: &[&str], paths: &[&Path]) {
    let _starting = STARTING.write();
    drop(std::process::Command::new(program).args(arguments).args(paths).output());
}

/// One random edit; what cannot be done is not.
fn edit(dir: &Dir, top: &Path, seeded: &mut Seeded) -> Option<()> {
    let all = walk(top);
    let directories: Vec<PathBuf> = std::iter::once(top.to_owned())
        .chain(all.iter().filter(|path| path.is_dir() && !path.is_symlink()).cloned())
        .collect();
    let files: Vec<PathBuf> =
        all.iter().filter(|path| path.is_file() && !path.is_symlink()).cloned().collect();
    let names = ["a", "b", "c", "d", "e.db", "\u{e9}", "o257-7-0", "services"];
    let fresh = seeded.pick(&directories).join(seeded.pick(&names));
    let some = if all.is_empty() { fresh.clone() } else { seeded.pick(&all).clone() };
    let file = if files.is_empty() { fresh.clone() } else { seeded.pick(&files).clone() };
    let below = |path: &Path| {
        let bytes =
            std::os::unix::ffi::OsStrExt::as_bytes(path.strip_prefix(top).unwrap().as_os_str());
        TreePath::from_bytes(bytes).ok()
    };
    // To open a named pipe would wait for its other end.
    let open = |path: &Path| {
        let options = std::fs::OpenOptions::new().write(true).read(true).clone();
        path.is_file().then(|| options.open(path).ok()).flatten()
    };
    match seeded.next(32) {
        30 => {
            let flags = [IFlags::IMMUTABLE, IFlags::APPEND, IFlags::NODUMP, IFlags::NOCOW];
            let file =
                File::open(if some.is_file() || some.is_dir() { &some } else { top }).ok()?;
            let flags = rustix::fs::ioctl_getflags(&file).ok()? ^ *seeded.pick(&flags);
            rustix::fs::ioctl_setflags(&file, flags).ok()
        }
        31 => {
            let at = below(&some)?;
            // A capability as `setcap` writes it, for CAP_NET_RAW.
            let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            match seeded.next(5) {
                0 => dir.set_xattr(&at, b"security.capability", &capability).ok(),
                1 => dir.set_xattr(&at, b"trusted.note", &seeded.bytes(9)).ok(),
                2 => dir.remove_xattr(&at, b"trusted.note").map(drop).ok(),
                3 => dir.remove_xattr(&at, b"security.capability").map(drop).ok(),
                _ => (0..9).try_for_each(|n| {
                    let name = format!("user.large{n}");
                    dir.set_xattr(&at, name.as_bytes(), &vec![n; 15_000]).ok()
                }),
            }
        }
        0..3 => {
            let size = match seeded.next(4) {
                0 => seeded.next(200),
                1 => seeded.offset(),
                2 => seeded.offset() / 8,
                _ => seeded.next(40_000),
            };
            let mut bytes = seeded.bytes(size);
            if seeded.next(5) == 0 && bytes.len() > 16 {
                bytes[..16].copy_from_slice(b"SQLite format 3\0");
            }
            (fresh.is_file() || !fresh.exists())
                .then(|| std::fs::write(&fresh, bytes).ok())
                .flatten()
        }
        3 => std::fs::create_dir(&fresh).ok(),
        4..6 => {
            let (offset, count) = (seeded.offset(), seeded.next(300_000));
            open(&file)?.write_all_at(&seeded.bytes(count), offset).ok()
        }
        6 => {
            let file = open(&file)?;
            let count = seeded.next(200_000);
            let end = file.metadata().ok()?.len();
            file.write_all_at(&seeded.bytes(count), end).ok()
        }
        7..9 => open(&file)?.set_len(seeded.offset()).ok(),
        9 => {
            // Cut and grown again: the same size, other bytes.
            let file = open(&file)?;
            let size = file.metadata().ok()?.len();
            file.set_len(seeded.next(size + 1)).ok()?;
            file.set_len(size).ok()
        }
        10 => {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let (offset, count) = (seeded.offset(), 1 + seeded.offset());
            rustix::fs::fallocate(open(&file)?, flags, offset, count).ok()
        }
        11 => {
            let flags = *seeded.pick(&[FallocateFlags::empty(), FallocateFlags::KEEP_SIZE]);
            rustix::fs::fallocate(open(&file)?, flags, seeded.offset(), 1 + seeded.next(99_999))
                .ok()
        }
        12 => {
            let source = open(seeded.pick(files.get(..).filter(|all| !all.is_empty())?).as_path())?;
            let target = open(&file)?;
            match seeded.next(2) {
                0 => rustix::fs::ioctl_ficlone(&target, &source).ok(),
                _ => {
                    // In whole sectors, as the kernel wants it.
                    let size = source.metadata().ok()?.len();
                    let from = seeded.next(size / 4096 + 1) * 4096;
                    let count = seeded.next(64) * 4096;
                    let mut bytes = vec![0; count as usize];
                    let read = source.read_at(&mut bytes, from).ok()?;
                    let at = seeded.offset() / 4096 * 4096;
                    clone_range(&source, &target, from, read as u64 / 4096 * 4096, at)
                }
            }
        }
        13..15 => std::fs::hard_link(&some, &fresh).ok(),
        15 => std::fs::remove_file(&some).ok(),
        16 => match some.is_dir() && seeded.next(3) != 0 {
            true => None,
            false => std::fs::remove_dir_all(&some).ok(),
        },
        17..20 => std::fs::rename(&some, &fresh).ok(),
        20 => {
            let other = seeded.pick(&all).clone();
            // What stands for a nested subvolume must not be exchanged (`Dir::rename_or_exchange`).
            let stands = |at: &Path| {
                below(at).is_none_or(|at| dir.metadata(&at).is_ok_and(|m| m.stands_for_subvolume()))
            };
            if stands(&some) || stands(&other) {
                return None;
            }
            rustix::fs::renameat_with(CWD, &some, CWD, &other, RenameFlags::EXCHANGE).ok()
        }
        21 => {
            let at = below(&some)?;
            dir.remove(&at, true).ok()?;
            match seeded.next(4) {
                0 => dir.symlink(&at, b"some/target").ok(),
                1 => dir.mkfifo(&at, 0o600).ok(),
                2 => dir.create_dir(&at, 0o700).ok(),
                _ => dir.create_file(&at, 0o600).map(drop).ok(),
            }
        }
        22 => {
            let modes = [0o644, 0o600, 0o755, 0o1777, 0o4755, 0o2755];
            dir.set_mode(&below(&some)?, *seeded.pick(&modes)).ok()
        }
        23 => {
            let at = below(&some)?;
            match seeded.next(3) {
                0 => dir.remove_xattr(&at, b"user.a").map(drop).ok(),
                1 => dir.set_xattr(&at, b"user.a", &seeded.bytes(1200)).ok(),
                _ => dir.set_xattr(&at, b"user.b", b"b").ok(),
            }
        }
        24 => {
            let seconds = seeded.next(1 << 30) as i64;
            dir.set_times(&below(&some)?, FileTime { seconds, nanoseconds: 5 }).ok()
        }
        25 => match seeded.next(3) {
            0 => dir.set_owner(&below(&some)?, 1000, seeded.next(3) as u32).ok(),
            1 => std::os::unix::fs::symlink("nowhere", &fresh).ok(),
            _ => dir.mksocket(&below(&fresh)?, 0o644).ok(),
        },
        26 => {
            let device = rustix::fs::makedev(1, 3);
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(CWD, &fresh, kind, Mode::from_raw_mode(0o600), device).ok()
        }
        27 => {
            let magic = *seeded.pick(&[b"SQLite format 3\0", b"SQLite format 4\0"]);
            open(&file)?.write_all_at(magic, 0).ok()
        }
        28 => match seeded.next(2) {
            0 => {
                run("btrfs", &["subvolume", "create"], &[&fresh]);
                Some(())
            }
            _ => {
                use std::os::unix::fs::MetadataExt;
                let is_top = |path: &&PathBuf| {
                    std::fs::symlink_metadata(path).is_ok_and(|found| found.ino() == 256)
                };
                run("btrfs", &["subvolume", "delete"], &[directories[1..].iter().find(is_top)?]);
                Some(())
            }
        },
        _ => {
            // Deep, so that moves make paths too deep.
            let deep = ["x"; 70].iter().fold(fresh, |path, name| path.join(name));
            std::fs::create_dir_all(&deep).ok()?;
            std::fs::write(deep.join("f"), b"deep").ok()
        }
    }
}

/// A range of one file shared with another: btrfs clones for `copy_file_range` as for
/// `FICLONERANGE`, for which rustix has no call.
fn clone_range(source: &File, target: &File, from: u64, count: u64, to: u64) -> Option<()> {
    let (mut from, mut to) = (from, to);
    let count = usize::try_from(count).ok()?;
    rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), count).ok()?;
    Some(())
}

mod live {
    use super::*;

    /// A pool that is taken down when the test ends, however it ends.
    struct Live {
        pool: Option<LoopPool>,
        _home: tempfile::TempDir,
    }

    impl Live {
        fn new() -> Option<Self> {
            if !rustix::process::geteuid().is_root() {
                eprintln!("skipped: a live test needs root");
                return None;
            }
            let home = tempfile::tempdir().unwrap();
            let pool = Some(LoopPool::open(home.path(), 4 << 30).unwrap());
            Some(Self { pool, _home: home })
        }

        fn pool(&self) -> &LoopPool {
            self.pool.as_ref().unwrap()
        }
    }

    impl Drop for Live {
        fn drop(&mut self) {
            let _starting = STARTING.read();
            if let Some(pool) = self.pool.take()
                && let Err(error) = pool.close()
            {
                eprintln!("{error:?}");
            }
        }
    }

    #[test]
    fn random_edits_stored_incrementally_give_the_tree_of_a_full_store() {
        let Some(live) = Live::new() else { return };
        let test = "random_edits_stored_incrementally_give_the_tree_of_a_full_store";
        let (rounds, seed) = (proof::rounds(40, 150), proof::seed(test));
        let mut seeded = Seeded(Chance::new(seed));
        let mut both = Both::searched(live.pool());
        for name in ["files", "files/src", "services", "services/db"] {
            std::fs::create_dir(both.at().join(name)).unwrap();
        }
        let mut refused = Vec::new();
        for round in 0..rounds {
            if seeded.next(6) == 0 {
                both.restore(&mut seeded);
            }
            let dir = live.pool().open(&super::live()).unwrap();
            for _ in 0..1 + seeded.next(12) {
                let _ = edit(&dir, &both.at(), &mut seeded);
            }
            if let Some(why) = both.store() {
                refused.push(format!("round {round}: {why}"));
            }
        }
        let counts = both.old.as_ref().unwrap().root.counts;
        let lacking = both.old.as_ref().unwrap().not_captured.len();
        eprintln!("{counts:?}, {lacking} paths not captured\n{}", refused.join("\n"));
        let in_full = refused.len();
        proof::figure(
            "random edits, incremental trees equal to full ones",
            format!("{rounds} rounds, {in_full} of them stored in full, seed {seed}"),
        );
        assert!(refused.len() * 4 <= rounds, "most changes can be stored as changes");
    }

    /// A path of more than 4,095 bytes, which no call takes whole: the innermost directory.
    fn too_long(top: &Path) -> File {
        let mut at = File::open(top).unwrap();
        let name = "n".repeat(250);
        for _ in 0..18 {
            rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
            let flags = rustix::fs::OFlags::DIRECTORY;
            let below = rustix::fs::openat(&at, &name, flags, Mode::empty()).unwrap();
            at = File::from(below);
        }
        at
    }

    #[test]
    fn beside_a_path_that_the_kernel_cannot_send_changes_are_stored_as_changes() {
        let Some(live) = Live::new() else { return };
        let mut both = Both::searched(live.pool());
        write(&both, "files/a", b"a");
        write(&both, "files/large", &vec![7; 3 << 20]);
        both.store();
        let innermost = too_long(&both.at().join("files"));
        assert_eq!(both.store(), None);
        let rows = both.old.as_ref().unwrap().not_captured.clone();
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0].what, lack::LONG);
        // In the path itself, and elsewhere.
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::RDWR;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&innermost, "f", flags, mode).map(File::from).unwrap();
        file.write_all_at(b"not captured", 0).unwrap();
        write(&both, "files/a", b"b");
        assert_eq!(both.store(), None);
        let large = File::options().write(true).open(both.at().join("files/large")).unwrap();
        large.write_all_at(b"changed", 1 << 20).unwrap();
        std::fs::rename(both.at().join("files/a"), both.at().join("files/b")).unwrap();
        assert_eq!(both.store(), None);
        // One of two names of a file is too long.
        let at = both.at().join("files/b");
        rustix::fs::linkat(CWD, &at, &innermost, "link", rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!(both.store(), None);
        assert_eq!(both.old.as_ref().unwrap().not_captured, rows);
    }

    #[test]
    fn what_is_odd_of_an_entry_is_kept_or_named_and_keeps_nothing_from_being_stored() {
        let Some(live) = Live::new() else { return };
        let mut both = Both::searched(live.pool());
        let top = both.at();
        let dir = live.pool().open(&super::live()).unwrap();
        write(&both, "files/plain", b"plain");
        let target = vec![b't'; 4095];
        dir.symlink(&path("files/link"), &target).unwrap();
        dir.mkfifo(&path("files/fifo"), 0o600).unwrap();
        dir.mksocket(&path("files/socket"), 0o600).unwrap();
        let name = [&b"\xff\x1b"[..], &[b'n'; 253]].concat();
        let unreadable = path("files").join(&name).unwrap();
        dir.create_file(&unreadable, 0o600).unwrap();
        let sparse = dir.create_file(&path("files/sparse"), 0o600).unwrap();
        sparse.set_len(i64::MAX as u64).unwrap();
        sparse.write_all_at(b"end", i64::MAX as u64 - 3).unwrap();
        sparse.write_all_at(b"middle", 1 << 40).unwrap();
        for (name, seconds) in [("early", i64::MIN), ("late", i64::MAX)] {
            let at = path("files").join(name.as_bytes()).unwrap();
            dir.create_file(&at, 0o600).unwrap();
            dir.set_times(&at, FileTime { seconds, nanoseconds: 999_999_999 }).unwrap();
        }
        let attributes = [&b"user."[..], &[b'x'; 250]].concat();
        dir.set_xattr(&path("files/plain"), &attributes, b"").unwrap();
        for n in 0..5000 {
            std::fs::hard_link(top.join("files/plain"), top.join(format!("files/link-{n}")))
                .unwrap();
        }
        for what in ["large", "many"] {
            write(&both, &format!("files/{what}"), what.as_bytes());
            std::fs::create_dir(top.join(format!("files/{what}-dir"))).unwrap();
        }
        for at in ["files/large", "files/large-dir"].map(path) {
            for n in 0..12 {
                dir.set_xattr(&at, format!("user.{n:02}").as_bytes(), &[n; 15_000]).unwrap();
            }
        }
        for at in ["files/many", "files/many-dir", "files/fifo"].map(path) {
            for n in 0..300 {
                let name = format!("user.{n:03}{}", "x".repeat(247));
                if at != path("files/fifo") {
                    dir.set_xattr(&at, name.as_bytes(), b"").unwrap();
                }
            }
            // An access list, which is found without the names too.
            let user = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255];
            let list = [&user[..], &[2, 0, 4, 0, 7, 0, 0, 0], &[4, 0, 4, 0, 255, 255, 255, 255]];
            let rest = [&[16, 0, 4, 0, 255, 255, 255, 255][..], &[32, 0, 4, 0, 255, 255, 255, 255]];
            let list = [list.concat(), rest.concat()].concat();
            dir.set_xattr(&at, b"system.posix_acl_access", &list).unwrap();
        }
        both.store();
        let stored = both.old.clone().unwrap();
        let chunks = both.full.chunks();
        let entry =
            |at: &TreePath| tree::find_entry(&chunks, &stored.root.digest, at).unwrap().unwrap();
        assert_eq!(entry(&path("files/link")).content, tree::Content::Symlink(target));
        assert_eq!(entry(&path("files/sparse")).size(), Some(i64::MAX as u64));
        assert_eq!(entry(&path("files/early")).mtime.seconds, i64::MIN);
        assert_eq!(entry(&path("files/late")).mtime.seconds, i64::MAX);
        assert_eq!(entry(&unreadable).size(), Some(0));
        let tree::Xattrs::Inline(list) = entry(&path("files/plain")).xattrs else { panic!() };
        assert!(list.iter().eq([(&attributes[..], &b""[..])]));
        for name in ["files/many", "files/fifo"] {
            let tree::Xattrs::Inline(list) = entry(&path(name)).xattrs else { panic!() };
            assert_eq!(list.iter().len(), 1, "{name}");
        }
        let tree::Xattrs::Chunk(digest) = entry(&path("files/large-dir")).xattrs else { panic!() };
        let list = tree::XattrList::decode(&chunks.chunk(&digest).unwrap()).unwrap();
        assert_eq!(list.iter().len(), 8);
        let rows = |both: &Both<'_>| {
            let rows = &both.old.as_ref().unwrap().not_captured;
            rows.iter().map(|row| format!("{}: {}", row.path, row.what)).collect::<Vec<_>>()
        };
        let too_many = |names: &[&str]| {
            names.iter().map(|name| format!("files/{name}: {}", lack::XATTRS)).collect::<Vec<_>>()
        };
        assert_eq!(rows(&both), too_many(&["large", "large-dir", "many", "many-dir"]));

        // All of it is stored as changes too, and what is mended is not named any more.
        for at in ["files/large", "files/many-dir", "files/sparse"].map(path) {
            dir.set_mode(&at, 0o700).unwrap();
        }
        sparse.write_all_at(b"other", 1 << 41).unwrap();
        for n in 8..12 {
            let name = format!("user.{n:02}");
            dir.remove_xattr(&path("files/large-dir"), name.as_bytes()).unwrap();
        }
        assert_eq!(both.store(), None);
        assert_eq!(rows(&both), too_many(&["large", "many", "many-dir"]));
    }

    #[test]
    fn flags_and_attributes_of_the_system_are_named_and_the_entry_is_stored_without() {
        let Some(live) = Live::new() else { return };
        let mut both = Both::searched(live.pool());
        let dir = live.pool().open(&super::live()).unwrap();
        let rows = |both: &Both<'_>| {
            let rows = &both.old.as_ref().unwrap().not_captured;
            rows.iter().map(|row| format!("{}: {}", row.path, row.what)).collect::<Vec<_>>()
        };
        let chattr = |name: &str, flags: IFlags| {
            let file = File::open(live.pool().absolute(&super::live()).join(name)).unwrap();
            rustix::fs::ioctl_setflags(&file, flags).unwrap();
        };
        for name in ["files/a", "files/b", "files/d/c"] {
            write(&both, name, name.as_bytes());
        }
        dir.hard_link(&path("files/a"), &path("files/d/again")).unwrap();
        dir.symlink(&path("files/link"), b"a").unwrap();
        both.store();
        assert!(rows(&both).is_empty());
        chattr("files/a", IFlags::IMMUTABLE);
        chattr("files/b", IFlags::APPEND | IFlags::NODUMP | IFlags::NOATIME | IFlags::SYNC);
        chattr("files/d", IFlags::IMMUTABLE);
        assert_eq!(both.store(), None);
        let mut expected = vec![
            "files/a: immutable flag",
            "files/b: append-only flag",
            "files/b: no-dump flag",
            "files/d: immutable flag",
            "files/d/again: immutable flag",
        ];
        assert_eq!(rows(&both), expected);
        // They follow what moves, and go when the flag does.
        dir.create_dir(&path("files/e"), 0o755).unwrap();
        chattr("files/d", IFlags::empty());
        dir.rename(&path("files/d"), &path("files/e/d")).unwrap();
        expected[3] = "files/e/d/again: immutable flag";
        expected.pop();
        assert_eq!(both.store(), None);
        assert_eq!(rows(&both), expected);
        chattr("files/a", IFlags::empty());
        dir.set_xattr(&path("files/e/d/c"), b"trusted.t", b"t").unwrap();
        dir.set_xattr(&path("files/e"), b"security.cove", b"s").unwrap();
        let at = live.pool().absolute(&super::live()).join("files/link");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(&at, "trusted.of-link", b"t", flags).unwrap();
        assert_eq!(both.store(), None);
        let expected = [
            "files/b: append-only flag",
            "files/b: no-dump flag",
            "files/e: security.* attribute",
            "files/e/d/c: trusted.* attribute",
            "files/link: trusted.* attribute",
        ];
        assert_eq!(rows(&both), expected);
    }

    #[test]
    fn a_fork_is_stored_as_what_differs_from_another() {
        let Some(live) = Live::new() else { return };
        let mut both = Both::searched(live.pool());
        write(&both, "files/a", &[7; 300_000]);
        both.store();
        write(&both, "files/new", b"of the first");
        both.store();
        // Back to the first state, from which another file gets the same inode number.
        let pool = live.pool();
        pool.delete(&super::live()).unwrap();
        pool.snapshot(&stored(1), &super::live(), Access::ReadWrite, &volume()).unwrap();
        std::fs::create_dir(both.at().join("files/new")).unwrap();
        write(&both, "files/new/b", b"of the second");
        assert_eq!(both.store(), None);
    }

    #[test]
    fn what_moves_too_deep_is_listed_and_what_comes_back_is_stored_in_full() {
        let Some(live) = Live::new() else { return };
        let mut both = Both::new(live.pool());
        let deep = |first: &str| {
            ["x"; 140].iter().fold(both.at().join(first), |path, name| path.join(name))
        };
        let (a, b) = (deep("a"), deep("b"));
        for at in [&a, &b] {
            std::fs::create_dir_all(at).unwrap();
            std::fs::write(at.join("file"), b"deep").unwrap();
        }
        both.store();
        let (home, below) = (both.at().join("b"), a.join("b"));
        std::fs::rename(&home, &below).unwrap();
        assert_eq!(both.store(), None);
        let lacking = both.old.as_ref().unwrap().not_captured.len();
        assert_eq!(lacking, 1);
        // Beside it, nothing of it has to be known.
        std::fs::write(a.join("other"), b"other").unwrap();
        assert_eq!(both.store(), None);
        std::fs::rename(&below, &home).unwrap();
        assert!(both.store().is_some());
        assert!(both.old.as_ref().unwrap().not_captured.is_empty());
        // A hard link of which one name is too deep.
        std::fs::hard_link(b.join("file"), both.at().join("link")).unwrap();
        assert_eq!(both.store(), None);
        std::fs::rename(&home, &below).unwrap();
        assert!(both.store().is_some());
        std::fs::remove_file(both.at().join("link")).unwrap();
        assert_eq!(both.store(), None);
        // Gone with all that was too deep.
        std::fs::remove_dir_all(both.at().join("a")).unwrap();
        assert_eq!(both.store(), None);
        assert!(both.old.as_ref().unwrap().not_captured.is_empty());
    }

    #[test]
    fn what_one_file_of_many_costs() {
        let Some(live) = Live::new() else { return };
        let mut both = Both::new(live.pool());
        for directory in 0..200 {
            let at = both.at().join(format!("files/{directory}"));
            std::fs::create_dir_all(&at).unwrap();
            for file in 0..100 {
                std::fs::write(at.join(format!("{file}.rs")), format!("{directory} {file}"))
                    .unwrap();
            }
        }
        assert_eq!(both.store(), None);
        std::fs::write(both.at().join("files/77/7.rs"), "changed").unwrap();
        both.pool.snapshot(&super::live(), &stored(9), Access::ReadOnly, &volume()).unwrap();
        let env = Env::system();
        let begun = env.since_boot();
        let changes = both.pool.changes(&stored(1), &stored(9)).unwrap();
        let told = env.since_boot();
        let searched = live.pool().inner().changes_by_search(&stored(1), &stored(9)).unwrap();
        let found = env.since_boot();
        assert_eq!(searched, changes);
        let old = both.old.take().unwrap();
        let tree = both.incremental.changed(both.pool, &stored(9), &changes, &old).unwrap();
        let changed = env.since_boot();
        let full = both.full.full(&both.pool.open(&stored(9)).unwrap());
        let ended = env.since_boot();
        assert_eq!(tree.root, full.root);
        let (told_in, found_in) = (told - begun, found - told);
        let (changed_in, full_in) = (changed - found, ended - changed);
        proof::figure(
            "1 changed file of 20,000",
            format!(
                "changes {told_in:?}, by search {found_in:?}, incremental {changed_in:?}, full {full_in:?}"
            ),
        );
    }
}

/// A volume of a fake pool, whose changes know of no moves.
fn fake(test: impl FnOnce(&mut Both<'_>)) {
    let home = tempfile::tempdir().unwrap();
    let pool = FakePool::open(home.path()).unwrap();
    test(&mut Both::new(&pool));
}

fn write(both: &Both<'_>, name: &str, content: &[u8]) {
    let at = both.at().join(name);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::fs::write(at, content).unwrap();
}

/// Stores the volume as it is, given changes made by hand in place of the pool's.
fn by_hand(both: &mut Both<'_>, changes: &Changes) -> Result<(), String> {
    both.round += 1;
    let new = stored(both.round);
    both.pool.snapshot(&live(), &new, Access::ReadOnly, &volume()).unwrap();
    let full = both.full.full(&both.pool.open(&new).unwrap());
    let old = both.old.take().unwrap();
    match both.incremental.changed(both.pool, &new, changes, &old) {
        Ok(tree) => {
            let found = differences((&both.incremental, &tree), (&both.full, &full));
            assert_eq!((tree.root, &tree.not_captured), (full.root, &full.not_captured), "{found}");
            both.old = Some(tree);
            Ok(())
        }
        Err(IncrementalError::NeedsFullStore { why }) => Err(why),
        Err(error) => panic!("{error:?}"),
    }
}

fn touched(path: &str, origin: Option<&str>, content: Reread) -> Touched {
    let origin = origin.map(|origin| origin.as_bytes().to_vec());
    Touched { path: path.as_bytes().to_vec(), origin, content }
}

fn moved(pairs: &[(&str, &str)], touched: Vec<Touched>) -> Changes {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Changes {
        gone: pairs.iter().map(|(old, _)| bytes(old)).collect(),
        moved: pairs
            .iter()
            .filter(|(_, new)| !new.is_empty())
            .map(|(old, new)| (bytes(old), bytes(new)))
            .collect(),
        touched,
        plain_bytes: 0,
    }
}

#[test]
fn nothing_changed_is_the_same_tree() {
    fake(|both| {
        write(both, "files/a", b"a");
        both.store();
        assert_eq!(by_hand(both, &Changes::default()), Ok(()));
    });
}

#[test]
fn what_a_fake_compares_is_stored_as_in_full() {
    fake(|both| {
        write(both, "files/a", &[1; 300_000]);
        write(both, "files/b/c", b"c");
        both.store();
        write(both, "files/a", &[2; 200_000]);
        std::fs::remove_dir_all(both.at().join("files/b")).unwrap();
        write(both, "files/b", b"a file now");
        write(both, "services/db/data", &[3; 40_000]);
        std::fs::hard_link(both.at().join("files/a"), both.at().join("services/db/a")).unwrap();
        assert_eq!(both.store(), None);
        std::fs::remove_file(both.at().join("files/a")).unwrap();
        assert_eq!(both.store(), None);
        std::fs::remove_dir_all(both.at().join("files")).unwrap();
        std::fs::remove_dir_all(both.at().join("services")).unwrap();
        assert_eq!(both.store(), None);
        assert_eq!(both.old.as_ref().unwrap().root.counts.entries, 0);
    });
}

#[test]
fn a_directory_that_moves_takes_its_chunk_lists_along_and_only_the_grid_is_read() {
    fake(|both| {
        write(both, "files/d/large", &[7; 9 << 20]);
        write(both, "files/d/x/small", b"x");
        std::fs::create_dir(both.at().join("services")).unwrap();
        both.store();
        let (from, to) = (both.at().join("files/d"), both.at().join("services/d"));
        std::fs::rename(&from, &to).unwrap();
        let parents = || {
            vec![
                touched("files", Some("files"), Reread::Same),
                touched("services", Some("services"), Reread::Same),
            ]
        };
        assert_eq!(by_hand(both, &moved(&[("files/d", "services/d")], parents())), Ok(()));
        std::fs::rename(&to, &from).unwrap();
        assert_eq!(by_hand(both, &moved(&[("services/d", "files/d")], parents())), Ok(()));
    });
}

#[test]
fn the_first_name_is_first_in_the_order_of_keys_when_a_directory_moves() {
    fake(|both| {
        write(both, "a/b/one", b"linked");
        write(both, "z", b"");
        std::fs::remove_file(both.at().join("z")).unwrap();
        std::fs::hard_link(both.at().join("a/b/one"), both.at().join("a/two")).unwrap();
        std::fs::create_dir(both.at().join("m")).unwrap();
        both.store();
        // As text a/b/one comes before a/two, as a key after it.
        let old = both.old.as_ref().unwrap();
        let chunks = both.incremental.chunks();
        let entry = tree::find_entry(&chunks, &old.root.digest, &path("a/b/one")).unwrap().unwrap();
        assert_eq!(entry.link, Some(path("a/two")));
        std::fs::rename(both.at().join("a"), both.at().join("m/a")).unwrap();
        std::fs::rename(both.at().join("m/a/b"), both.at().join("b")).unwrap();
        let tops = vec![
            touched("", Some(""), Reread::Same),
            touched("m", Some("m"), Reread::Same),
            touched("m/a", Some("a"), Reread::Same),
        ];
        assert_eq!(by_hand(both, &moved(&[("a", "m/a"), ("a/b", "b")], tops)), Ok(()));
    });
}

#[test]
fn changes_that_do_not_fit_the_old_tree_are_refused() {
    fn check(changes: &Changes, expect: &str) {
        fake(|both| {
            write(both, "files/a", b"a");
            write(both, "files/b", b"b");
            both.store();
            assert_eq!(by_hand(both, changes), Err(expect.to_owned()));
        });
    }
    let one = |touched| Changes { touched: vec![touched], ..Changes::default() };
    check(
        &one(touched("files/a", Some("files/x"), Reread::Same)),
        "files/x, of which files/a is made, was not stored",
    );
    check(&one(touched("files/x", None, Reread::Whole)), "files/x was touched and is not there");
    check(
        &one(touched("files/a", Some("files"), Reread::Same)),
        "files/a is of another kind than files was",
    );
    check(&one(touched("files", None, Reread::Same)), "files is not the directory that was stored");
    check(&moved(&[("files/x", "")], Vec::new()), "files/x is gone and was never stored");
    check(
        &moved(&[("files/a", "")], vec![touched("files", Some("files"), Reread::Same)]),
        "\"a\" in \"files\" is not accounted for",
    );
    check(
        &moved(&[("files/a", "files/b")], Vec::new()),
        "something moved to files/b, where something else is",
    );
    check(
        &Changes { moved: vec![(b"files/a".to_vec(), b"files/c".to_vec())], ..Changes::default() },
        "the list of what moved contradicts itself",
    );
}

#[test]
fn a_directory_moves_to_its_own_path_when_the_one_around_it_is_another() {
    fake(|both| {
        write(both, "a/x/f", b"f");
        write(both, "a/y", b"y");
        both.store();
        // What was around it goes, and something of the same name comes around it.
        std::fs::rename(both.at().join("a"), both.at().join("b")).unwrap();
        std::fs::create_dir(both.at().join("a")).unwrap();
        std::fs::rename(both.at().join("b/x"), both.at().join("a/x")).unwrap();
        let tops = vec![
            touched("", Some(""), Reread::Same),
            touched("a", None, Reread::Whole),
            touched("b", Some("a"), Reread::Same),
        ];
        assert_eq!(by_hand(both, &moved(&[("a", "b"), ("a/x", "a/x")], tops)), Ok(()));
    });
}

#[test]
fn a_path_knows_where_it_went_and_whence_it_came() {
    let changes = moved(&[("a", "b"), ("a/x", "y"), ("b", "a"), ("c", "")], Vec::new());
    let paths = Paths::of(&changes).ok().unwrap();
    let now = |old: &str| paths.now(old.as_bytes()).map(|new| String::from_utf8(new).unwrap());
    let before =
        |new: &str| paths.before(new.as_bytes()).map(|old| String::from_utf8(old).unwrap());
    assert_eq!(now("a/k").as_deref(), Some("b/k"));
    assert_eq!(now("a/x/k").as_deref(), Some("y/k"));
    assert_eq!(now("b/k").as_deref(), Some("a/k"));
    assert_eq!(now("c/k"), None);
    assert_eq!(now("ab").as_deref(), Some("ab"));
    assert_eq!(before("b/k").as_deref(), Some("a/k"));
    assert_eq!(before("b/x"), None);
    assert_eq!(before("y/k").as_deref(), Some("a/x/k"));
    assert_eq!(before("").as_deref(), Some(""));
}

#[test]
fn chunks_at_the_old_and_at_the_new_end_are_read_again() {
    let c = 128 << 10;
    let dirty = |ranges: &[(u64, u64)], old, new| {
        let ranges: Vec<Range<u64>> = ranges.iter().map(|(from, to)| *from..*to).collect();
        let dirty = dirty_chunks(Grid::Large, &ranges, old, new);
        dirty.into_iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
    };
    assert_eq!(dirty(&[], 3 * c, 3 * c), []);
    assert_eq!(dirty(&[], 3 * c, 2 * c), []);
    assert_eq!(dirty(&[], 3 * c, 2 * c + 1), [(2, 3)]);
    assert_eq!(dirty(&[], 3 * c, 3 * c + 1), [(3, 4)]);
    assert_eq!(dirty(&[], 3 * c - 1, 3 * c + 1), [(2, 4)]);
    assert_eq!(dirty(&[(0, 1), (c - 1, c + 1), (9 * c, 10 * c)], 3 * c, 3 * c), [(0, 2)]);
    assert_eq!(dirty(&[(5 * c, u64::MAX)], 7 * c, 7 * c), [(5, 7)]);
    // Group by group and to beyond the end.
    assert_eq!(dirty(&[(0, c)], c, 0), []);
}

#[test]
fn of_a_file_only_what_is_said_to_differ_is_read() {
    fake(|both| {
        let chunk = 128 << 10;
        write(both, "files/large", &vec![7; 70 * chunk]);
        both.store();
        let file =
            std::fs::OpenOptions::new().write(true).open(both.at().join("files/large")).unwrap();
        for number in [3, 5, 66] {
            file.write_all_at(b"changed", (number * chunk) as u64).unwrap();
        }
        both.pool.snapshot(&live(), &stored(2), Access::ReadOnly, &volume()).unwrap();
        let told = |number: u64| number * chunk as u64 + 1..number * chunk as u64 + 2;
        let ranges = Reread::Ranges(vec![told(3), told(66)]);
        let changes = moved(&[], vec![touched("files/large", Some("files/large"), ranges)]);
        let old = both.old.take().unwrap();
        let tree = both.incremental.changed(both.pool, &stored(2), &changes, &old).unwrap();
        let chunks = both.incremental.chunks();
        let at = path("files/large");
        let digests = |root: &Digest| -> Vec<Option<Digest>> {
            let entry = tree::find_entry(&chunks, root, &at).unwrap().unwrap();
            let size = entry.size().unwrap();
            let pieces = tree::chunks_of(&chunks, root, &at, &entry, 0..size).unwrap();
            pieces.iter().map(|piece| piece.digest).collect()
        };
        let (before, after) = (digests(&old.root.digest), digests(&tree.root.digest));
        let other: Vec<usize> = (0..70).filter(|n| before[*n] != after[*n]).collect();
        assert_eq!(other, [3, 66]);
    });
}
