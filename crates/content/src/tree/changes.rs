//! What a person calls the differences of two trees.

use std::collections::{BTreeMap, HashMap};

use cove_types::{Digest, TreePath};

use super::{Content, Difference, Entry, Nodes, ReadError, Value, diff, find_entry};

/// A path that is not the same in two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Where it is, or was when it is removed.
    pub path: TreePath,
    /// What happened to it.
    pub kind: ChangeKind,
    /// What it was; of a renamed one, at its old path.
    pub before: Option<Entry>,
    /// What it is.
    pub after: Option<Entry>,
}

/// What happened to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content is another: the bytes of a file, the target of a symlink.
    Modified,
    /// It is a file with the content of one that is gone from here.
    Renamed {
        /// The old path.
        from: TreePath,
    },
    /// Its content is the same; mode, owner, time, extended attributes or grid are not.
    Metadata,
}

/// What became of each path from the tree `a` to the tree `b`, sorted by path.
///
/// - A difference in chunk lists is one of their file.
/// - A path that is of another kind now is removed and then added.
/// - A directory of which only the time differs is not listed, nor is a path of which only
///   the names that it is hard-linked with do.
/// - A removed and an added file with the same chunks, one of them at least no hole, are one
///   that is renamed; among several the one with the same name, else the first. A
///   directory that moved is removed and added, its files are renamed.
///
/// Costs what [`diff()`] does and, for a file of which only chunks differ, a look-up of its
/// entry; holds all changes in memory.
///
/// # Errors
///
/// [`ReadError`].
pub fn changes(
    nodes_a: &(impl Nodes + ?Sized),
    a: &Digest,
    nodes_b: &(impl Nodes + ?Sized),
    b: &Digest,
) -> Result<Vec<PathChange>, ReadError> {
    let mut paths: BTreeMap<TreePath, Sides> = BTreeMap::new();
    for difference in diff(nodes_a, a, nodes_b, b) {
        let Difference { key, before, after } = difference?;
        let parts = key.parse().map_err(|why| ReadError::Corrupt { digest: *b, why })?;
        let decode = |value: Option<bytes::Bytes>, root: &Digest| {
            let corrupt = |why| ReadError::Corrupt { digest: *root, why };
            value.map(|value| Value::decode(&parts, &value).map_err(corrupt)).transpose()
        };
        let sides = paths.entry(parts.path.clone()).or_default();
        sides.before.add(parts.offset, decode(before, a)?);
        sides.after.add(parts.offset, decode(after, b)?);
        sides.has_entry |= parts.offset.is_none();
        sides.has_chunks |= parts.offset.is_some();
    }
    for (path, sides) in &mut paths {
        if !sides.has_entry {
            sides.before.entry = find_entry(nodes_a, a, path)?;
            sides.after.entry = find_entry(nodes_b, b, path)?;
        }
    }
    Ok(classify(paths))
}

/// What two trees say of a path, as far as it differs.
#[derive(Debug, Default)]
struct Sides {
    before: Side,
    after: Side,
    has_entry: bool,
    has_chunks: bool,
}

#[derive(Debug, Default)]
struct Side {
    entry: Option<Entry>,
    lists: blake3::Hasher,
    has_lists: bool,
}

impl Side {
    fn add(&mut self, offset: Option<u64>, value: Option<Value>) {
        match (offset, value) {
            (_, Some(Value::Entry(entry))) => self.entry = Some(entry),
            (Some(offset), Some(Value::Chunks(list))) => {
                self.lists.update(&offset.to_le_bytes());
                self.lists.update(&list.encode());
                self.has_lists = true;
            }
            _ => {}
        }
    }

    /// By what a file that is wholly on one side is known again; `None` for one that is
    /// empty or a hole, and for other kinds.
    fn identity(&self) -> Option<(u64, Digest)> {
        let Content::File { size, chunk, .. } = self.entry.as_ref()?.content else { return None };
        let lists = self.has_lists.then(|| Digest(*self.lists.finalize().as_bytes()));
        Some((size, chunk.or(lists)?))
    }
}

/// Decides from the differences alone.
fn classify(paths: BTreeMap<TreePath, Sides>) -> Vec<PathChange> {
    let mut changes = Vec::new();
    let mut removed: Vec<(TreePath, Side)> = Vec::new();
    let mut added: Vec<(TreePath, Side)> = Vec::new();
    for (path, sides) in paths {
        match (&sides.before.entry, &sides.after.entry) {
            (Some(before), Some(after)) if before.content.number() == after.content.number() => {
                if let Some(kind) = kind_of(before, after, sides.has_chunks) {
                    changes.push(PathChange {
                        path,
                        kind,
                        before: sides.before.entry,
                        after: sides.after.entry,
                    });
                }
            }
            (before, after) => {
                let (is_removed, is_added) = (before.is_some(), after.is_some());
                if is_removed {
                    removed.push((path.clone(), sides.before));
                }
                if is_added {
                    added.push((path, sides.after));
                }
            }
        }
    }
    let pairs = pair(&removed, &added);
    let mut removed: Vec<Option<(TreePath, Side)>> = removed.into_iter().map(Some).collect();
    for (index, (path, side)) in added.into_iter().enumerate() {
        let from = pairs.get(&index).and_then(|from| removed[*from].take());
        let (kind, before) = match from {
            Some((from, before)) => (ChangeKind::Renamed { from }, before.entry),
            None => (ChangeKind::Added, None),
        };
        changes.push(PathChange { path, kind, before, after: side.entry });
    }
    changes.extend(removed.into_iter().flatten().map(|(path, side)| PathChange {
        path,
        kind: ChangeKind::Removed,
        before: side.entry,
        after: None,
    }));
    changes.sort_by(|a, b| {
        a.path
            .cmp(&b.path)
            .then((b.kind == ChangeKind::Removed).cmp(&(a.kind == ChangeKind::Removed)))
    });
    changes
}

/// What happened to a path that is of the same kind on both sides; `None` when nothing did
/// that is worth a word.
fn kind_of(before: &Entry, after: &Entry, has_chunks: bool) -> Option<ChangeKind> {
    let is_modified = match (&before.content, &after.content) {
        (
            Content::File { size: was, chunk: old, .. },
            Content::File { size: is, chunk: new, .. },
        ) => has_chunks || was != is || old != new,
        (before, after) => before != after,
    };
    if is_modified {
        return Some(ChangeKind::Modified);
    }
    let mut before = Entry { link: after.link.clone(), ..before.clone() };
    if after.is_directory() {
        before.mtime = after.mtime;
    }
    (before != *after).then_some(ChangeKind::Metadata)
}

/// For indexes of added files those of the removed ones that they were: of the same
/// identity, first those of the same name, then in order of paths.
fn pair(removed: &[(TreePath, Side)], added: &[(TreePath, Side)]) -> HashMap<usize, usize> {
    let mut candidates: HashMap<(u64, Digest), Vec<usize>> = HashMap::new();
    for (index, (_, side)) in removed.iter().enumerate().rev() {
        if let Some(identity) = side.identity() {
            candidates.entry(identity).or_default().push(index);
        }
    }
    let mut pairs = HashMap::new();
    for same_name in [true, false] {
        for (index, (path, side)) in added.iter().enumerate() {
            let Some(identity) = side.identity() else { continue };
            let Some(left) = candidates.get_mut(&identity) else { continue };
            if pairs.contains_key(&index) {
                continue;
            }
            let found =
                left.iter().rposition(|from| !same_name || removed[*from].0.name() == path.name());
            if let Some(found) = found {
                pairs.insert(index, left.remove(found));
            }
        }
    }
    pairs
}
