//! Random edits: the old listing and the changes give the new listing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use cove_types::{FileTime, OperationId, TreePath};
use rustix::fs::FallocateFlags;

use super::Live;
use crate::contract::{live, volume};
use crate::fake::walk;
use crate::{Access, Changes, Content, Dir, FileKind, Pool, SubvolumePath};

/// Numbers that a seed decides (xorshift64*).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }

    /// A path of few names, so that edits meet.
    fn path(&mut self) -> TreePath {
        let depth = 1 + self.next(3);
        let names = [&b"a"[..], b"b", b"c", b"d\xff", b"o257-7-0"];
        (0..depth).fold(TreePath::top(), |path, _| path.join(names[self.next(5) as usize]).unwrap())
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = self.next(most);
        let kind = self.next(3);
        (0..len).map(|n| if kind == 0 { self.next(256) as u8 } else { (n / 100) as u8 }).collect()
    }
}

/// One edit; what cannot be done is not.
fn edit(dir: &Dir, seeded: &mut Seeded) -> Option<()> {
    let path = match seeded.next(3) {
        0 => seeded.path(),
        // Something that is there.
        _ => {
            let entries = walk(dir).unwrap();
            let entry = &entries[seeded.next(entries.len() as u64) as usize];
            let path = entry.0.clone();
            if path.is_top() { seeded.path() } else { path }
        }
    };
    match seeded.next(16) {
        0 | 1 => dir.create_dirs(&path, 0o755).map(drop).ok(),
        2 | 3 => {
            let most = if seeded.next(2) == 0 { 3000 } else { 400_000 };
            let bytes = seeded.bytes(most);
            dir.create_file(&path, 0o644).ok()?.write_all(&bytes).ok()
        }
        4 | 5 => {
            let file = dir.open_file_writable(&path).ok()?;
            let (offset, bytes) = (seeded.next(500_000), seeded.bytes(50_000));
            file.write_all_at(&bytes, offset).ok()
        }
        6 => dir.open_file_writable(&path).ok()?.set_len(seeded.next(600_000)).ok(),
        7 => {
            let file = dir.open_file_writable(&path).ok()?;
            let (offset, length) = (seeded.next(300_000), 1 + seeded.next(200_000));
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, flags, offset, length).ok()
        }
        8 | 9 => dir.rename(&path, &seeded.path()).ok(),
        10 => dir.hard_link(&path, &seeded.path()).ok(),
        11 => {
            dir.remove(&path, true).ok()?;
            match seeded.next(4) {
                0 => dir.symlink(&path, b"target").ok(),
                1 => dir.mkfifo(&path, 0o600).ok(),
                2 => dir.create_dir(&path, 0o700).ok(),
                _ => dir.create_file(&path, 0o600).map(drop).ok(),
            }
        }
        12 => dir.remove(&path, seeded.next(3) == 0).map(drop).ok(),
        13 => dir.set_mode(&path, 0o600 + seeded.next(0o100) as u32).ok(),
        14 => dir.set_xattr(&path, b"user.n", &seeded.bytes(100)).ok(),
        _ => {
            let from = dir.open_file(&path).ok()?;
            let to = dir.open_file_writable(&seeded.path()).ok()?;
            rustix::fs::ioctl_ficlone(&to, &from).ok()
        }
    }
}

/// All that a tree keeps of an entry.
#[derive(Clone, PartialEq, Eq)]
struct Entry {
    kind: FileKind,
    owner: (u32, u32, u32),
    mtime: FileTime,
    links: u64,
    xattr: Option<Vec<u8>>,
    content: Vec<u8>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = cove_types::Digest::of(&self.content);
        let (kind, len) = (self.kind, self.content.len());
        write!(
            f,
            "{kind:?} {:?} {} links {} {len} bytes {digest:?}",
            self.owner, self.mtime, self.links
        )
    }
}

type Listing = BTreeMap<Vec<u8>, Entry>;

fn entry(dir: &Dir, path: &TreePath) -> Entry {
    let metadata = dir.metadata(path).unwrap();
    let mut content = Vec::new();
    match metadata.kind {
        FileKind::File => {
            dir.open_file(path).unwrap().read_to_end(&mut content).unwrap();
        }
        FileKind::Symlink => content = dir.read_link(path).unwrap(),
        _ => {}
    }
    Entry {
        kind: metadata.kind,
        owner: (metadata.mode, metadata.uid, metadata.gid),
        mtime: metadata.mtime,
        links: if metadata.kind == FileKind::Directory { 1 } else { metadata.links },
        xattr: dir.find_xattr(path, b"user.n").unwrap(),
        content,
    }
}

fn listing(dir: &Dir) -> Listing {
    let entries = walk(dir).unwrap();
    entries.iter().map(|(path, _)| (path.as_bytes().to_vec(), entry(dir, path))).collect()
}

/// The new listing, as a reader of [`Changes`] makes it.
fn apply(old: &Listing, changes: &Changes, new: &Dir) -> Listing {
    let gone: BTreeSet<&[u8]> = changes.gone.iter().map(Vec::as_slice).collect();
    let moved: BTreeMap<&[u8], &[u8]> =
        changes.moved.iter().map(|(from, to)| (from.as_slice(), to.as_slice())).collect();
    let mut listing = Listing::new();
    for (path, entry) in old {
        let ends = (0..=path.len()).rev().filter(|end| *end == path.len() || path[*end] == b'/');
        let prefix = ends.map(|end| &path[..end]).find(|prefix| gone.contains(prefix));
        let place = match prefix {
            None => path.clone(),
            Some(prefix) => match moved.get(prefix) {
                Some(to) => [to, &path[prefix.len()..]].concat(),
                None => continue,
            },
        };
        listing.insert(place, entry.clone());
    }
    for touched in &changes.touched {
        let path = TreePath::from_bytes(&touched.path).unwrap();
        let mut now = entry(new, &path);
        let size = now.content.len();
        if let (Some(origin), FileKind::File) = (&touched.origin, now.kind) {
            let mut content = old[origin].content.clone();
            content.resize(size, 0);
            match &touched.content {
                Content::Same => now.content = content,
                Content::Ranges(ranges) => {
                    for range in ranges {
                        let end = (range.end as usize).min(size);
                        let range = (range.start as usize).min(end)..end;
                        content[range.clone()].copy_from_slice(&now.content[range]);
                    }
                    now.content = content;
                }
                Content::Whole => {}
            }
        }
        listing.insert(touched.path.clone(), now);
    }
    listing
}

#[test]
fn the_old_listing_and_the_changes_give_the_new_listing() {
    let Some(test) = Live::new() else { return };
    let pool = test.pool();
    let v = volume("v");
    pool.create(&live("v"), &v).unwrap();
    let dir = pool.open(&live("v")).unwrap();
    let stored =
        |n: u64| SubvolumePath::Stored(volume("v"), OperationId(u128::from(n).to_be_bytes()));
    pool.snapshot(&live("v"), &stored(0), Access::ReadOnly, &v).unwrap();
    let mut old = listing(&pool.open(&stored(0)).unwrap());
    for round in 1..=ROUNDS {
        let mut seeded = Seeded(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..=seeded.next(24) {
            edit(&dir, &mut seeded);
        }
        pool.snapshot(&live("v"), &stored(round), Access::ReadOnly, &v).unwrap();
        let changes = pool.changes(&stored(round - 1), &stored(round)).unwrap();
        let searched = pool.inner().changes_by_search(&stored(round - 1), &stored(round)).unwrap();
        let snapshot = pool.open(&stored(round)).unwrap();
        let new = listing(&snapshot);
        for changes in [&changes, &searched] {
            let made = apply(&old, changes, &snapshot);
            check(round, &made, &new, changes);
        }
        pool.delete(&stored(round - 1)).unwrap();
        old = new;
    }
}

#[test]
fn the_listing_of_a_fork_and_the_changes_give_the_listing_of_another() {
    let Some(test) = Live::new() else { return };
    let pool = test.pool();
    let v = volume("v");
    pool.create(&live("origin"), &v).unwrap();
    let stored =
        |n: u64| SubvolumePath::Stored(volume("v"), OperationId(u128::from(n).to_be_bytes()));
    for round in 1..=ROUNDS / 3 {
        let mut seeded = Seeded(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let origin = pool.open(&live("origin")).unwrap();
        for _ in 0..=seeded.next(24) {
            edit(&origin, &mut seeded);
        }
        // The inode numbers that both give to new things are the same.
        for (n, name) in [(2 * round, "a"), (2 * round + 1, "b")] {
            match name == "b" && round.is_multiple_of(5) {
                // Nothing in common at all.
                true => pool.create(&live(name), &v).unwrap(),
                false => {
                    pool.snapshot(&live("origin"), &live(name), Access::ReadWrite, &v).unwrap();
                }
            }
            let dir = pool.open(&live(name)).unwrap();
            for _ in 0..=seeded.next(24) {
                edit(&dir, &mut seeded);
            }
            pool.snapshot(&live(name), &stored(n), Access::ReadOnly, &v).unwrap();
            pool.delete(&live(name)).unwrap();
        }
        let (a, b) = (stored(2 * round), stored(2 * round + 1));
        let changes = pool.changes(&a, &b).unwrap();
        let (old, snapshot) = (listing(&pool.open(&a).unwrap()), pool.open(&b).unwrap());
        check(round, &apply(&old, &changes, &snapshot), &listing(&snapshot), &changes);
        pool.delete(&a).unwrap();
        pool.delete(&b).unwrap();
    }
}

/// Whether a listing that was made is the one that is.
fn check(round: u64, made: &Listing, new: &Listing, changes: &Changes) {
    if made != new {
        let paths: BTreeSet<_> = made.keys().chain(new.keys()).collect();
        for path in paths.into_iter().filter(|path| made.get(*path) != new.get(*path)) {
            let shown = cove_types::escape_bytes(path);
            eprintln!("{shown}: made {:?}\n  is   {:?}", made.get(path), new.get(path));
        }
        panic!("round {round}: {changes:#?}");
    }
}

/// How often the tree is edited and compared.
const ROUNDS: u64 = 150;
