//! What comes next in a sequence, by chance: mostly what can be done, sometimes what is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use cove_testkit::proof::Chance;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::command::{Command, Local};
use super::look::read_tree;
use super::tree::{Kind, Node, Refusal, Tree, join, name, parent};
use super::world::World;

/// Names of files: few, so that they meet; some that have to be escaped.
const NAMES: [&str; 8] = ["a", "b", "c", "d.ts", "e f", "ü", "g\\h", "i\nj"];
/// Labels, and what is none.
const LABELS: [&str; 4] = ["v1", "v2", "ok.1", "x_y-z"];
/// The most live projects that a sequence makes.
const PROJECTS_MAX: usize = 5;

/// Chance, and what there is to choose from.
pub struct Choice<'a> {
    pub chance: &'a mut Chance,
    pub world: &'a World,
    pub number: usize,
}

/// The content of a file: few kinds of it, so that equal files meet.
fn content(chance: &mut Chance) -> Arc<[u8]> {
    let variant = chance.below(4);
    let bytes = match chance.index(12) {
        0 => Vec::new(),
        1 => vec![0; 5_000],
        2 => Chance::new(variant).bytes(300_000),
        3 => Chance::new(variant).bytes(40_000),
        4 => [b"SQLite format 3\0".to_vec(), Chance::new(variant).bytes(9_000)].concat(),
        5 => [vec![0; 140_000], b"at the end".to_vec()].concat(),
        _ => format!("the text {variant}\n").repeat(1 + chance.index(3)).into_bytes(),
    };
    Arc::from(bytes)
}

/// A directory that is there.
fn directory(chance: &mut Chance, tree: &Tree) -> String {
    let all = tree.0.iter().filter(|(path, node)| node.is_directory() && path.len() < 30);
    let all: Vec<&String> = all.map(|(path, _)| path).collect();
    chance.pick(&all).map_or_else(String::new, |path| (*path).clone())
}

/// A name in a directory that is there; something may have it.
fn new_path(chance: &mut Chance, tree: &Tree) -> String {
    let above = directory(chance, tree);
    join(&above, NAMES[chance.index(NAMES.len())])
}

/// A path that is there, not the root.
fn old_path(chance: &mut Chance, tree: &Tree) -> Option<String> {
    let all: Vec<&String> = tree.0.keys().filter(|path| !path.is_empty()).collect();
    chance.pick(&all).map(|path| (*path).clone())
}

/// Whether a path is a link, or would lead through one.
fn is_at_link(tree: &Tree, path: &str) -> bool {
    let above = std::iter::successors(Some(path), |path| parent(path));
    let is_link =
        |path: &str| tree.get(path).is_some_and(|node| matches!(node.kind, Kind::Link(_)));
    above.into_iter().any(is_link)
}

impl Choice<'_> {
    fn one_in(&mut self, many: usize) -> bool {
        self.chance.index(many) == 0
    }

    /// A path to look at or to change: mostly one that is there.
    pub fn path(&mut self, tree: &Tree) -> String {
        match self.chance.index(12) {
            0 => String::new(),
            1 => join(&new_path(self.chance, tree), NAMES[self.chance.index(NAMES.len())]),
            2..=4 => new_path(self.chance, tree),
            _ => old_path(self.chance, tree).unwrap_or_else(|| "a".to_owned()),
        }
    }

    /// A path for something new.
    fn place(&mut self, tree: &Tree) -> String {
        match self.chance.index(12) {
            0 => self.path(tree),
            1 => join(&new_path(self.chance, tree), "deeper"),
            _ => new_path(self.chance, tree),
        }
    }

    fn live(&mut self) -> Option<usize> {
        self.chance.pick(&self.world.live()).copied()
    }

    /// A name that a project may have, free or not.
    fn lawful_name(&mut self) -> String {
        format!("m{}-{}", self.number, ["a", "b", "c", "d"][self.chance.index(4)])
    }

    /// The same, or what is none.
    fn name(&mut self) -> String {
        let number = self.number;
        match self.chance.index(20) {
            0 => format!("M{number}"),
            1 => format!("m{number}--x"),
            2 => format!("m{number}-{}", "x".repeat(40)),
            _ => self.lawful_name(),
        }
    }

    fn slug(&mut self) -> Option<String> {
        if self.one_in(25) {
            return Some(match self.one_in(2) {
                true => format!("m{}-none", self.number),
                false => "Not_A_Name".to_owned(),
            });
        }
        self.live().map(|at| self.world.projects[at].slug.clone())
    }

    /// What is written for an entry of a project: a way to name one of those that are wanted, or
    /// something that names another or none.
    fn entry(&mut self, slug: &str, live: bool) -> Option<String> {
        let Ok(at) = self.world.get(slug) else { return Some("~1".to_owned()) };
        let entries = &self.world.projects[at].timeline.0;
        if self.one_in(12) {
            let odd = ["~9", "~0", "zzzzz", "no entry", "v1", "zz", "~1"];
            return Some(odd[self.chance.index(odd.len())].to_owned());
        }
        let is_wanted = self.one_in(10) != live;
        let wanted: Vec<usize> =
            (0..entries.len()).filter(|at| entries[*at].is_live == is_wanted).collect();
        let entry = &entries[*self.chance.pick(&wanted)?];
        let number = entries.iter().rev().filter(|other| other.is_live && other.is_manual);
        let number = number.into_iter().position(|other| other.id == entry.id);
        Some(match (self.chance.index(8), &entry.label, number) {
            (0, ..) => entry.id[..3].to_owned(),
            (1, ..) => entry.id[..5].to_owned(),
            (2 | 3, Some(label), _) => label.clone(),
            (4, _, Some(number)) => format!("~{}", number + 1),
            _ => entry.id.clone(),
        })
    }

    fn label(&mut self, slug: &str) -> String {
        if let Ok(at) = self.world.get(slug)
            && self.one_in(8)
            && let Some(entry) = self.chance.pick(&self.world.projects[at].timeline.0)
        {
            // A label that looks as another entry's id does, or the beginning of one.
            let length = [3, 12][self.chance.index(2)];
            return entry.id[..length].to_owned();
        }
        let is_there = self.world.get(slug).is_ok();
        match self.chance.index(15) {
            0 if is_there => "now".to_owned(),
            1 if is_there => "no label".to_owned(),
            _ => LABELS[self.chance.index(LABELS.len())].to_owned(),
        }
    }

    /// A moment that can be read: its project, what is written after `@`, and its files.
    pub fn moment(&mut self) -> Option<(String, String, Result<Tree, Refusal>)> {
        let slug = self.slug()?;
        let at = match self.one_in(2) {
            true => "now".to_owned(),
            false => self.entry(&slug, true)?,
        };
        let tree = self.world.get(&slug).and_then(|project| {
            let project = &self.world.projects[project];
            match at.as_str() {
                "now" => Ok(project.tree.clone()),
                at => project.timeline.get(at).map(|at| Tree::clone(&project.timeline.0[at].tree)),
            }
        });
        Some((slug, at, tree))
    }

    /// Something of this machine to bring in.
    fn local(&mut self, sources: &Path, is_directory: bool) -> Local {
        let number = fs::read_dir(sources).unwrap().count();
        let path = sources.join(number.to_string()).join(NAMES[self.chance.index(NAMES.len())]);
        fs::create_dir_all(path.parent().unwrap_or(sources)).unwrap();
        match is_directory {
            false => fs::write(&path, content(self.chance)).unwrap(),
            true => {
                fs::create_dir(&path).unwrap();
                let mut tree = read_tree(&path);
                for _ in 0..3 + self.chance.index(8) {
                    write(self.chance, &mut tree, &path);
                }
            }
        }
        let tree = Arc::new(read_tree(&path));
        Local { path, tree }
    }

    /// The next command; `None` when there is nothing for it.
    pub fn command(&mut self, sources: &Path) -> Option<Command> {
        let live = self.world.live().len();
        if live == 0 || (live < PROJECTS_MAX && self.one_in(14)) {
            let slug = self.name();
            let from = (live == 0 || self.one_in(3)).then(|| self.local(sources, true));
            return Some(Command::New { slug, from });
        }
        let (slug, world) = (self.slug()?, self.world);
        let tree = world.get(&slug).map(|at| &world.projects[at].tree);
        // one thing is wrong at a time: which of two is told differs between API and program
        let is_there = tree.is_ok();
        let empty = Tree::empty();
        let tree = tree.unwrap_or(&empty);
        Some(match self.chance.index(30) {
            0..=2 => {
                let path = self.place(tree);
                Command::Put { slug, path, bytes: content(self.chance) }
            }
            3 => Command::MakeDirectory { slug, path: self.place(tree) },
            4 => Command::Remove { slug, path: self.path(tree), recursive: self.one_in(2) },
            5 | 6 => {
                let (from, to) = (self.path(tree), self.place(tree));
                let to = if self.one_in(4) { directory(self.chance, tree) } else { to };
                if from == to && tree.get(&from).is_none() {
                    return None;
                }
                Command::Move { slug, from, to }
            }
            7 => {
                let to = match self.one_in(2) {
                    true => directory(self.chance, tree),
                    false => self.place(tree),
                };
                if is_at_link(tree, &to) {
                    return None;
                }
                let is_directory = self.one_in(2);
                Command::CopyIn { from: self.local(sources, is_directory), slug, to }
            }
            8..=13 => {
                let message = match self.chance.index(20) {
                    0 if is_there => Some("m".repeat(1_001)),
                    1 if is_there => Some("rings \u{7}".to_owned()),
                    2..=9 => Some(format!("the {}th", self.chance.index(100))),
                    _ => None,
                };
                let is_lawful = message.as_ref().is_none_or(|message| message.len() < 100);
                let is_labelled = is_lawful && self.one_in(2);
                let label = is_labelled.then(|| self.label(&slug));
                Command::Snapshot { slug, message, label }
            }
            14..=16 => Command::Restore { at: self.entry(&slug, true)?, slug, paths: Vec::new() },
            17..=19 => {
                let at = self.entry(&slug, true)?;
                let then = self.world.get(&slug).and_then(|project| {
                    let timeline = &self.world.projects[project].timeline;
                    timeline.get(&at).map(|at| Arc::clone(&timeline.0[at].tree))
                });
                let mut paths = Vec::new();
                for _ in 0..=self.chance.index(3) {
                    let of = match (&then, self.one_in(2)) {
                        (Ok(then), true) => then,
                        _ => tree,
                    };
                    paths.push(self.path(of));
                }
                Command::Restore { slug, at, paths }
            }
            20 | 21 if live < PROJECTS_MAX => {
                let at = if self.one_in(2) { self.entry(&slug, true) } else { None };
                let is_known = |at: &String| {
                    let project = world.get(&slug).map(|at| &world.projects[at]);
                    project.and_then(|project| project.timeline.get(at)).is_ok()
                };
                let is_there = is_there && at.as_ref().is_none_or(is_known);
                let name = self.one_in(2).then(|| match is_there {
                    true => self.name(),
                    false => self.lawful_name(),
                });
                let is_free = name.is_none() && is_there;
                let count = match self.chance.index(12) {
                    0 if is_free => Some(0),
                    1 if is_free => Some(101),
                    2 | 3 => Some(2),
                    _ => None,
                };
                Command::Fork { slug, at, name, count }
            }
            22 if is_there => Command::Rename { slug, to: self.name() },
            22 => Command::Rename { slug, to: self.lawful_name() },
            20 | 21 | 23 => Command::RemoveProject { slug },
            24 => {
                let trash = self.world.trash();
                let slug = match self.one_in(5) {
                    true => slug,
                    false => self.chance.pick(&trash)?.clone(),
                };
                Command::UndeleteProject { slug }
            }
            25 => Command::RemoveEntry { at: self.entry(&slug, true)?, slug },
            26 => Command::UndeleteEntry { at: self.entry(&slug, false)?, slug },
            27 | 28 => {
                let (at, pinned) = (self.entry(&slug, true)?, self.one_in(2));
                Command::Pin { slug, at, pinned }
            }
            _ => {
                let at = self.entry(&slug, true)?;
                let label = if self.one_in(4) { None } else { Some(self.label(&slug)) };
                Command::Label { slug, at, label }
            }
        })
    }
}

/// Changes something in a directory and in the tree that tells of it; in a line what.
pub fn write(chance: &mut Chance, tree: &mut Tree, root: &Path) -> Option<String> {
    /// Whoever runs the tests.
    const ROOT: u32 = 0;
    let new = new_path(chance, tree);
    let place = root.join(&new);
    let some = old_path(chance, tree);
    let is_free = tree.get(&new).is_none();
    let node = |path: &String| tree.get(path).cloned();
    let is_file = |path: &String| tree.get(path).is_some_and(|node| node.size().is_some());
    let line = match (chance.index(12), some) {
        (0, _) if is_free => {
            fs::create_dir(place).unwrap();
            fs::set_permissions(root.join(&new), fs::Permissions::from_mode(0o755)).unwrap();
            tree.insert(&new, Node::directory(ROOT));
            format!("a directory {new:?}")
        }
        (1, _) if is_free => {
            let target = format!("nowhere/{}", chance.index(3));
            symlink(&target, place).unwrap();
            let link = Node { kind: Kind::Link(target), mode: 0o777, ..Node::directory(ROOT) };
            tree.insert(&new, link);
            format!("a link {new:?}")
        }
        (2, Some(path)) => {
            let at = root.join(&path);
            match tree.get(&path).is_some_and(Node::is_directory) {
                true => fs::remove_dir_all(at).unwrap(),
                false => fs::remove_file(at).unwrap(),
            }
            tree.take(&path);
            format!("{path:?} is gone")
        }
        (3, Some(path)) if is_free && !super::tree::is_within(&new, &path) => {
            fs::rename(root.join(&path), place).unwrap();
            let moved = tree.take(&path);
            tree.graft(&new, moved);
            format!("{path:?} is {new:?} now")
        }
        (4, Some(path)) => {
            let path = if chance.index(6) == 0 { String::new() } else { path };
            let mut changed = node(&path)?;
            if matches!(changed.kind, Kind::Link(_)) {
                return None;
            }
            changed.mode = [0o644, 0o755, 0o600, 0o444, 0o700, 0o1777][chance.index(6)];
            let permissions = fs::Permissions::from_mode(changed.mode);
            fs::set_permissions(root.join(&path), permissions).unwrap();
            let line = format!("{path:?} has mode {:o}", changed.mode);
            tree.0.insert(path, changed);
            line
        }
        (5, Some(path)) => {
            let mut changed = node(&path)?;
            let seconds = [-1, 0, 1_600_000_000, 16_725_225_600][chance.index(4)];
            let nanoseconds = chance.below(1_000_000_000) as u32;
            let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
            let times = Timestamps { last_access: time, last_modification: time };
            let at = root.join(&path);
            rustix::fs::utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            changed.modified = Some((seconds, nanoseconds));
            tree.0.insert(path.clone(), changed);
            format!("{path:?} is of {seconds} s")
        }
        (6, Some(path)) if is_file(&path) => {
            let mut changed = node(&path)?;
            let Kind::File(bytes) = &changed.kind else { return None };
            let length = chance.index(bytes.len() + 5_000);
            let mut bytes = bytes.to_vec();
            bytes.resize(length, 0);
            let file = fs::File::options().write(true).open(root.join(&path)).unwrap();
            file.set_len(length as u64).unwrap();
            changed = Node { kind: Kind::File(Arc::from(bytes)), modified: None, ..changed };
            tree.0.insert(path.clone(), changed);
            format!("{path:?} has {length} bytes")
        }
        _ => {
            let path = match old_path(chance, tree).filter(&is_file) {
                Some(path) if chance.index(2) == 0 => path,
                _ => new,
            };
            let bytes = content(chance);
            let old = tree.get(&path).cloned();
            if old.as_ref().is_some_and(|old| old.size().is_none()) {
                return None;
            }
            fs::write(root.join(&path), &bytes).unwrap();
            match old {
                Some(old) => {
                    let new = Node { kind: Kind::File(bytes), modified: None, ..old };
                    tree.0.insert(path.clone(), new);
                }
                None => {
                    let permissions = fs::Permissions::from_mode(0o644);
                    fs::set_permissions(root.join(&path), permissions).unwrap();
                    tree.insert(&path, Node::file(&bytes, ROOT));
                }
            }
            format!("a file {:?}", name(&path))
        }
    };
    Some(line)
}
