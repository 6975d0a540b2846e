//! Whole trees: built, edited, read and compared against a plain map.

mod building;
mod checking;
mod comparing;
mod editing;
mod golden;
mod random;
mod reading;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;
use cove_types::{Classify, Digest, ErrorKind, FileTime, TreePath};

use super::*;

type Map = BTreeMap<Key, Bytes>;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn time(seconds: i64) -> FileTime {
    FileTime { seconds, nanoseconds: 5 }
}

fn digest(seed: u64) -> Digest {
    Digest::of(&seed.to_le_bytes())
}

fn directory() -> Entry {
    Entry::new(Content::Directory, 0o755, time(1))
}

/// A file of `size` bytes and its digests, which `seed` decides.
fn file(size: u64, seed: u64) -> (Entry, Vec<Digest>) {
    let grid = Grid::Large;
    let digests = (0..grid.chunks(size)).map(|index| digest(seed * 1_000_003 + index)).collect();
    (Entry::new(Content::File { size, grid, chunk: None }, 0o644, time(2)), digests)
}

fn put_file(edits: &mut Edits, at: &str, size: u64, seed: u64) {
    let (entry, digests) = file(size, seed);
    edits.put_file(&path(at), &entry, &digests).unwrap();
}

fn build(map: &Map, nodes: &mut MemoryNodes) -> Root {
    let mut builder = Builder::new(nodes);
    for (key, value) in map {
        builder.push(Item { key: key.clone(), value: value.clone() }).unwrap();
    }
    builder.finish().unwrap()
}

fn tree(edits: Edits, nodes: &mut MemoryNodes) -> Root {
    let old = nodes.clone();
    edits.apply(&old, None, nodes).unwrap()
}

fn items(nodes: &MemoryNodes, root: &Root) -> Map {
    let all = range(nodes, &root.digest, Key::all());
    all.map(|item| item.map(|item| (item.key, item.value)).unwrap()).collect()
}

/// A map of `directories` directories with `files` small files each.
fn large_map(directories: u64, files: u64) -> Map {
    map_of(directories, files, "")
}

/// What makes keys long, so that a tree of few items is tall.
const LONG: &str = "-a-name-that-is-so-long-that-inner-nodes-have-few-children-and-more-of-them-are-\
                    needed-which-gives-a-tree-of-three-levels-from-some-ten-thousand-items-on";

/// The same with long names of the directories.
fn tall_map(directories: u64, files: u64) -> Map {
    map_of(directories, files, LONG)
}

fn map_of(directories: u64, files: u64, more: &str) -> Map {
    let mut map = Map::new();
    let mut put = |item: Item| map.insert(item.key, item.value);
    for d in 0..directories {
        let at = path(&format!("dir-{d}{more}"));
        put(Item { key: Key::entry(&at), value: directory().encode().unwrap() });
        for f in 0..files {
            let at = at.join(format!("file-{f}.txt").as_bytes()).unwrap();
            let (entry, digests) = file(100 + f, d * files + f);
            file_items(&at, &entry, &digests).unwrap().into_iter().for_each(|item| {
                put(item);
            });
        }
    }
    map
}

/// A source that counts what is read from it.
struct Counted<'a> {
    nodes: &'a MemoryNodes,
    read: Cell<usize>,
}

impl<'a> Counted<'a> {
    fn new(nodes: &'a MemoryNodes) -> Self {
        Self { nodes, read: Cell::new(0) }
    }
}

impl Nodes for Counted<'_> {
    fn node(&self, digest: &Digest) -> Result<Bytes, ReadError> {
        self.read.set(self.read.get() + 1);
        self.nodes.node(digest)
    }
}

/// A small tree of every kind of value.
fn a_bit_of_everything() -> Edits {
    let mut edits = Edits::new();
    let mut put = |at: &str, entry: &Entry, digests: &[Digest]| {
        edits.put_file(&path(at), entry, digests).unwrap();
    };
    let at = |content: Content, mode: u16| {
        Entry::new(content, mode, FileTime { seconds: 1_700_000_000, nanoseconds: 1 })
    };
    let of = |size: u64, grid: Grid| at(Content::File { size, grid, chunk: None }, 0o644);
    put("src", &at(Content::Directory, 0o755), &[]);
    put("src/empty", &of(0, Grid::Large), &[]);
    put("src/main.rs", &of(300, Grid::Large), &[digest(1)]);
    put("src/zeros", &of(300, Grid::Large), &[Digest::HOLE]);
    put("services", &at(Content::Directory, 0o1777), &[]);
    let mut pages = vec![Digest::HOLE; 66];
    pages[0] = digest(2);
    pages[65] = digest(3);
    put("services/db", &of((65 << 14) + 100, Grid::Small), &pages);
    put("link", &at(Content::Symlink(b"src/main.rs".to_vec()), 0o777), &[]);
    put("fifo", &at(Content::Fifo, 0o600), &[]);
    put("socket", &at(Content::Socket, 0o600), &[]);
    let mut owned = of(2, Grid::Large);
    (owned.uid, owned.gid) = (0, 5);
    let list = XattrList::new(vec![(b"user.note".to_vec(), b"hello".to_vec())]).unwrap();
    owned.xattrs = Xattrs::Inline(list);
    owned.link = Some(path("one"));
    put("one", &owned, &[digest(4)]);
    put("src/other", &owned, &[digest(4)]);
    let mut xattrs = of(0, Grid::Large);
    xattrs.xattrs = Xattrs::Chunk(digest(5));
    put("xattrs", &xattrs, &[]);
    let mut newer = of(0, Grid::Large);
    newer.unknown = vec![(128, b"newer".to_vec())];
    put("newer", &newer, &[]);
    edits
}
