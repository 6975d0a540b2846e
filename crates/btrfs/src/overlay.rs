//! A model of a tree that knows only where it differs from an older one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::stream::Command;

/// A model of a tree: what is not said here is as in the old one.
///
/// Applying a stream's commands in order moves nodes as the kernel moves names, its
/// temporary ones (`o<inode>-<generation>-<n>`) too; what is left at the end is where
/// things went, whatever way they took.
#[derive(Debug)]
pub struct Overlay {
    nodes: Vec<Node>,
}

/// The top.
const TOP: usize = 0;

#[derive(Debug, Default)]
struct Node {
    /// Where it was in the old tree; `None` when it is new.
    origin: Option<Vec<u8>>,
    /// Whether it is a further name of what is at `origin`, and not that moved.
    is_link: bool,
    /// The entries that were spoken of.
    children: BTreeMap<Vec<u8>, usize>,
    /// The names that the directory at `origin` had and this one lacks (or has again,
    /// for something else).
    removed: BTreeSet<Vec<u8>>,
    touch: Option<Touch>,
}

/// What was done to an inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touch {
    /// Whether its size was set.
    pub is_truncated: bool,
    /// Where its content changed, as it was said.
    pub ranges: Vec<Range<u64>>,
}

/// Where things went, with raw paths.
#[derive(Debug, Default)]
pub struct Outcome {
    pub gone: BTreeSet<Vec<u8>>,
    pub moved: BTreeMap<Vec<u8>, Vec<u8>>,
    /// New path; old path of the same inode; what was done.
    pub touched: BTreeMap<Vec<u8>, (Option<Vec<u8>>, Touch)>,
}

/// A path and one more name.
fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

/// A path's directory and last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl Overlay {
    /// The old tree itself.
    pub fn new() -> Self {
        Self { nodes: vec![Node { origin: Some(Vec::new()), ..Node::default() }] }
    }

    /// How many names were spoken of, also of what is gone.
    pub fn count_names(&self) -> usize {
        self.nodes.len()
    }

    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The node at a path; one that the old tree has is spoken of from now on.
    fn find(&mut self, path: &[u8]) -> Result<usize, String> {
        let mut at = TOP;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            let node = &self.nodes[at];
            if let Some(child) = node.children.get(name) {
                at = *child;
                continue;
            }
            let origin = match &node.origin {
                Some(origin) if !node.removed.contains(name) => join(origin, name),
                _ => {
                    let shown = cove_types::escape_bytes(path);
                    return Err(format!("it speaks of \"{shown}\", which is not there"));
                }
            };
            let child = self.push(Node { origin: Some(origin), ..Node::default() });
            self.nodes[at].children.insert(name.to_vec(), child);
            at = child;
        }
        Ok(at)
    }

    /// Whether a node is, or would be, where it was in the old tree.
    fn is_native(&self, node: usize, parent: usize, name: &[u8]) -> bool {
        let (node, parent) = (&self.nodes[node], &self.nodes[parent]);
        match (&node.origin, &parent.origin) {
            (Some(own), Some(above)) => !node.is_link && *own == join(above, name),
            _ => false,
        }
    }

    /// Takes a name away.
    fn detach(&mut self, path: &[u8]) -> Result<usize, String> {
        let (directory, name) = split(path);
        if name.is_empty() {
            return Err("it moves or removes the top".into());
        }
        let node = self.find(path)?;
        let parent = self.find(directory)?;
        if self.is_native(node, parent, name) {
            self.nodes[parent].removed.insert(name.to_vec());
        }
        self.nodes[parent].children.remove(name);
        Ok(node)
    }

    /// Gives a node a name.
    fn attach(&mut self, path: &[u8], node: usize) -> Result<(), String> {
        let (directory, name) = split(path);
        let parent = self.find(directory)?;
        if name.is_empty() || self.nodes[parent].children.contains_key(name) {
            let shown = cove_types::escape_bytes(path);
            return Err(format!("it makes \"{shown}\", which is there"));
        }
        if self.is_native(node, parent, name) {
            self.nodes[parent].removed.remove(name);
        }
        self.nodes[parent].children.insert(name.to_vec(), node);
        Ok(())
    }

    fn touch(&mut self, path: &[u8]) -> Result<&mut Touch, String> {
        let node = self.find(path)?;
        Ok(self.nodes[node].touch.get_or_insert_default())
    }

    /// Does what a command says.
    pub fn apply(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Begin | Command::End => {}
            Command::Make { path } => {
                let touch = Some(Touch::default());
                let node = self.push(Node { touch, ..Node::default() });
                self.attach(path, node)?;
            }
            Command::Rename { from, to } => {
                let node = self.detach(from)?;
                self.attach(to, node)?;
            }
            Command::Link { existing, path } => {
                let node = self.find(existing)?;
                let touch = Some(self.nodes[node].touch.get_or_insert_default().clone());
                let origin = self.nodes[node].origin.clone();
                let link = self.push(Node { origin, touch, is_link: true, ..Node::default() });
                self.attach(path, link)?;
            }
            Command::Remove { path } => {
                self.detach(path)?;
            }
            Command::Metadata { path } => {
                self.touch(path)?;
            }
            Command::Truncate { path } => self.touch(path)?.is_truncated = true,
            Command::Extent { path, offset, length } => {
                let range = *offset..offset.saturating_add(*length);
                self.touch(path)?.ranges.push(range);
            }
        }
        Ok(())
    }

    /// Where everything went.
    pub fn outcome(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        let mut waiting = vec![(TOP, Vec::new())];
        while let Some((at, path)) = waiting.pop() {
            if let Some(origin) = &self.nodes[at].origin {
                let removed = &self.nodes[at].removed;
                outcome.gone.extend(removed.iter().map(|name| join(origin, name)));
            }
            for (name, child) in &self.nodes[at].children {
                let new = join(&path, name);
                let node = &self.nodes[*child];
                if let Some(origin) = &node.origin
                    && !node.is_link
                    && !self.is_native(*child, at, name)
                {
                    outcome.gone.insert(origin.clone());
                    outcome.moved.insert(origin.clone(), new.clone());
                }
                waiting.push((*child, new));
            }
            if let Some(touch) = self.nodes[at].touch.take() {
                let origin = self.nodes[at].origin.take();
                outcome.touched.insert(path, (origin.clone(), touch));
                self.nodes[at].origin = origin;
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(commands: &[Command]) -> Outcome {
        let mut overlay = Overlay::new();
        for command in commands {
            overlay.apply(command).unwrap();
        }
        overlay.outcome()
    }

    fn rename(from: &str, to: &str) -> Command {
        Command::Rename { from: from.into(), to: to.into() }
    }

    fn one(path: &str) -> Vec<u8> {
        path.into()
    }

    #[test]
    fn two_names_that_swap_by_a_third_have_moved_to_each_other() {
        let outcome = outcome(&[rename("a", "o1-1-0"), rename("b", "a"), rename("o1-1-0", "b")]);
        assert_eq!(outcome.gone, [one("a"), one("b")].into());
        assert_eq!(outcome.moved, [(one("a"), one("b")), (one("b"), one("a"))].into());
    }

    #[test]
    fn a_name_that_comes_back_has_not_moved() {
        let outcome = outcome(&[rename("d/a", "o1-1-0"), rename("o1-1-0", "d/a")]);
        assert!(outcome.gone.is_empty() && outcome.moved.is_empty());
    }

    #[test]
    fn what_is_below_a_moved_directory_moves_with_it() {
        let outcome = outcome(&[rename("d", "e"), Command::Metadata { path: one("e/x/y") }]);
        assert_eq!(outcome.moved, [(one("d"), one("e"))].into());
        assert_eq!(outcome.touched[&one("e/x/y")].0, Some(one("d/x/y")));
    }

    #[test]
    fn what_leaves_a_removed_directory_is_kept() {
        let outcome = outcome(&[rename("d/x", "x"), Command::Remove { path: one("d") }]);
        assert_eq!(outcome.gone, [one("d"), one("d/x")].into());
        assert_eq!(outcome.moved, [(one("d/x"), one("x"))].into());
    }

    #[test]
    fn a_new_thing_under_an_old_name_has_no_origin() {
        let outcome = outcome(&[
            Command::Remove { path: one("a") },
            Command::Make { path: one("o2-2-0") },
            rename("o2-2-0", "a"),
        ]);
        assert_eq!(outcome.gone, [one("a")].into());
        assert_eq!(outcome.touched[&one("a")].0, None);
    }

    #[test]
    fn a_path_that_was_removed_is_not_spoken_of() {
        let mut overlay = Overlay::new();
        overlay.apply(&Command::Remove { path: one("a") }).unwrap();
        assert!(overlay.apply(&Command::Metadata { path: one("a/b") }).is_err());
    }
}
