//! Storing what changed: the tree of a snapshot out of that of its ancestor.
//!
//! The tree is the one that [`store_tree`](crate::store::store_tree) makes of the same
//! snapshot, at a cost that follows the change: subtrees that went are deleted from the old
//! tree, those that moved are copied below their new keys, and only what was touched is read,
//! of a file's content only the chunks in which something differs.
//!
//! **Invariant:** what cannot be applied with certainty is refused
//! ([`IncrementalError::NeedsFullStore`]) and never guessed. Whatever may be checked without
//! reading what did not change is checked: that the old tree has what the changes speak of,
//! and that a touched directory has the names in it that the new tree will have.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;

use bytes::Bytes;
use cove_btrfs::{Changes, Content as Reread, Dir, FileKind, Metadata, PathError, PoolError};
use cove_types::{Classify, Digest, ErrorKind, ParseError, TreePath, escape_bytes, unescape_text};
use rustix::fs::{FileType, Mode, OFlags};

use crate::chunk::{self, GRID_BYTES};
use crate::chunks::Chunks;
use crate::root::NotCapturedPath;
use crate::session::Session;
use crate::store::{
    NESTED_SUBVOLUME_INODE, SET_ID_BITS, SharedSink, StoreError, StoredTree, describe, grid_of,
    lack, read_chunk, read_entry, read_groups,
};
use crate::tree::{
    self, ChunkList, Content, Edits, Entry, GROUP_CHUNKS, Grid, Item, Key, Nodes, ReadError, Value,
};
use crate::volumes::Progress;

/// Up to how many names of a touched directory are compared with those of the new tree. More
/// would read nodes of the old tree that the change itself does not.
const COMPARED_NAMES_MAX: usize = 256;
/// How many nodes of the old tree are kept in memory, of up to 64 KiB and mostly 16 KiB.
const KEPT_NODES_MAX: usize = 2048;

/// What is stored of the ancestor.
#[derive(Debug, Clone, Copy)]
pub struct OldTree<'a> {
    /// The digest of its tree.
    pub root: &'a Digest,
    /// All that the tree does not hold of it, not only what its root lists.
    pub not_captured: &'a [NotCapturedPath],
}

/// Stores in `session` what is below `dir`, the top of a read-only snapshot, given how it
/// differs from the snapshot of which `old` is stored.
///
/// `names_of_inode` gives all names of an inode of the new snapshot, and `known` reads what
/// the volume has, the old tree among it. The paths that are not captured come sorted, none
/// twice. Costs memory for the entries of subtrees that moved. May be interrupted anywhere:
/// nothing names what was put.
///
/// # Errors
///
/// [`IncrementalError`]. After `NeedsFullStore` the caller stores in full, in the same session
/// if it likes: what was put already is dropped as known.
pub fn store_changes(
    changes: &Changes,
    dir: &Dir,
    names_of_inode: &dyn Fn(u64) -> Result<Vec<Vec<u8>>, PoolError>,
    known: &Chunks,
    old: OldTree<'_>,
    session: &mut Session<'_>,
    progress: &Progress,
) -> Result<StoredTree, IncrementalError> {
    let session = RefCell::new(session);
    let mut change = Change {
        dir,
        names_of_inode,
        nodes: Kept { chunks: known, nodes: RefCell::default() },
        root: *old.root,
        paths: Paths::of(changes)?,
        session: &session,
        progress,
        edits: Edits::new(),
        rows: BTreeSet::new(),
        plans: BTreeMap::new(),
        directories: BTreeSet::new(),
        names: BTreeMap::new(),
    };
    let old_rows = change.rows_of(old.not_captured)?;
    change.subtrees(&old_rows)?;
    change.touched(changes)?;
    change.carry_rows(&old_rows)?;
    for (inode, plan) in std::mem::take(&mut change.plans) {
        change.file(inode, &plan)?;
    }
    for path in std::mem::take(&mut change.directories) {
        change.look_again(&path)?;
    }
    let Change { edits, nodes, rows, .. } = change;
    let root =
        edits.apply(&nodes, Some(old.root), SharedSink(&session)).map_err(StoreError::from)?;
    if root.counts.entries == 0 {
        session.borrow_mut().put_meta(root.digest, tree::EMPTY_NODE).map_err(StoreError::from)?;
    }
    let not_captured = rows
        .into_iter()
        .map(|(path, what)| NotCapturedPath { path: escape_bytes(&path), what: what.to_owned() });
    let mut not_captured: Vec<NotCapturedPath> = not_captured.collect();
    not_captured.sort_unstable();
    Ok(StoredTree { root, not_captured })
}

/// Refuses to go on.
fn full<T>(why: impl Into<String>) -> Result<T, IncrementalError> {
    Err(IncrementalError::NeedsFullStore { why: why.into() })
}

/// The prefixes of a path that are whole names, longest first: itself, its parent, and so on,
/// without the top.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path).filter(|path| !path.is_empty()), |path| {
        path.iter().rposition(|b| *b == b'/').map(|end| &path[..end])
    })
}

/// The longest prefix of a path that a tree can hold, when not all of it is.
fn cut(path: &[u8]) -> TreePath {
    prefixes(path).find_map(|prefix| TreePath::from_bytes(prefix).ok()).unwrap_or_default()
}

fn is_of_service(path: &TreePath) -> bool {
    chunk::grid_for(path, 0, b"") == Grid::Small
}

/// Where old paths are now.
struct Paths {
    gone: BTreeSet<Vec<u8>>,
    moved: BTreeMap<Vec<u8>, Vec<u8>>,
    moved_back: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Paths {
    fn of(changes: &Changes) -> Result<Self, IncrementalError> {
        let gone: BTreeSet<Vec<u8>> = changes.gone.iter().cloned().collect();
        let moved: BTreeMap<Vec<u8>, Vec<u8>> = changes.moved.iter().cloned().collect();
        let moved_back: BTreeMap<Vec<u8>, Vec<u8>> =
            moved.iter().map(|(old, new)| (new.clone(), old.clone())).collect();
        let is_whole = moved.len() == changes.moved.len()
            && moved_back.len() == changes.moved.len()
            && moved.keys().all(|old| gone.contains(old))
            && !gone.contains(&[][..])
            && !moved_back.contains_key(&[][..]);
        match is_whole {
            true => Ok(Self { gone, moved, moved_back }),
            false => full("the list of what moved contradicts itself"),
        }
    }

    /// Where what was at `old` is now; `None` when it is nowhere.
    fn now(&self, old: &[u8]) -> Option<Vec<u8>> {
        match prefixes(old).find(|prefix| self.gone.contains(*prefix)) {
            None => Some(old.to_vec()),
            Some(prefix) => {
                let new = self.moved.get(prefix)?;
                Some([new.as_slice(), &old[prefix.len()..]].concat())
            }
        }
    }

    /// Where what is at `new` would have been, whether the old tree had it or not.
    fn before(&self, new: &[u8]) -> Option<Vec<u8>> {
        prefixes(new)
            .filter_map(|prefix| {
                let old = self.moved_back.get(prefix)?;
                Some([old.as_slice(), &new[prefix.len()..]].concat())
            })
            .chain([new.to_vec()])
            .find(|old| self.now(old).as_deref() == Some(new))
    }
}

/// The old tree's nodes, each read and checked once.
struct Kept<'k> {
    chunks: &'k Chunks,
    nodes: RefCell<HashMap<Digest, Bytes>>,
}

impl Nodes for Kept<'_> {
    fn node(&self, digest: &Digest) -> Result<Bytes, ReadError> {
        if let Some(bytes) = self.nodes.borrow().get(digest) {
            return Ok(bytes.clone());
        }
        let bytes = self.chunks.node(digest)?;
        let mut nodes = self.nodes.borrow_mut();
        if nodes.len() >= KEPT_NODES_MAX {
            nodes.clear();
        }
        nodes.insert(*digest, bytes.clone());
        Ok(bytes)
    }

    fn prefetch(&self, digests: &[Digest]) {
        let nodes = self.nodes.borrow();
        let missing: Vec<Digest> =
            digests.iter().filter(|digest| !nodes.contains_key(*digest)).copied().collect();
        self.chunks.prefetch(&missing);
    }
}

/// An inode, not a directory's, that is described again under all its names.
struct Plan {
    /// One of its names.
    name: TreePath,
    metadata: Metadata,
    /// Where it was; `None` when all of it is read.
    origin: Option<TreePath>,
    reread: Reread,
}

/// A file's content, told by what differs from its origin's.
struct Patch {
    content: Content,
    /// Whether nothing is kept.
    is_whole: bool,
    /// Chunk lists that are no more, by the offsets of their groups.
    cleared: Vec<Range<u64>>,
    /// Chunk lists that are new or other.
    lists: Vec<(u64, ChunkList)>,
}

impl Patch {
    fn whole(content: Content, lists: Vec<(u64, ChunkList)>) -> Self {
        Self { content, is_whole: true, cleared: Vec::new(), lists }
    }
}

/// Paths that are not captured, raw, and why.
type Rows = BTreeSet<(Vec<u8>, &'static str)>;

struct Change<'c, 'r, 's, 'k> {
    dir: &'c Dir,
    names_of_inode: &'c dyn Fn(u64) -> Result<Vec<Vec<u8>>, PoolError>,
    nodes: Kept<'c>,
    root: Digest,
    paths: Paths,
    session: &'r RefCell<&'s mut Session<'k>>,
    progress: &'c Progress,
    edits: Edits,
    rows: Rows,
    plans: BTreeMap<u64, Plan>,
    /// Those that are looked into for names that send does not tell of.
    directories: BTreeSet<TreePath>,
    /// What was put, by directory.
    names: BTreeMap<TreePath, BTreeSet<Vec<u8>>>,
}

impl Change<'_, '_, '_, '_> {
    fn old_entry(&self, path: &[u8]) -> Result<Option<Entry>, IncrementalError> {
        match TreePath::from_bytes(path) {
            Ok(path) => Ok(tree::find_entry(&self.nodes, &self.root, &path)?),
            Err(_) => Ok(None),
        }
    }

    /// What the old tree had that is at `path` now, where nothing was touched; and where.
    fn holder(&self, path: &TreePath) -> Result<Option<(TreePath, Entry)>, IncrementalError> {
        let Some(old) = self.paths.before(path.as_bytes()) else { return Ok(None) };
        let Ok(old) = TreePath::from_bytes(&old) else { return Ok(None) };
        let entry = tree::find_entry(&self.nodes, &self.root, &old)?;
        Ok(entry.map(|entry| (old, entry)))
    }

    fn rows_of(&self, paths: &[NotCapturedPath]) -> Result<Rows, IncrementalError> {
        let mut rows = Rows::new();
        for NotCapturedPath { path, what } in paths {
            let known = [lack::DEVICE, lack::NESTED, lack::SET_ID, lack::LONG];
            let Some(what) = known.into_iter().find(|known| known == what) else {
                return full(format!("what was not captured of {path} is unknown: {what}"));
            };
            rows.insert((unescape_text(path)?, what));
        }
        Ok(rows)
    }

    /// The path, when a tree can hold it; else it is listed.
    fn lawful(&mut self, path: &[u8]) -> Option<TreePath> {
        let lawful = TreePath::from_bytes(path).ok();
        if lawful.is_none() {
            self.rows.insert((cut(path).as_bytes().to_vec(), lack::LONG));
        }
        lawful
    }

    fn put(&mut self, path: &TreePath, entry: &Entry) -> Result<(), IncrementalError> {
        self.edits.put_entry(path, entry)?;
        self.has(path);
        Ok(())
    }

    fn has(&mut self, path: &TreePath) {
        let name = path.name().unwrap_or_default().to_vec();
        self.names.entry(path.parent().unwrap_or_default()).or_default().insert(name);
    }

    /// Deletes what went and copies what moved.
    fn subtrees(&mut self, old_rows: &Rows) -> Result<(), IncrementalError> {
        let mut tops = Vec::new();
        for gone in &self.paths.gone {
            let Ok(path) = TreePath::from_bytes(gone) else {
                if self.paths.moved.contains_key(gone) {
                    return full("something moved that was not captured");
                }
                self.directories.insert(cut(gone));
                continue;
            };
            let is_listed = || {
                let absent = [lack::DEVICE, lack::NESTED];
                absent.iter().any(|what| old_rows.contains(&(gone.clone(), *what)))
            };
            if self.old_entry(gone)?.is_none() && !is_listed() {
                return full(format!("{path} is gone and was never stored"));
            }
            if prefixes(gone).skip(1).all(|above| !self.paths.gone.contains(above)) {
                tops.push(path);
            }
        }
        // The directory of a name too long may have moved or gone itself; then it is found as
        // a touched one.
        self.directories
            .retain(|path| self.paths.now(path.as_bytes()).as_deref() == Some(path.as_bytes()));
        for top in &tops {
            self.edits.delete_all(top);
        }
        let new: Vec<Vec<u8>> = self.paths.moved.values().cloned().collect();
        for new in new {
            let stays = self.paths.now(&new).as_ref() == Some(&new);
            if stays && self.old_entry(&new)?.is_some() {
                let path = escape_bytes(&new);
                return full(format!("something moved to {path}, where something else is"));
            }
        }
        for top in &tops {
            self.subtree(Key::file_range(top))?;
            self.subtree(Key::subtree_range(top))?;
        }
        Ok(())
    }

    /// Goes over the items of what went or moved.
    fn subtree(&mut self, range: Range<Key>) -> Result<(), IncrementalError> {
        let root = self.root;
        let mut again: Vec<Vec<u8>> = Vec::new();
        let mut copies: Vec<Item> = Vec::new();
        let mut present: Vec<TreePath> = Vec::new();
        let mut long: Vec<TreePath> = Vec::new();
        let mut cursor = tree::range(&self.nodes, &root, range);
        while let Some(item) = cursor.next() {
            let item = item?;
            let (parts, value) =
                item.decode().map_err(|why| ReadError::Corrupt { digest: root, why })?;
            let now = self.paths.now(parts.path.as_bytes());
            let lawful = now.as_deref().and_then(|now| TreePath::from_bytes(now).ok());
            if let Value::Entry(entry) = &value {
                if let Some(link) = &entry.link {
                    if now.is_some() && lawful.is_none() {
                        return full(format!("{}, a hard link, moved too deep", parts.path));
                    }
                    again.extend(now.clone());
                    again.extend(self.paths.now(link.as_bytes()));
                }
                let is_file = matches!(entry.content, Content::File { .. });
                match &lawful {
                    Some(lawful)
                        if is_file && is_of_service(lawful) != is_of_service(&parts.path) =>
                    {
                        again.extend(now.clone());
                    }
                    _ => {}
                }
                let is_top = self.paths.moved.contains_key(parts.path.as_bytes());
                present.extend(lawful.clone().filter(|_| is_top));
            }
            match (lawful, now) {
                (Some(lawful), _) => {
                    let key = match parts.offset {
                        None => Key::entry(&lawful),
                        Some(offset) => Key::chunks(&lawful, offset),
                    };
                    copies.push(Item { key, value: item.value });
                }
                (None, now) => {
                    long.extend(now.map(|now| cut(&now)));
                    cursor.seek(Key::file_range(&parts.path).end);
                }
            }
        }
        drop(cursor);
        copies.into_iter().for_each(|item| self.edits.put(item));
        present.iter().for_each(|path| self.has(path));
        self.rows.extend(long.into_iter().map(|path| (path.as_bytes().to_vec(), lack::LONG)));
        again.sort_unstable();
        again.dedup();
        again.iter().try_for_each(|path| self.evaluate(path))
    }

    /// Plans to describe again what is at `path`, of which nothing else may be said.
    fn evaluate(&mut self, path: &[u8]) -> Result<(), IncrementalError> {
        let Ok(name) = TreePath::from_bytes(path) else {
            return full(format!("{}, a hard link, is too deep", escape_bytes(path)));
        };
        let Some(metadata) = self.dir.find(&name)? else {
            return full(format!("{name} should still be there and is not"));
        };
        let Some((origin, _)) = self.holder(&name)? else {
            return full(format!("{name} was not stored and is said to be as it was"));
        };
        if metadata.kind == FileKind::Directory {
            return full(format!("{name} was not a directory"));
        }
        let plan = Plan { name, origin: Some(origin), reread: Reread::Same, metadata };
        self.plans.entry(plan.metadata.inode).or_insert(plan);
        Ok(())
    }

    /// Puts directories that were touched, and plans what becomes of the rest.
    fn touched(&mut self, changes: &Changes) -> Result<(), IncrementalError> {
        let mut told = BTreeSet::new();
        for touched in &changes.touched {
            let Some(path) = self.lawful(&touched.path) else {
                self.directories.insert(cut(&touched.path));
                continue;
            };
            let Some(metadata) = self.dir.find(&path)? else {
                return full(format!("{path} was touched and is not there"));
            };
            let origin = match &touched.origin {
                None => None,
                Some(origin) => match TreePath::from_bytes(origin) {
                    Ok(origin) => Some(origin),
                    Err(_) => return full(format!("{path} was too deep to be stored")),
                },
            };
            match metadata.kind {
                FileKind::Directory => self.directory(path, origin, &metadata)?,
                FileKind::Device => {
                    if self.holder(&path)?.is_some() {
                        return full(format!("{path} was no device"));
                    }
                    self.rows.insert((path.as_bytes().to_vec(), lack::DEVICE));
                }
                _ => {
                    let origin = origin.filter(|_| touched.content != Reread::Whole);
                    let reread = match &origin {
                        None => Reread::Whole,
                        Some(_) => touched.content.clone(),
                    };
                    let inode = metadata.inode;
                    let plan = Plan { name: path, metadata, origin, reread };
                    let is_further = !told.insert(inode);
                    match self.plans.get_mut(&inode).filter(|_| is_further) {
                        Some(first) => first.join(plan),
                        None => {
                            self.plans.insert(inode, plan);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn directory(
        &mut self,
        path: TreePath,
        origin: Option<TreePath>,
        metadata: &Metadata,
    ) -> Result<(), IncrementalError> {
        if metadata.inode == NESTED_SUBVOLUME_INODE {
            self.rows.insert((path.as_bytes().to_vec(), lack::NESTED));
            return Ok(());
        }
        if !path.is_top() {
            let holder = self.holder(&path)?;
            match (&origin, &holder) {
                (None, None) => {}
                (Some(origin), Some((old, entry))) if origin == old && entry.is_directory() => {}
                _ => return full(format!("{path} is not the directory that was stored")),
            }
            let entry = describe(self.dir, &path, metadata, Content::Directory, self.session)?;
            self.put(&path, &entry)?;
            if metadata.mode & SET_ID_BITS != 0 {
                self.rows.insert((path.as_bytes().to_vec(), lack::SET_ID));
            }
        }
        self.directories.insert(path);
        Ok(())
    }

    /// Lists again what was not captured and was not touched.
    fn carry_rows(&mut self, old_rows: &Rows) -> Result<(), IncrementalError> {
        for (old, what) in old_rows {
            let Some(now) = self.paths.now(old) else { continue };
            let Some(path) = self.lawful(&now) else { continue };
            let parent = path.parent().unwrap_or_default();
            let is_looked_up_again = match *what {
                lack::NESTED => self.directories.contains(&parent),
                lack::LONG if now != *old => {
                    return full(format!("what was too deep below {path} may not be so any more"));
                }
                lack::LONG => self.directories.contains(&path),
                lack::SET_ID => self.directories.contains(&path),
                _ => false,
            };
            if !is_looked_up_again {
                self.rows.insert((now, what));
            }
        }
        Ok(())
    }

    /// Describes a file, link or marker again, under all its names.
    fn file(&mut self, inode: u64, plan: &Plan) -> Result<(), IncrementalError> {
        let names = self.names_of(inode, plan)?;
        let [first, ..] = names.as_slice() else {
            return full(format!("{} has no name", plan.name));
        };
        let old = match &plan.origin {
            None => None,
            Some(origin) => match self.old_entry(origin.as_bytes())? {
                Some(entry) => Some((origin, entry)),
                None => return full(format!("{origin}, of which {first} is made, was not stored")),
            },
        };
        let patch = match &old {
            None => None,
            Some((origin, entry)) => self.patch((origin, entry), first, plan)?,
        };
        let (mut entry, patch) = match patch {
            Some(patch) => {
                let content = patch.content.clone();
                (describe(self.dir, first, &plan.metadata, content, self.session)?, patch)
            }
            None => {
                let (entry, lists) = read_entry(self.dir, first, &plan.metadata, self.session)?;
                let content = entry.content.clone();
                (entry, Patch::whole(content, lists))
            }
        };
        entry.link = (plan.metadata.links > 1).then(|| first.clone());
        let bytes = entry.size().unwrap_or(0);
        self.progress.update(|progress| {
            progress.done_files += 1;
            progress.total_bytes = Some(progress.total_bytes.unwrap_or(0) + bytes);
        });
        for name in &names {
            self.name(name, &entry, &patch, old.as_ref().map(|(path, entry)| (*path, entry)))?;
            for what in [lack::SET_ID, lack::DEVICE] {
                self.rows.remove(&(name.as_bytes().to_vec(), what));
            }
            if plan.metadata.mode & SET_ID_BITS != 0 {
                self.rows.insert((name.as_bytes().to_vec(), lack::SET_ID));
            }
        }
        Ok(())
    }

    /// The names under which an inode is captured, in the order of keys.
    fn names_of(&self, inode: u64, plan: &Plan) -> Result<Vec<TreePath>, IncrementalError> {
        if plan.metadata.links <= 1 {
            return Ok(vec![plan.name.clone()]);
        }
        let all = (self.names_of_inode)(inode).map_err(IncrementalError::Names)?;
        let mut names: Vec<TreePath> =
            all.iter().filter_map(|name| TreePath::from_bytes(name).ok()).collect();
        if all.len() as u64 != plan.metadata.links || !names.contains(&plan.name) {
            return full(format!("not all names of {} are known", plan.name));
        }
        names.sort_by_cached_key(Key::entry);
        Ok(names)
    }

    /// Puts an entry and its chunk lists under one of its names.
    fn name(
        &mut self,
        name: &TreePath,
        entry: &Entry,
        patch: &Patch,
        old: Option<(&TreePath, &Entry)>,
    ) -> Result<(), IncrementalError> {
        let is_there = match (self.holder(name)?, old) {
            (None, _) => false,
            (Some((at, there)), Some((origin, before)))
                if at == *origin || (there.link.is_some() && there.link == before.link) =>
            {
                true
            }
            // All of it is read, and what was there is the same inode's by its kind alone.
            (Some((_, there)), None) if there.content.number() == entry.content.number() => true,
            (Some(_), _) => return full(format!("{name} is not the file that was stored")),
        };
        if patch.is_whole || !is_there {
            self.edits.delete_range(Key::file_range(name));
        }
        if let Some((origin, _)) = old.filter(|_| !patch.is_whole && !is_there) {
            let lists = Key::chunks(origin, 0)..Key::file_range(origin).end;
            for item in tree::range(&self.nodes, &self.root, lists) {
                let item = item?;
                let parts = item.key.parse()?;
                if let Some(offset) = parts.offset {
                    let key = Key::chunks(name, offset);
                    self.edits.put(Item { key, value: item.value });
                }
            }
        }
        for cleared in &patch.cleared {
            let end = match cleared.end {
                u64::MAX => Key::file_range(name).end,
                end => Key::chunks(name, end),
            };
            self.edits.delete_range(Key::chunks(name, cleared.start)..end);
        }
        for (offset, list) in &patch.lists {
            self.edits.put(Item { key: Key::chunks(name, *offset), value: list.encode() });
        }
        self.put(name, entry)
    }

    /// How the content at `path` differs from that of its origin; `None` when all of it is to be
    /// read.
    fn patch(
        &self,
        (origin, old): (&TreePath, &Entry),
        path: &TreePath,
        plan: &Plan,
    ) -> Result<Option<Patch>, IncrementalError> {
        let Content::File { size: old_size, grid: old_grid, .. } = old.content else {
            let kind = match &old.content {
                Content::Directory => FileKind::Directory,
                Content::Symlink(_) => FileKind::Symlink,
                Content::Fifo => FileKind::Fifo,
                _ => FileKind::Socket,
            };
            return match kind == plan.metadata.kind {
                true => Ok(None),
                false => full(format!("{path} is of another kind than {origin} was")),
            };
        };
        if plan.metadata.kind != FileKind::File {
            return full(format!("{path} is no file, as {origin} was"));
        }
        let size = plan.metadata.size;
        let ranges = match &plan.reread {
            Reread::Same => [].as_slice(),
            Reread::Ranges(ranges) => ranges,
            Reread::Whole => return Ok(None),
        };
        // Of a hard-linked file the first name decides on the grid, now as then.
        let first = old.link.as_ref().unwrap_or(origin);
        if ranges.is_empty() && size == old_size && is_of_service(path) == is_of_service(first) {
            let content = old.content.clone();
            return Ok(Some(Patch {
                content,
                is_whole: false,
                cleared: Vec::new(),
                lists: Vec::new(),
            }));
        }
        let file = self.dir.open_file(path)?;
        let grid = grid_of(&file, path, size)?;
        if grid != old_grid {
            return Ok(None);
        }
        let dirty = dirty_chunks(grid, ranges, old_size, size);
        let patching = Patching { change: self, file: &file, path, origin, old, size, grid };
        patching.patch(&dirty, old_size).map(Some)
    }

    /// Lists what a directory has that send does not tell of, and makes sure of its names.
    fn look_again(&mut self, path: &TreePath) -> Result<(), IncrementalError> {
        match self.dir.find(path)? {
            Some(metadata) if metadata.kind == FileKind::Directory => {}
            _ => return Ok(()),
        }
        let mut found = BTreeSet::new();
        for (name, kind) in list(self.dir, path)? {
            let Ok(child) = path.join(&name) else {
                self.rows.insert((path.as_bytes().to_vec(), lack::LONG));
                continue;
            };
            let may_be_directory = matches!(kind, FileType::Directory | FileType::Unknown);
            if may_be_directory && {
                let metadata = self.dir.metadata(&child)?;
                metadata.kind == FileKind::Directory && metadata.inode == NESTED_SUBVOLUME_INODE
            } {
                self.rows.insert((child.as_bytes().to_vec(), lack::NESTED));
                continue;
            }
            if !self.rows.contains(&(child.as_bytes().to_vec(), lack::DEVICE)) {
                found.insert(name);
            }
        }
        if found.len() > COMPARED_NAMES_MAX {
            return Ok(());
        }
        let mut names = self.names.remove(path).unwrap_or_default();
        let before = self.paths.before(path.as_bytes());
        if let Some(before) = before.and_then(|before| TreePath::from_bytes(&before).ok()) {
            for listed in tree::list_directory(&self.nodes, &self.root, &before) {
                let (name, _) = listed?;
                let now = before.join(&name).ok().and_then(|old| self.paths.now(old.as_bytes()));
                if now.is_some_and(|now| path.join(&name).is_ok_and(|new| new.as_bytes() == now)) {
                    names.insert(name);
                }
            }
        }
        match names.symmetric_difference(&found).next() {
            None => Ok(()),
            Some(name) => {
                full(format!("\"{}\" in \"{path}\" is not accounted for", escape_bytes(name)))
            }
        }
    }
}

impl Plan {
    /// Adds what is said of the same inode under another name.
    fn join(&mut self, other: Self) {
        match (&mut self.reread, other.reread) {
            (Reread::Whole, _) | (_, Reread::Same) => {}
            (Reread::Ranges(ranges), Reread::Ranges(more)) => ranges.extend(more),
            (mine, Reread::Whole) => {
                *mine = Reread::Whole;
                self.origin = None;
            }
            (mine, other) => *mine = other,
        }
    }
}

/// The chunks of a file of `size` bytes that may not be those of its origin, as numbers, in order
/// and apart.
fn dirty_chunks(grid: Grid, ranges: &[Range<u64>], old_size: u64, size: u64) -> Vec<Range<u64>> {
    let chunks = grid.chunks(size);
    let mut dirty: Vec<Range<u64>> = ranges
        .iter()
        .map(|range| range.start..range.end.min(size))
        .filter(|range| range.start < range.end)
        .map(|range| range.start / grid.bytes()..range.end.div_ceil(grid.bytes()))
        .collect();
    if size > old_size {
        dirty.push(old_size / grid.bytes()..chunks);
    }
    if size < old_size && !size.is_multiple_of(grid.bytes()) {
        dirty.push(chunks - 1..chunks);
    }
    dirty.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(dirty.len());
    for range in dirty {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// A file of which some chunks are read again.
struct Patching<'p, 'c, 'r, 's, 'k> {
    change: &'p Change<'c, 'r, 's, 'k>,
    file: &'p File,
    path: &'p TreePath,
    origin: &'p TreePath,
    old: &'p Entry,
    size: u64,
    grid: Grid,
}

impl Patching<'_, '_, '_, '_, '_> {
    fn patch(&self, dirty: &[Range<u64>], old_size: u64) -> Result<Patch, IncrementalError> {
        let (size, grid) = (self.size, self.grid);
        if size <= grid.bytes() {
            let digest = match (size, dirty) {
                (0, _) => Digest::HOLE,
                (_, []) => self.old_group(0)?.first().copied().unwrap_or(Digest::HOLE),
                _ => self.chunk(0, &mut vec![0; GRID_BYTES as usize])?,
            };
            let chunk = Some(digest).filter(|digest| !digest.is_hole());
            return Ok(Patch::whole(Content::File { size, grid, chunk }, Vec::new()));
        }
        let per = GROUP_CHUNKS as u64;
        let groups = size.div_ceil(grid.group_bytes());
        // Groups that are read as a whole, and those of which some digests are kept.
        let mut whole: Vec<Range<u64>> = Vec::new();
        let mut partly = BTreeSet::new();
        for range in dirty {
            let (first, last) = (range.start / per, (range.end - 1) / per);
            let is_all = |group: u64| {
                let end = ((group + 1) * per).min(grid.chunks(size));
                range.start <= group * per && end <= range.end
            };
            let from = if is_all(first) { first } else { first + 1 };
            let to = if is_all(last) { last + 1 } else { last };
            partly.extend([first, last].into_iter().filter(|group| !is_all(*group)));
            if from < to {
                whole.push(from..to);
            }
        }
        // It may have more or fewer chunks than before and none that is read again.
        let last = groups - 1;
        if size != old_size && !whole.iter().any(|range| range.contains(&last)) {
            partly.insert(last);
        }
        let offset = |group: u64| group.saturating_mul(grid.group_bytes());
        let mut cleared: Vec<Range<u64>> =
            whole.iter().map(|range| offset(range.start)..offset(range.end)).collect();
        if size < old_size {
            cleared.push(offset(groups)..u64::MAX);
        }
        let mut lists = Vec::new();
        let mut buffer = vec![0; GRID_BYTES as usize];
        for group in partly {
            cleared.push(offset(group)..offset(group + 1));
            let first = group * per;
            let count = per.min(grid.chunks(size) - first);
            let mut digests = self.old_group(group)?;
            digests.resize(usize::try_from(count).unwrap_or(GROUP_CHUNKS), Digest::HOLE);
            for (number, digest) in (first..).zip(&mut digests) {
                if dirty.iter().any(|range| range.contains(&number)) {
                    *digest = self.chunk(number, &mut buffer)?;
                }
            }
            if let Some(list) = ChunkList::of_group(grid, size, offset(group), digests)? {
                lists.push((offset(group), list));
            }
        }
        for range in &cleared[..whole.len()] {
            let bytes = range.start..range.end.min(size);
            let session = self.change.session;
            lists.extend(read_groups(self.file, self.path, (size, grid), bytes, session)?);
        }
        Ok(Patch {
            content: Content::File { size, grid, chunk: None },
            is_whole: false,
            cleared,
            lists,
        })
    }

    fn chunk(&self, number: u64, buffer: &mut [u8]) -> Result<Digest, IncrementalError> {
        let offset = number * self.grid.bytes();
        let bytes = self.grid.bytes().min(self.size - offset);
        let digest = read_chunk(self.file, offset, bytes, buffer, self.change.session)
            .map_err(|failure| failure.at(self.path))?;
        Ok(digest)
    }

    /// The digests of the origin's chunks in a group; none when all of it was a hole.
    fn old_group(&self, group: u64) -> Result<Vec<Digest>, IncrementalError> {
        let Content::File { chunk, .. } = self.old.content else { return Ok(Vec::new()) };
        if !self.old.has_chunk_lists() {
            return Ok(chunk.into_iter().filter(|_| group == 0).collect());
        }
        let key = Key::chunks(self.origin, group * self.grid.group_bytes());
        let change = self.change;
        match tree::find(&change.nodes, &change.root, &key)? {
            None => Ok(Vec::new()),
            Some(value) => {
                let corrupt = |why| ReadError::Corrupt { digest: change.root, why };
                Ok(ChunkList::decode(&value).map_err(corrupt)?.digests().to_vec())
            }
        }
    }
}

/// The names in a directory and what kinds the directory itself says that they are of: a look at
/// each would cost more than all else when one of many names is new.
fn list(dir: &Dir, path: &TreePath) -> Result<Vec<(Vec<u8>, FileType)>, IncrementalError> {
    let failed =
        |errno: rustix::io::Errno| StoreError::Read { path: path.clone(), source: errno.into() };
    let opened = dir.open_dir(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(opened.descriptor(), c".", flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push((name.to_vec(), entry.file_type())),
        }
    }
    Ok(names)
}

/// Why a change was not stored.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum IncrementalError {
    /// The new tree does not follow from the old one with certainty; nothing is wrong with either.
    #[error("the changes do not tell the new state: {why}")]
    NeedsFullStore { why: String },
    /// The files could not be read or not be put.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The old tree could not be read.
    #[error("failed to read what is stored")]
    Old(#[from] ReadError),
    /// The pool did not tell the names of a hard-linked file.
    #[error("failed to look up the names of a file")]
    Names(#[source] PoolError),
}

impl From<PathError> for IncrementalError {
    fn from(source: PathError) -> Self {
        Self::Store(source.into())
    }
}

impl From<ParseError> for IncrementalError {
    fn from(source: ParseError) -> Self {
        Self::Store(source.into())
    }
}

impl Classify for IncrementalError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NeedsFullStore { .. } => ErrorKind::Precondition,
            Self::Store(source) => source.kind(),
            Self::Old(source) => source.kind(),
            Self::Names(source) => source.kind(),
        }
    }
}

#[cfg(test)]
mod tests;
