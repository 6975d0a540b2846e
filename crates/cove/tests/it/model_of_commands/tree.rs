//! The files of a workspace as they must be: what each change of files does to them, and what it
//! refuses.
//!
//! Times that a change sets to now are not known before somebody has looked: they are `None` until
//! [`Tree::settle`] takes them from what is there.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The user that everything belongs to that comes in through Cove.
pub const WORKSPACE: u32 = 1000;

/// Why a command is to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Invalid,
    NotFound,
    AlreadyExists,
    Precondition,
}

impl Refusal {
    /// The word in a problem.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Precondition => "precondition",
        }
    }

    /// The status over HTTP.
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Precondition => 409,
        }
    }

    /// The exit status of the program.
    pub fn exit(self) -> i32 {
        match self {
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::AlreadyExists | Self::Precondition => 4,
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File(Arc<[u8]>),
    Link(String),
}

impl Kind {
    /// The word in a listing.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "file",
            Self::Link(_) => "symlink",
        }
    }
}

/// A path's content and looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub owner: u32,
    /// Seconds and nanoseconds; `None` for a time that nobody has seen yet.
    pub modified: Option<(i64, u32)>,
}

impl Node {
    pub fn directory(owner: u32) -> Self {
        Self { kind: Kind::Directory, mode: 0o755, owner, modified: None }
    }

    pub fn file(bytes: &Arc<[u8]>, owner: u32) -> Self {
        Self { kind: Kind::File(Arc::clone(bytes)), mode: 0o644, owner, modified: None }
    }

    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Bytes of a file.
    pub fn size(&self) -> Option<u64> {
        match &self.kind {
            Kind::File(bytes) => Some(bytes.len() as u64),
            Kind::Directory | Kind::Link(_) => None,
        }
    }
}

/// A path's last name.
pub fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A path without its last name; `None` for the root.
pub fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        Some((parent, _)) => Some(parent),
        None if path.is_empty() => None,
        None => Some(""),
    }
}

/// A path with one more name.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// The paths above one, the highest first, without the root.
pub fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// Whether a path is another or lies below it.
pub fn is_within(path: &str, other: &str) -> bool {
    other.is_empty()
        || path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The files of a project: paths from its root, which is the empty one. A path's directories are
/// before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Node>);

impl Tree {
    /// A project without files.
    pub fn empty() -> Self {
        Self(BTreeMap::from([(String::new(), Node::directory(WORKSPACE))]))
    }

    /// The same, belonging to a workspace, as it comes in through Cove.
    pub fn adopted(&self) -> Self {
        let adopt = |node: &Node| Node { owner: WORKSPACE, ..node.clone() };
        Self(self.0.iter().map(|(path, node)| (path.clone(), adopt(node))).collect())
    }

    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    fn is_directory(&self, path: &str) -> bool {
        self.get(path).is_some_and(Node::is_directory)
    }

    /// Whether a directory has anything in it.
    fn has_children(&self, path: &str) -> bool {
        self.0.keys().any(|other| other != path && is_within(other, path))
    }

    /// Why nothing can be made at a path, if so: what should be a directory above it is none.
    fn refuse_above(&self, path: &str) -> Result<(), Refusal> {
        for above in above(path) {
            match self.get(above) {
                None => return Err(Refusal::NotFound),
                Some(node) if !node.is_directory() => return Err(Refusal::Precondition),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Forgets the time of a path, which a change has set to now.
    fn touch(&mut self, path: &str) {
        if let Some(node) = self.0.get_mut(path) {
            node.modified = None;
        }
    }

    fn touch_parent(&mut self, path: &str) {
        if let Some(parent) = parent(path) {
            self.touch(parent);
        }
    }

    /// Puts something at a path, in place of what is there, with nothing below it.
    pub fn insert(&mut self, path: &str, node: Node) {
        self.take(path);
        self.0.insert(path.to_owned(), node);
        self.touch_parent(path);
    }

    /// Takes a path away with everything below it; the paths are from it.
    pub fn take(&mut self, path: &str) -> BTreeMap<String, Node> {
        let gone = self.part(path);
        self.0.retain(|other, _| !is_within(other, path));
        if !gone.is_empty() {
            self.touch_parent(path);
        }
        gone
    }

    /// A path with everything below it; the paths are from it.
    pub fn part(&self, path: &str) -> BTreeMap<String, Node> {
        let inside = self.0.iter().filter(|(other, _)| is_within(other, path));
        inside
            .map(|(other, node)| {
                let below = other[path.len()..].trim_start_matches('/');
                (below.to_owned(), node.clone())
            })
            .collect()
    }

    /// Puts what was taken at a path.
    pub fn graft(&mut self, path: &str, part: BTreeMap<String, Node>) {
        self.take(path);
        for (below, node) in part {
            let at = if below.is_empty() { path.to_owned() } else { join(path, &below) };
            self.0.insert(at, node);
        }
        self.touch_parent(path);
    }

    /// `files put`.
    pub fn put(&mut self, path: &str, bytes: &Arc<[u8]>) -> Result<(), Refusal> {
        if path.is_empty() {
            return Err(Refusal::Invalid);
        }
        let new = match self.get(path) {
            Some(old) if old.is_directory() => return Err(Refusal::Precondition),
            Some(old) if old.size().is_some() => {
                Node { kind: Kind::File(Arc::clone(bytes)), modified: None, ..old.clone() }
            }
            Some(_) | None => Node::file(bytes, WORKSPACE),
        };
        self.refuse_above(path)?;
        self.insert(path, new);
        Ok(())
    }

    /// `files mkdir`.
    pub fn make_directory(&mut self, path: &str) -> Result<(), Refusal> {
        match self.get(path) {
            Some(found) if found.is_directory() => return Ok(()),
            Some(_) => return Err(Refusal::AlreadyExists),
            None => {}
        }
        if self.refuse_above(path) == Err(Refusal::Precondition) {
            return Err(Refusal::Precondition);
        }
        self.make_above(path);
        self.insert(path, Node::directory(WORKSPACE));
        Ok(())
    }

    /// Makes the directories above a path that are missing.
    fn make_above(&mut self, path: &str) {
        for above in above(path) {
            if self.get(above).is_none() {
                self.insert(above, Node::directory(WORKSPACE));
            }
        }
    }

    /// `files rm`.
    pub fn remove(&mut self, path: &str, recursive: bool) -> Result<(), Refusal> {
        if path.is_empty() {
            return Err(Refusal::Invalid);
        }
        let found = self.get(path).ok_or(Refusal::NotFound)?;
        if found.is_directory() && !recursive && self.has_children(path) {
            return Err(Refusal::Precondition);
        }
        self.take(path);
        Ok(())
    }

    /// `files mv`: into the target when that is a directory.
    pub fn move_to(&mut self, from: &str, to: &str) -> Result<(), Refusal> {
        if from.is_empty() {
            return Err(Refusal::Invalid);
        }
        let is_directory = self.get(from).ok_or(Refusal::NotFound)?.is_directory();
        let target = match self.is_directory(to) {
            true => join(to, name(from)),
            false => to.to_owned(),
        };
        if target != to && self.is_directory(&target) {
            return Err(Refusal::AlreadyExists);
        }
        if is_within(&target, from) {
            return Err(Refusal::Invalid);
        }
        self.refuse_above(&target)?;
        if is_directory && self.get(&target).is_some() {
            return Err(Refusal::Precondition);
        }
        let moved = self.take(from);
        self.graft(&target, moved);
        Ok(())
    }

    /// `cp` of a local path, whose last name is `called`, to a path.
    pub fn copy_in(&mut self, source: &Self, called: &str, to: &str) -> Result<(), Refusal> {
        let is_directory = source.is_directory("");
        let at = match self.get(to) {
            Some(there) if there.is_directory() => join(to, called),
            Some(_) if is_directory => return Err(Refusal::Precondition),
            _ => to.to_owned(),
        };
        match parent(&at).map(|parent| self.get(parent)) {
            Some(Some(parent)) if parent.is_directory() => {}
            Some(None) => return Err(Refusal::NotFound),
            Some(Some(_)) | None => return Err(Refusal::Precondition),
        }
        let arriving: Vec<(String, Node)> = source
            .0
            .iter()
            .map(|(below, node)| {
                let at = if below.is_empty() { at.clone() } else { join(&at, below) };
                (at, Node { owner: WORKSPACE, ..node.clone() })
            })
            .collect();
        for (path, new) in &arriving {
            let old = self.get(path);
            if old.is_some_and(|old| old.is_directory() != new.is_directory()) {
                return Err(Refusal::Precondition);
            }
        }
        for (path, new) in arriving {
            if new.is_directory() && self.is_directory(&path) {
                // it is merged, and looks as the one that came
                self.0.insert(path, new);
                continue;
            }
            self.0.insert(path.clone(), new);
            // the directories that came have the times that they came with
            if parent(&path).is_some_and(|above| !is_within(above, &at)) {
                self.touch_parent(&path);
            }
        }
        Ok(())
    }

    /// `restore NAME ENTRY -- PATH …`.
    pub fn restore_paths(&mut self, then: &Self, paths: &[String]) -> Result<(), Refusal> {
        for path in paths {
            self.refuse_not_below_directories(path)?;
            if self.get(path).is_none() && then.get(path).is_none() {
                return Err(Refusal::NotFound);
            }
        }
        for path in paths {
            if then.get(path).is_some() {
                self.make_above(path);
                self.graft(path, then.part(path));
            } else {
                self.take(path);
            }
        }
        Ok(())
    }

    /// What is restored goes where its name says, never through something that is no directory.
    fn refuse_not_below_directories(&self, path: &str) -> Result<(), Refusal> {
        match self.refuse_above(path) {
            Err(Refusal::Precondition) => Err(Refusal::Precondition),
            _ => Ok(()),
        }
    }

    /// Takes the times that were not known from what is there; in what else the two differ, a line
    /// each.
    pub fn settle(&mut self, found: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, seen) in &found.0 {
            match self.0.get_mut(path) {
                None => lines.push(format!("{path:?} is there: {}", shown(seen))),
                Some(node) => {
                    let wanted = Node { modified: node.modified.or(seen.modified), ..node.clone() };
                    if wanted != *seen {
                        let (wanted, seen) = (shown(&wanted), shown(seen));
                        lines.push(format!("{path:?} is {seen}, wanted {wanted}"));
                    }
                    node.modified = wanted.modified;
                }
            }
        }
        for (path, node) in &self.0 {
            if !found.0.contains_key(path) {
                lines.push(format!("{path:?} is not there: {}", shown(node)));
            }
        }
        lines
    }
}

/// A node in a line.
fn shown(node: &Node) -> String {
    let what = match &node.kind {
        Kind::Directory => "directory".to_owned(),
        Kind::File(bytes) => {
            let first = &bytes[..bytes.len().min(12)];
            format!("file of {} bytes, {}", bytes.len(), cove_types::escape_bytes(first))
        }
        Kind::Link(target) => format!("link to {target:?}"),
    };
    format!("{what} {:04o} {} {:?}", node.mode, node.owner, node.modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::empty();
        for (path, bytes) in files {
            tree.make_above(path);
            tree.insert(path, Node::file(&Arc::from(bytes.as_bytes()), WORKSPACE));
        }
        tree
    }

    fn paths(tree: &Tree) -> String {
        tree.0.keys().cloned().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_move_goes_into_a_directory_and_replaces_a_file() {
        let mut tree = tree(&[("a", "1"), ("d/a", "2"), ("e/x", "3")]);
        tree.move_to("a", "d").unwrap();
        assert_eq!(paths(&tree), " d d/a e e/x");
        assert_eq!(tree.get("d/a").unwrap().kind, Kind::File(Arc::from(*b"1")));
        tree.move_to("d", "e").unwrap();
        assert_eq!(paths(&tree), " e e/d e/d/a e/x");
        assert_eq!(tree.move_to("e/d", "e/x"), Err(Refusal::Precondition));
        assert_eq!(tree.move_to("e", "e/d"), Err(Refusal::Invalid));
        assert_eq!(tree.move_to("e/x", "nothing/x"), Err(Refusal::NotFound));
        tree.move_to("e/x", "").unwrap();
        assert_eq!(paths(&tree), " e e/d e/d/a x");
    }

    #[test]
    fn a_restore_of_paths_is_exact_and_makes_what_is_above() {
        let then = tree(&[("d/e/f", "then"), ("g", "then")]);
        let mut now = tree(&[("d/new", "now"), ("h", "now")]);
        let before = now.clone();
        assert_eq!(now.restore_paths(&then, &["x".into(), "d".into()]), Err(Refusal::NotFound));
        assert_eq!(now.restore_paths(&then, &["h/below".into()]), Err(Refusal::Precondition));
        assert_eq!(now, before);
        now.restore_paths(&then, &["d/e/f".into(), "h".into()]).unwrap();
        assert_eq!(paths(&now), " d d/e d/e/f d/new");
        now.restore_paths(&then, &["d".into()]).unwrap();
        assert_eq!(paths(&now), " d d/e d/e/f");
    }

    #[test]
    fn what_is_only_a_time_that_nobody_knew_is_no_difference() {
        let mut wanted = tree(&[("a", "1")]);
        let mut found = wanted.clone();
        for node in found.0.values_mut() {
            node.modified = Some((7, 7));
        }
        assert_eq!(wanted.settle(&found), Vec::<String>::new());
        assert_eq!(wanted, found);
        found.0.get_mut("a").unwrap().modified = Some((8, 0));
        assert_eq!(wanted.settle(&found).len(), 1);
    }
}
