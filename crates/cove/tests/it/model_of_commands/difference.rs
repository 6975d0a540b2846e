//! What `diff` must say of two trees, found by comparing all of both.

use serde_json::{Value, json};

use super::tree::{Kind, Node, Tree, name};

/// The changes as the API has them, in the order of paths, what was removed first.
pub fn difference(before: &Tree, after: &Tree) -> Vec<Value> {
    let mut changes = Vec::new();
    let mut removed: Vec<(&String, &Node)> = Vec::new();
    let mut added: Vec<(&String, &Node)> = Vec::new();
    let is_same_kind = |a: &Node, b: &Node| a.kind.word() == b.kind.word();
    for (path, old) in &before.0 {
        match after.get(path) {
            Some(new) if is_same_kind(old, new) => {
                if let Some(what) = change(old, new) {
                    changes.push(told(what, path, None, Some(old), Some(new)));
                }
            }
            _ => removed.push((path, old)),
        }
    }
    for (path, new) in &after.0 {
        if before.get(path).is_none_or(|old| !is_same_kind(old, new)) {
            added.push((path, new));
        }
    }
    // A file that went and one that came with the same bytes are one that was renamed: first those
    // that kept their last name.
    let mut pairs: Vec<Option<usize>> = vec![None; added.len()];
    for by_name in [true, false] {
        for (at, (path, new)) in added.iter().enumerate() {
            let is_pair = |(other, old): &(&String, &Node)| {
                is_known_again(old, new) && (!by_name || name(other) == name(path))
            };
            let taken: Vec<usize> = pairs.iter().copied().flatten().collect();
            let free = removed.iter().enumerate().filter(|(from, _)| !taken.contains(from));
            if pairs[at].is_none() {
                pairs[at] = free.into_iter().find(|(_, one)| is_pair(one)).map(|(from, _)| from);
            }
        }
    }
    for ((path, new), from) in added.iter().zip(&pairs) {
        match from.map(|from| removed[from]) {
            Some((from, old)) => {
                changes.push(told("renamed", path, Some(from), Some(old), Some(new)));
            }
            None => changes.push(told("added", path, None, None, Some(new))),
        }
    }
    for (at, (path, old)) in removed.iter().enumerate() {
        if !pairs.contains(&Some(at)) {
            changes.push(told("removed", path, None, Some(old), None));
        }
    }
    let order = |change: &Value| {
        let path = change["path"].as_str().unwrap_or_default().to_owned();
        // The root is first, and escapes do not change the order of the names here.
        let path = if path == "." { String::new() } else { path };
        (path, change["change"] != "removed")
    };
    changes.sort_by_key(order);
    changes
}

/// Whether a file is another by its bytes; nothing and zeros are no mark.
fn is_known_again(old: &Node, new: &Node) -> bool {
    match (&old.kind, &new.kind) {
        (Kind::File(old), Kind::File(new)) => old == new && old.iter().any(|byte| *byte != 0),
        _ => false,
    }
}

/// What happened to a path of the same kind on both sides.
fn change(old: &Node, new: &Node) -> Option<&'static str> {
    if old.kind != new.kind {
        return Some("modified");
    }
    // a directory's time alone says nothing
    let is_same_time = new.is_directory() || old.modified == new.modified;
    let is_same = old.mode == new.mode && old.owner == new.owner && is_same_time;
    (!is_same).then_some("metadata")
}

fn told(
    what: &str,
    path: &str,
    from: Option<&str>,
    old: Option<&Node>,
    new: Option<&Node>,
) -> Value {
    let escaped = |path: &str| cove_types::escape_bytes(path.as_bytes());
    let path = if path.is_empty() { ".".to_owned() } else { escaped(path) };
    let mut told = json!({ "path": path, "change": what });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            told[name] = value;
        }
    };
    set("from", from.map(|from| escaped(from).into()));
    set("bytes_before", old.and_then(Node::size).map(Into::into));
    set("bytes_after", new.and_then(Node::size).map(Into::into));
    if let (Some(old), Some(new)) = (old, new)
        && old.mode != new.mode
    {
        set("mode_before", Some(format!("{:04o}", old.mode).into()));
        set("mode_after", Some(format!("{:04o}", new.mode).into()));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model_of_commands::tree::WORKSPACE;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::empty();
        for (path, bytes) in files {
            tree.insert(path, Node::file(&Arc::from(bytes.as_bytes()), WORKSPACE));
        }
        tree
    }

    #[test]
    fn a_file_is_known_again_by_its_bytes_and_first_under_its_own_name() {
        let before = tree(&[("a", "same"), ("d/b", "same"), ("e", ""), ("z", "1")]);
        let after = tree(&[("c/b", "same"), ("f", ""), ("z", "2")]);
        let told: Vec<String> = difference(&before, &after)
            .iter()
            .map(|one| format!("{} {} {}", one["change"], one["path"], one["from"]))
            .collect();
        let wanted = [
            r#""removed" "a" null"#,
            r#""renamed" "c/b" "d/b""#,
            r#""removed" "e" null"#,
            r#""added" "f" null"#,
            r#""modified" "z" null"#,
        ];
        assert_eq!(told, wanted);
    }
}
