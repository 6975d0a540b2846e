//! What is there: a directory as a tree.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::tree::{Kind, Node, Tree, join};

/// Reads a directory, or a file as a tree of its own.
pub fn read_tree(top: &Path) -> Tree {
    let mut tree = Tree(std::collections::BTreeMap::new());
    read_below(top, "", &mut tree);
    tree
}

fn read_below(at: &Path, path: &str, tree: &mut Tree) {
    let metadata = fs::symlink_metadata(at).unwrap();
    let file_type = metadata.file_type();
    let kind = match () {
        () if file_type.is_dir() => Kind::Directory,
        () if file_type.is_symlink() => {
            Kind::Link(fs::read_link(at).unwrap().to_string_lossy().into_owned())
        }
        () => Kind::File(Arc::from(fs::read(at).unwrap())),
    };
    let is_directory = kind == Kind::Directory;
    let modified = (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0));
    let node = Node {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
        modified: Some(modified),
    };
    tree.0.insert(path.to_owned(), node);
    if is_directory {
        for one in fs::read_dir(at).unwrap() {
            let name = one.unwrap().file_name().into_string().unwrap();
            read_below(&at.join(&name), &join(path, &name), tree);
        }
    }
}
