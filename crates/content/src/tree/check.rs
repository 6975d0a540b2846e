//! Whether a tree makes sense as a whole, not only node by node.

use std::collections::HashSet;

use bytes::Bytes;
use cove_types::{Digest, TreePath};

use super::{
    Builder, ChunkList, Content, Entry, Key, NodeSink, Nodes, ReadError, SinkError, Value,
    WriteError, range,
};

/// What is wrong at a path, though every node is of its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path; the top for the tree as a whole.
    pub path: TreePath,
    /// What is wrong, in one line.
    pub why: &'static str,
}

/// Reads a whole tree and says what is wrong with it: names in what is no directory, chunk
/// lists that are not those of their file, links to a name that is not there or not the
/// first, and borders that another writer of the same items would have put elsewhere.
///
/// Holds the paths of all directories and hard-linked files in memory.
///
/// # Errors
///
/// [`ReadError`]: a node is missing, damaged or could not be read.
pub fn check(nodes: &(impl Nodes + ?Sized), root: &Digest) -> Result<Vec<Fault>, ReadError> {
    let mut builder = Builder::new(Discard);
    let mut seen = Seen::default();
    let mut faults = Vec::new();
    for item in range(nodes, root, Key::all()) {
        let item = item?;
        let corrupt = |why| ReadError::Corrupt { digest: *root, why };
        let (parts, value) = item.decode().map_err(corrupt)?;
        let why = match value {
            Value::Entry(entry) => seen.entry(&parts.path, entry),
            Value::Chunks(list) => seen.list(&parts.path, parts.offset.unwrap_or(0), &list),
        };
        faults.extend(why.map(|why| Fault { path: parts.path, why }));
        read_again(builder.push(item))?;
    }
    let again = read_again(builder.finish())?;
    if again.is_some_and(|again| again.digest != *root) {
        let why = "the tree's nodes do not end where its items say";
        faults.push(Fault { path: TreePath::top(), why });
    }
    Ok(faults)
}

/// What building again says; items that were read are in order and of their form.
fn read_again<T>(result: Result<T, WriteError>) -> Result<Option<T>, ReadError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(WriteError::Read(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What came before in key order.
#[derive(Default)]
struct Seen {
    directories: HashSet<TreePath>,
    first_names: HashSet<TreePath>,
    /// The entry before, to which chunk lists belong.
    last: Option<(TreePath, Entry)>,
}

impl Seen {
    fn entry(&mut self, path: &TreePath, entry: Entry) -> Option<&'static str> {
        let parent = path.parent().unwrap_or_default();
        let mut why = None;
        if !parent.is_top() && !self.directories.contains(&parent) {
            why = Some("its parent is not a directory of the tree");
        }
        match &entry.link {
            Some(link) if link == path => {
                self.first_names.insert(path.clone());
            }
            Some(link) if !self.first_names.contains(link) => {
                why = why.or(Some("the first of its names is not one before it"));
            }
            _ => {}
        }
        if entry.is_directory() {
            self.directories.insert(path.clone());
        }
        self.last = Some((path.clone(), entry));
        why
    }

    fn list(&self, path: &TreePath, offset: u64, list: &ChunkList) -> Option<&'static str> {
        let entry = self.last.as_ref().filter(|(last, _)| last == path).map(|(_, entry)| entry);
        let Some(Content::File { size, grid, .. }) = entry.map(|entry| &entry.content) else {
            return Some("it has chunks and is no file");
        };
        let group = size.saturating_sub(offset).min(grid.group_bytes());
        let fits = *size > grid.bytes() && list.grid() == *grid && list.bytes() == group;
        (!fits).then_some("its chunks are not those of a file of its size and grid")
    }
}

/// A sink that keeps nothing.
struct Discard;

impl NodeSink for Discard {
    fn put(&mut self, _: Digest, _: Bytes) -> Result<(), SinkError> {
        Ok(())
    }
}
