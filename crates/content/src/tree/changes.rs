//! What a person calls the differences of two trees.

use std::collections::HashMap;

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
    pub before: Option<State>,
    /// What it is.
    pub after: Option<State>,
}

/// What is told of a path on one side: there may be very many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The length of a file, in bytes.
    pub size: Option<u64>,
    /// Permissions and the sticky bit.
    pub mode: u16,
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
/// entry; holds all changes in memory, some 200 bytes and its path for each.
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
    let mut told = Told::default();
    let completed = |path: &TreePath, mut sides: Sides| {
        if !sides.has_entry {
            sides.before.entry = find_entry(nodes_a, a, path)?;
            sides.after.entry = find_entry(nodes_b, b, path)?;
        }
        Ok(sides)
    };
    // all keys of a path follow each other
    let mut at: Option<(TreePath, Sides)> = None;
    for difference in diff(nodes_a, a, nodes_b, b) {
        let Difference { key, before, after } = difference?;
        let parts = key.parse().map_err(|why| ReadError::Corrupt { digest: *b, why })?;
        let decode = |value: Option<bytes::Bytes>, root: &Digest| {
            let corrupt = |why| ReadError::Corrupt { digest: *root, why };
            value.map(|value| Value::decode(&parts, &value).map_err(corrupt)).transpose()
        };
        let (before, after) = (decode(before, a)?, decode(after, b)?);
        if let Some((path, sides)) = at.take_if(|(path, _)| *path != parts.path) {
            let sides = completed(&path, sides)?;
            told.add(path, sides);
        }
        let (_, sides) = at.get_or_insert_with(|| (parts.path, Sides::default()));
        sides.before.add(parts.offset, before);
        sides.after.add(parts.offset, after);
        sides.has_entry |= parts.offset.is_none();
        sides.has_chunks |= parts.offset.is_some();
    }
    if let Some((path, sides)) = at {
        let sides = completed(&path, sides)?;
        told.add(path, sides);
    }
    Ok(told.paired())
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
    /// The digest of the lists so far, each over the one before: a hasher that waits takes 2 KB.
    lists: Option<Digest>,
}

impl Side {
    fn add(&mut self, offset: Option<u64>, value: Option<Value>) {
        match (offset, value) {
            (_, Some(Value::Entry(entry))) => self.entry = Some(entry),
            (Some(offset), Some(Value::Chunks(list))) => {
                let mut lists = blake3::Hasher::new();
                lists.update(self.lists.as_ref().map_or(&[][..], |before| &before.0));
                lists.update(&offset.to_le_bytes());
                lists.update(&list.encode());
                self.lists = Some(Digest(*lists.finalize().as_bytes()));
            }
            _ => {}
        }
    }

    /// By what a file that is wholly on one side is known again; `None` for one that is
    /// empty or a hole, and for other kinds.
    fn identity(&self) -> Option<(u64, Digest)> {
        let Content::File { size, chunk, .. } = self.entry.as_ref()?.content else { return None };
        Some((size, chunk.or(self.lists)?))
    }

    fn state(&self) -> Option<State> {
        let entry = self.entry.as_ref()?;
        Some(State { size: entry.size(), mode: entry.mode })
    }
}

/// A path that is on one side alone.
#[derive(Debug)]
struct Alone {
    path: TreePath,
    state: Option<State>,
    identity: Option<(u64, Digest)>,
}

/// What is known of the paths so far.
#[derive(Debug, Default)]
struct Told {
    changes: Vec<PathChange>,
    removed: Vec<Alone>,
    added: Vec<Alone>,
}

impl Told {
    fn add(&mut self, path: TreePath, Sides { before, after, has_chunks, .. }: Sides) {
        match (&before.entry, &after.entry) {
            (Some(was), Some(is)) if was.content.number() == is.content.number() => {
                if let Some(kind) = kind_of(was, is, has_chunks) {
                    let (before, after) = (before.state(), after.state());
                    self.changes.push(PathChange { path, kind, before, after });
                }
            }
            (was, is) => {
                let alone = |path, side: &Side| Alone {
                    path,
                    state: side.state(),
                    identity: side.identity(),
                };
                if was.is_some() {
                    self.removed.push(alone(path.clone(), &before));
                }
                if is.is_some() {
                    self.added.push(alone(path, &after));
                }
            }
        }
    }

    /// All changes, sorted; what was removed and added elsewhere is one that is renamed.
    fn paired(self) -> Vec<PathChange> {
        let Self { mut changes, mut removed, mut added } = self;
        // a path comes after those beside its directory
        removed.sort_by(|a, b| a.path.cmp(&b.path));
        added.sort_by(|a, b| a.path.cmp(&b.path));
        let pairs = pair(&removed, &added);
        let mut removed: Vec<Option<Alone>> = removed.into_iter().map(Some).collect();
        for (index, Alone { path, state, .. }) in added.into_iter().enumerate() {
            let from = pairs.get(&index).and_then(|from| removed[*from].take());
            let (kind, before) = match from {
                Some(from) => (ChangeKind::Renamed { from: from.path }, from.state),
                None => (ChangeKind::Added, None),
            };
            changes.push(PathChange { path, kind, before, after: state });
        }
        changes.extend(removed.into_iter().flatten().map(|Alone { path, state, .. }| PathChange {
            path,
            kind: ChangeKind::Removed,
            before: state,
            after: None,
        }));
        changes.sort_by(|a, b| {
            a.path
                .cmp(&b.path)
                .then((b.kind == ChangeKind::Removed).cmp(&(a.kind == ChangeKind::Removed)))
        });
        changes
    }
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
fn pair(removed: &[Alone], added: &[Alone]) -> HashMap<usize, usize> {
    let mut candidates: HashMap<(u64, Digest), Vec<usize>> = HashMap::new();
    for (index, alone) in removed.iter().enumerate().rev() {
        if let Some(identity) = alone.identity {
            candidates.entry(identity).or_default().push(index);
        }
    }
    let mut pairs = HashMap::new();
    for same_name in [true, false] {
        for (index, Alone { path, identity, .. }) in added.iter().enumerate() {
            let Some(identity) = identity else { continue };
            let Some(left) = candidates.get_mut(identity) else { continue };
            if pairs.contains_key(&index) {
                continue;
            }
            let found = left
                .iter()
                .rposition(|from| !same_name || removed[*from].path.name() == path.name());
            if let Some(found) = found {
                pairs.insert(index, left.remove(found));
            }
        }
    }
    pairs
}
