//! A volume that is edited at random and stored both ways, as changes and in full.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use cove_btrfs::{Access, BtrfsPool, LoopPool, Pool, SubvolumePath};
use cove_env::Env;
use cove_objects::MemoryStore;
use cove_testkit::proof::Chance;
use cove_types::{FileTime, OperationId, VolumeId};
use rustix::fs::{CWD, FallocateFlags, FileType, IFlags, Mode, RenameFlags};

use super::super::*;
use crate::chunks::PackCache;
use crate::locations::{Locations, PackRef};
use crate::remote::Remote;
use crate::store::store_tree;

pub(super) fn volume() -> VolumeId {
    "v".parse().unwrap()
}

pub(super) fn live() -> SubvolumePath {
    SubvolumePath::Volume(volume())
}

pub(super) fn stored(n: u64) -> SubvolumePath {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    SubvolumePath::Stored(volume(), OperationId(id))
}

pub(super) fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// A store of one volume in memory.
pub(super) struct MemoryContent {
    pub(super) env: Env,
    pub(super) _runtime: tokio::runtime::Runtime,
    pub(super) remote: Remote,
    pub(super) cache: Arc<PackCache>,
    pub(super) packs: Vec<PackRef>,
}

impl MemoryContent {
    pub(super) fn new() -> Self {
        let env = Env::system();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Arc::new(MemoryStore::new(env.clone()));
        let remote = Remote::new(store, runtime.handle().clone(), "t".parse().unwrap());
        let cache = Arc::new(PackCache::new(None));
        Self { env, _runtime: runtime, remote, cache, packs: Vec::new() }
    }

    pub(super) fn chunks(&self) -> Chunks {
        let locations = Locations { indexes: Vec::new(), packs: self.packs.clone() };
        Chunks::new(self.remote.clone(), Arc::clone(&self.cache), locations)
    }

    pub(super) fn store<E>(
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

    pub(super) fn full(&mut self, dir: &Dir) -> StoredTree {
        let stored = self.store(|_, session| store_tree(dir, session, &Progress::default()));
        in_order(stored.unwrap())
    }

    pub(super) fn changed(
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
    pub(super) fn holds(&self, tree: &StoredTree) -> bool {
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
pub(super) fn in_order(mut stored: StoredTree) -> StoredTree {
    stored.not_captured.sort_unstable();
    stored.not_captured.dedup();
    stored
}

/// What two trees differ in, to be read by a person.
pub(super) fn differences(
    a: (&MemoryContent, &StoredTree),
    b: (&MemoryContent, &StoredTree),
) -> String {
    let items = |(content, stored): (&MemoryContent, &StoredTree)| {
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
pub(super) fn shown(changes: &Result<Changes, cove_btrfs::ChangesError>) -> String {
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
pub(super) struct Both<'p> {
    pub(super) pool: &'p dyn Pool,
    /// By which the changes are also taken in the other way.
    pub(super) search: Option<&'p BtrfsPool>,
    pub(super) incremental: MemoryContent,
    pub(super) full: MemoryContent,
    pub(super) old: Option<StoredTree>,
    /// The round in which `old` was stored.
    pub(super) base: u64,
    pub(super) round: u64,
    /// Older rounds whose snapshots are still there.
    pub(super) kept: Vec<(u64, StoredTree)>,
}

/// How many older snapshots are kept, to be restored.
pub(super) const KEPT: usize = 3;

impl<'p> Both<'p> {
    pub(super) fn new(pool: &'p dyn Pool) -> Self {
        pool.create(&live(), &volume()).unwrap();
        Self {
            pool,
            search: None,
            incremental: MemoryContent::new(),
            full: MemoryContent::new(),
            old: None,
            base: 0,
            round: 0,
            kept: Vec::new(),
        }
    }

    /// As [`new`](Self::new), with changes by search too.
    pub(super) fn searched(pool: &'p LoopPool) -> Self {
        Self { search: Some(pool.inner()), ..Self::new(pool) }
    }

    /// Makes an older snapshot the live one; what is stored next is compared with it, or with
    /// what was stored last, which has nothing to do with it then.
    pub(super) fn restore(&mut self, seeded: &mut Seeded) {
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

    pub(super) fn at(&self) -> PathBuf {
        self.pool.absolute(&live())
    }

    /// Takes a snapshot and stores it; why incrementally it was refused, if it was.
    pub(super) fn store(&mut self) -> Option<String> {
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
    pub(super) fn incrementally(
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
pub(super) struct Seeded(pub(super) Chance);

impl Seeded {
    pub(super) fn next(&mut self, below: u64) -> u64 {
        self.0.below(below)
    }

    pub(super) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.next(all.len() as u64) as usize]
    }

    pub(super) fn bytes(&mut self, count: u64) -> Vec<u8> {
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
    pub(super) fn offset(&mut self) -> u64 {
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

pub(super) fn walk(top: &Path) -> Vec<PathBuf> {
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
pub(super) static STARTING: RwLock<()> = RwLock::new(());

#[expect(clippy::disallowed_methods, reason = "a user makes and copies by programs")]
pub(super) fn run(program: &str, arguments: &[&str], paths: &[&Path]) {
    let _starting = STARTING.write();
    drop(std::process::Command::new(program).args(arguments).args(paths).output());
}

/// One random edit; what cannot be done is not.
pub(super) fn edit(dir: &Dir, top: &Path, seeded: &mut Seeded) -> Option<()> {
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
            if all.is_empty() {
                return None;
            }
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
pub(super) fn clone_range(
    source: &File,
    target: &File,
    from: u64,
    count: u64,
    to: u64,
) -> Option<()> {
    let (mut from, mut to) = (from, to);
    let count = usize::try_from(count).ok()?;
    rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), count).ok()?;
    Some(())
}
