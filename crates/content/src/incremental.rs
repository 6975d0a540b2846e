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

mod files;
mod lacks;
mod paths;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cove_btrfs::{Changes, Content as Reread, Dir, FileKind, Metadata, PathError, PoolError};
use cove_types::{Classify, Digest, ErrorKind, ParseError, TreePath, escape_bytes};

use self::files::Plan;
use self::lacks::Rows;
use self::paths::{Paths, cut, prefixes};
use crate::chunk;
use crate::chunks::{Chunks, Kept};
use crate::root::NotCapturedPath;
use crate::session::Session;
use crate::store::{SharedSink, StoreError, StoredTree, describe, lack};
use crate::tree::{self, Content, Edits, Entry, Grid, Item, Key, Node, Nodes, ReadError, Value};
use crate::volumes::Progress;

/// Nodes of the old tree that are kept decoded, in bytes of the nodes; in memory they take some
/// three times as much.
const DECODED_BYTES_MAX: usize = 8 << 20;

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
        nodes: OldNodes::new(known),
        root: *old.root,
        paths: Paths::of(changes)?,
        session: &session,
        progress,
        edits: Edits::new(),
        rows: BTreeSet::new(),
        described: BTreeSet::new(),
        plans: BTreeMap::new(),
        directories: BTreeSet::new(),
        names: BTreeMap::new(),
    };
    change.fetch_leaves(changes)?;
    let old_rows = change.rows_of(old.not_captured)?;
    change.subtrees(&old_rows)?;
    change.touched(changes)?;
    change.files()?;
    change.carry_rows(&old_rows)?;
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

fn is_of_service(path: &TreePath) -> bool {
    chunk::grid_for(path, 0, b"") == Grid::Small
}

/// The old tree's nodes, as far as they are kept each read, checked and decoded once: what is
/// looked up lies in few of them, and is looked up again when the tree is edited.
struct OldNodes<'k> {
    chunks: &'k Chunks,
    decoded: RefCell<Kept<Digest, Arc<Node>>>,
}

impl<'k> OldNodes<'k> {
    fn new(chunks: &'k Chunks) -> Self {
        Self { chunks, decoded: RefCell::new(Kept::new(DECODED_BYTES_MAX)) }
    }
}

impl Nodes for OldNodes<'_> {
    fn node(&self, digest: &Digest) -> Result<Bytes, ReadError> {
        self.chunks.node(digest)
    }

    fn decoded(&self, digest: &Digest) -> Result<Arc<Node>, ReadError> {
        if let Some(node) = self.decoded.borrow_mut().find(digest) {
            return Ok(node);
        }
        let bytes = self.chunks.node(digest)?;
        let node = Arc::new(Node::checked(digest, &bytes)?);
        self.decoded.borrow_mut().keep(*digest, Arc::clone(&node), bytes.len());
        Ok(node)
    }

    fn prefetch(&self, digests: &[Digest]) {
        let decoded = self.decoded.borrow();
        let missing: Vec<Digest> =
            digests.iter().filter(|digest| !decoded.contains(digest)).copied().collect();
        self.chunks.prefetch(&missing);
    }
}

struct Change<'c, 'r, 's, 'k> {
    dir: &'c Dir,
    names_of_inode: &'c dyn Fn(u64) -> Result<Vec<Vec<u8>>, PoolError>,
    nodes: OldNodes<'c>,
    root: Digest,
    paths: Paths,
    session: &'r RefCell<&'s mut Session<'k>>,
    progress: &'c Progress,
    edits: Edits,
    rows: Rows,
    /// The entries of which all that a row can say of an entry was looked at.
    described: BTreeSet<TreePath>,
    plans: BTreeMap<u64, Plan>,
    /// Those that are looked into for names that send does not tell of.
    directories: BTreeSet<TreePath>,
    /// What was put, by directory.
    names: BTreeMap<TreePath, BTreeSet<Vec<u8>>>,
}

impl Change<'_, '_, '_, '_> {
    /// Has fetched together what will be looked up in the old tree.
    fn fetch_leaves(&self, changes: &Changes) -> Result<(), IncrementalError> {
        let touched = changes.touched.iter().filter_map(|touched| touched.origin.as_deref());
        let old = touched.chain(changes.gone.iter().map(Vec::as_slice));
        let mut keys: Vec<Key> = old
            .filter_map(|path| TreePath::from_bytes(path).ok())
            .filter(|path| !path.is_top())
            .map(|path| Key::entry(&path))
            .collect();
        keys.sort_unstable();
        Ok(tree::fetch_leaves(&self.nodes, &self.root, &keys)?)
    }

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
                let absent = [lack::DEVICE, lack::NESTED, lack::UNREADABLE];
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
        // One that moved to its own path has another directory around it.
        let moved = self.paths.moved.iter().filter(|(old, new)| old != new);
        let new: Vec<Vec<u8>> = moved.map(|(_, new)| new.clone()).collect();
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
        if metadata.stands_for_subvolume() {
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
            let content = Content::Directory;
            let described = describe(self.dir, &path, metadata, content, None, self.session)?;
            self.put(&path, &described.entry)?;
            self.lists(&path, &described.lacks);
        }
        self.directories.insert(path);
        Ok(())
    }
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
    Store(StoreError),
    /// The old tree could not be read.
    #[error("failed to read what is stored")]
    Old(#[from] ReadError),
    /// The pool did not tell the names of a hard-linked file.
    #[error("failed to look up the names of a file")]
    Names(#[source] PoolError),
}

impl From<StoreError> for IncrementalError {
    fn from(source: StoreError) -> Self {
        // a full store leaves out and names what the disk does not give
        match source.is_unreadable() {
            true => Self::NeedsFullStore { why: source.to_string() },
            false => Self::Store(source),
        }
    }
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
