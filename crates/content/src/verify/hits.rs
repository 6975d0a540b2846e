//! What is damaged, and which files it hits.

use std::collections::BTreeMap;

use cove_types::{EntryId, TreePath, chain, wire};

use crate::chunks::ChunkError;
use crate::read::project_root;

/// How many paths a problem names; it says how many there are.
const PATHS_MAX: usize = 100;

/// One thing that is lost or damaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) object: Option<String>,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), object: None }
    }

    pub(super) fn of(error: &ChunkError) -> Self {
        Self { what: chain(error), object: error.object() }
    }

    pub(super) fn into_problem(self, entry: Option<EntryId>) -> wire::VerifyProblem {
        wire::VerifyProblem {
            entry: entry.map(|entry| entry.to_string()),
            object: self.object,
            ..wire::VerifyProblem::new(self.what)
        }
    }
}

/// The faults of one state, each with the files that it hits.
#[derive(Debug, Clone, Default)]
pub(super) struct Hits(BTreeMap<Fault, Paths>);

#[derive(Debug, Clone, Default)]
struct Paths {
    named: Vec<String>,
    count: u64,
    last: Option<TreePath>,
}

impl Hits {
    /// A fault, and a file that it hits. A file comes once, or several times in a row. Paths are told
    /// from the project's root, which is `.`; a directory that holds the project's is no file of it.
    pub(super) fn add(&mut self, fault: &Fault, path: Option<&TreePath>) {
        if !self.0.contains_key(fault) {
            self.0.insert(fault.clone(), Paths::default());
        }
        let (Some(paths), Some(path)) = (self.0.get_mut(fault), path) else { return };
        let root = project_root();
        let shown = match path.below(&root) {
            Some(path) if path.is_top() => ".".to_owned(),
            Some(path) => path.to_string(),
            // what services keep, but not the directory of all of them
            None if path.parent().is_some_and(|parent| !parent.is_top()) => path.to_string(),
            None => return,
        };
        if paths.last.as_ref() == Some(path) {
            return;
        }
        paths.last = Some(path.clone());
        paths.count += 1;
        if paths.named.len() < PATHS_MAX {
            paths.named.push(shown);
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the fault of an object is among them.
    pub(super) fn names(&self, fault: &Fault) -> bool {
        self.0.keys().any(|other| other.object == fault.object)
    }

    pub(super) fn into_problems(
        self,
        entry: Option<EntryId>,
    ) -> impl Iterator<Item = wire::VerifyProblem> {
        self.0.into_iter().map(move |(fault, paths)| {
            let what = match paths.count {
                0 => fault.what.clone(),
                1 => format!("{}; 1 file is hit", fault.what),
                count if count == paths.named.len() as u64 => {
                    format!("{}; {count} files are hit", fault.what)
                }
                count => {
                    let more = count - paths.named.len() as u64;
                    format!(
                        "{}; {count} files are hit: those that are named, and {more} more",
                        fault.what
                    )
                }
            };
            let problem = fault.into_problem(entry);
            wire::VerifyProblem { what, paths: paths.named, ..problem }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_root_is_a_dot_and_what_lies_around_it_is_no_file() {
        let mut hits = Hits::default();
        let fault = Fault::new("a pack is lost");
        for path in ["files", "files/a", "services", "services/db", "services/db/log"] {
            hits.add(&fault, Some(&TreePath::parse(path).unwrap()));
        }
        let problem = hits.into_problems(None).next().unwrap();
        assert_eq!(problem.paths, [".", "a", "services/db", "services/db/log"]);
    }

    #[test]
    fn what_is_not_named_is_counted() {
        let mut hits = Hits::default();
        let fault = Fault::new("a pack is lost");
        for n in 0..250 {
            let path = TreePath::parse(&format!("files/{n}")).unwrap();
            hits.add(&fault, Some(&path));
            hits.add(&fault, Some(&path));
        }
        let problem = hits.into_problems(None).next().unwrap();
        assert_eq!(
            problem.what,
            "a pack is lost; 250 files are hit: those that are named, and 150 more"
        );
        assert_eq!((problem.paths.len(), problem.paths[7].as_str()), (100, "7"));
    }
}
