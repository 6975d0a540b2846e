//! The projects of one sequence as they must be: what each command does to all of them.

use std::sync::Arc;

use super::command::Command;
use super::timeline::Timeline;
use super::tree::{Refusal, Tree};

/// The most forks that one call makes.
const FORKS_MAX: u32 = 100;
/// The longest name of a project.
const SLUG_BYTES_MAX: usize = 40;
/// The longest message of an entry.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// A project.
#[derive(Debug, Clone)]
pub struct Project {
    pub slug: String,
    /// Its id; empty until somebody has seen it.
    pub id: String,
    pub tree: Tree,
    pub timeline: Timeline,
    /// The id of the source, and of the entry if it was one.
    pub forked_from: Option<(String, Option<String>)>,
    /// When it was moved to the trash, counted in removals.
    pub trashed: Option<u32>,
}

/// What a command does besides changing the model.
#[derive(Debug, Default)]
pub struct Effect {
    /// The projects that changed.
    pub touched: Vec<usize>,
    /// Those that were made, in the order of the reply.
    pub made: Vec<usize>,
    /// The entry that the reply tells of; `None` when it tells of none.
    pub entry: Option<usize>,
    /// The entries that are the state before a restore already: the reply tells of one of them, or of a new
    /// one where that was not known.
    pub held_by: Vec<usize>,
    /// What rolled off.
    pub rolled_off: Vec<usize>,
}

impl Effect {
    fn on(project: usize) -> Self {
        Self { touched: vec![project], ..Self::default() }
    }

    fn entry(project: usize, entry: usize) -> Self {
        Self { entry: Some(entry), ..Self::on(project) }
    }
}

/// All projects of a sequence, those in the trash too.
#[derive(Debug)]
pub struct World {
    pub projects: Vec<Project>,
    /// How many entries that somebody asked for stay.
    keep: usize,
    removals: u32,
}

/// Whether a text can be a project's name.
fn is_lawful_slug(slug: &str) -> bool {
    let is_of_names = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=SLUG_BYTES_MAX).contains(&slug.len())
        && slug.bytes().all(is_of_names)
        && !slug.starts_with('-')
        && !slug.ends_with('-')
        && !slug.contains("--")
}

impl World {
    pub fn new(keep: usize) -> Self {
        Self { projects: Vec::new(), keep, removals: 0 }
    }

    /// The live projects.
    pub fn live(&self) -> Vec<usize> {
        (0..self.projects.len()).filter(|at| self.projects[*at].trashed.is_none()).collect()
    }

    /// The names in the trash, the last one first.
    pub fn trash(&self) -> Vec<String> {
        let mut gone: Vec<&Project> =
            self.projects.iter().filter(|project| project.trashed.is_some()).collect();
        gone.sort_by_key(|project| std::cmp::Reverse(project.trashed));
        gone.into_iter().map(|project| project.slug.clone()).collect()
    }

    /// The live project of a name.
    pub fn get(&self, slug: &str) -> Result<usize, Refusal> {
        if !is_lawful_slug(slug) {
            return Err(Refusal::Invalid);
        }
        let live = self.live();
        live.into_iter().find(|at| self.projects[*at].slug == slug).ok_or(Refusal::NotFound)
    }

    /// Refuses a name for a new project that is none or is taken.
    fn refuse_name(&self, slug: &str) -> Result<(), Refusal> {
        match self.get(slug) {
            Ok(_) => Err(Refusal::AlreadyExists),
            Err(Refusal::NotFound) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    fn add(&mut self, slug: &str, tree: Tree) -> usize {
        self.projects.push(Project {
            slug: slug.to_owned(),
            id: String::new(),
            tree,
            timeline: Timeline::default(),
            forked_from: None,
            trashed: None,
        });
        self.projects.len() - 1
    }

    fn fork_names(
        &self,
        source: &str,
        wanted: Option<&str>,
        count: Option<u32>,
    ) -> Result<Vec<String>, Refusal> {
        if count.is_some_and(|count| !(1..=FORKS_MAX).contains(&count)) {
            return Err(Refusal::Invalid);
        }
        let lawful = |slug: String| match is_lawful_slug(&slug) {
            true => Ok(slug),
            false => Err(Refusal::Invalid),
        };
        match (wanted, count) {
            (Some(wanted), None) => {
                self.refuse_name(wanted)?;
                Ok(vec![wanted.to_owned()])
            }
            (Some(wanted), Some(count)) => {
                lawful(wanted.to_owned())?;
                let names = (1..=count).map(|n| {
                    let slug = lawful(format!("{wanted}-{n}"))?;
                    self.refuse_name(&slug).map(|()| slug)
                });
                names.collect()
            }
            (None, count) => {
                let free = (1..).map(|n| lawful(format!("{source}-{n}")));
                let free = free.filter(|slug| {
                    slug.as_ref().map_or(true, |slug| self.get(slug) == Err(Refusal::NotFound))
                });
                free.take(count.unwrap_or(1) as usize).collect()
            }
        }
    }

    /// Does a command, or refuses it and changes nothing.
    pub fn apply(&mut self, command: &Command) -> Result<Effect, Refusal> {
        let keep = self.keep;
        match command {
            Command::New { slug, from } => {
                self.refuse_name(slug)?;
                let tree = from.as_ref().map_or_else(Tree::empty, |from| from.tree.adopted());
                let made = self.add(slug, tree);
                Ok(Effect { made: vec![made], ..Effect::on(made) })
            }
            Command::Put { slug, path, bytes } => self.edit(slug, |tree| tree.put(path, bytes)),
            Command::MakeDirectory { slug, path } => {
                self.edit(slug, |tree| tree.make_directory(path))
            }
            Command::Remove { slug, path, recursive } => {
                self.edit(slug, |tree| tree.remove(path, *recursive))
            }
            Command::Move { slug, from, to } => self.edit(slug, |tree| tree.move_to(from, to)),
            Command::CopyIn { slug, from, to } => {
                self.edit(slug, |tree| tree.copy_in(&from.tree, &from.called(), to))
            }
            Command::Snapshot { slug, message, label } => {
                let is_lawful = |message: &String| {
                    message.len() <= MESSAGE_BYTES_MAX && !message.contains('\u{7}')
                };
                let at = self.get(slug)?;
                if !message.as_ref().is_none_or(is_lawful) {
                    return Err(Refusal::Invalid);
                }
                let Project { timeline, tree, .. } = &mut self.projects[at];
                let (entry, rolled_off) =
                    timeline.snapshot(tree, message.as_deref(), label.as_deref(), keep)?;
                Ok(Effect { rolled_off, ..Effect::entry(at, entry) })
            }
            Command::Restore { slug, at: moment, paths } => {
                let at = self.get(slug)?;
                let Project { timeline, tree, .. } = &mut self.projects[at];
                let then = Arc::clone(&timeline.0[timeline.get(moment)?].tree);
                let before = tree.clone();
                match paths.is_empty() {
                    true => *tree = Tree::clone(&then),
                    false => tree.restore_paths(&then, paths)?,
                }
                let (entry, held_by) = timeline.before_restore(&before, !paths.is_empty());
                Ok(Effect { entry, held_by, ..Effect::on(at) })
            }
            Command::Fork { slug, at: moment, name, count } => {
                let source = self.get(slug)?;
                let Project { timeline, tree, id, .. } = &self.projects[source];
                let entry = moment.as_ref().map(|moment| timeline.get(moment)).transpose()?;
                let entry = entry.map(|entry| &timeline.0[entry]);
                let tree = entry.map_or_else(|| tree.clone(), |entry| Tree::clone(&entry.tree));
                let from = (id.clone(), entry.map(|entry| entry.id.clone()));
                let names = self.fork_names(slug, name.as_deref(), *count)?;
                let mut made = Vec::new();
                for name in names {
                    let fork = self.add(&name, tree.clone());
                    self.projects[fork].forked_from = Some(from.clone());
                    made.push(fork);
                }
                let touched = made.iter().copied().chain([source]).collect();
                Ok(Effect { touched, made, ..Effect::default() })
            }
            Command::Rename { slug, to } => {
                let at = self.get(slug)?;
                if to != slug {
                    self.refuse_name(to)?;
                }
                self.projects[at].slug.clone_from(to);
                Ok(Effect::on(at))
            }
            Command::RemoveProject { slug } => {
                let at = self.get(slug)?;
                self.removals += 1;
                self.projects[at].trashed = Some(self.removals);
                Ok(Effect::default())
            }
            Command::UndeleteProject { slug } => {
                if !is_lawful_slug(slug) {
                    return Err(Refusal::Invalid);
                }
                let in_trash = self.projects.iter().enumerate();
                let in_trash = in_trash
                    .filter(|(_, project)| project.trashed.is_some() && project.slug == *slug);
                let last = in_trash.max_by_key(|(_, project)| project.trashed).map(|(at, _)| at);
                let at = last.ok_or(Refusal::NotFound)?;
                self.refuse_name(slug)?;
                self.projects[at].trashed = None;
                Ok(Effect::on(at))
            }
            Command::RemoveEntry { slug, at } => {
                self.entry(slug, |timeline| timeline.trash(at).map(|entry| (entry, Vec::new())))
            }
            Command::UndeleteEntry { slug, at } => self.entry(slug, |timeline| {
                timeline.undelete(at, keep).map(|entry| (entry, Vec::new()))
            }),
            Command::Pin { slug, at, pinned } => {
                self.entry(slug, |timeline| timeline.pin(at, *pinned, keep))
            }
            Command::Label { slug, at, label } => self.entry(slug, |timeline| {
                timeline.label(at, label.as_deref()).map(|entry| (entry, Vec::new()))
            }),
        }
    }

    fn edit(
        &mut self,
        slug: &str,
        edit: impl FnOnce(&mut Tree) -> Result<(), Refusal>,
    ) -> Result<Effect, Refusal> {
        let at = self.get(slug)?;
        edit(&mut self.projects[at].tree)?;
        Ok(Effect::on(at))
    }

    fn entry(
        &mut self,
        slug: &str,
        edit: impl FnOnce(&mut Timeline) -> Result<(usize, Vec<usize>), Refusal>,
    ) -> Result<Effect, Refusal> {
        let at = self.get(slug)?;
        let (entry, rolled_off) = edit(&mut self.projects[at].timeline)?;
        Ok(Effect { rolled_off, ..Effect::entry(at, entry) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(world: &mut World, command: Command) -> Vec<String> {
        let made = world.apply(&command).unwrap().made;
        made.into_iter().map(|at| world.projects[at].slug.clone()).collect()
    }

    fn fork(slug: &str, name: Option<&str>, count: Option<u32>) -> Command {
        let (slug, name) = (slug.to_owned(), name.map(ToOwned::to_owned));
        Command::Fork { slug, at: None, name, count }
    }

    #[test]
    fn forks_take_the_first_free_names_all_or_none() {
        let mut world = World::new(3);
        done(&mut world, Command::New { slug: "a".into(), from: None });
        assert_eq!(done(&mut world, fork("a", None, None)), ["a-1"]);
        assert_eq!(done(&mut world, fork("a", Some("a-3"), None)), ["a-3"]);
        assert_eq!(done(&mut world, fork("a", None, Some(2))), ["a-2", "a-4"]);
        let refused = world.apply(&fork("a", Some("a"), Some(2))).unwrap_err();
        assert_eq!(refused, Refusal::AlreadyExists);
        assert_eq!(world.live().len(), 5);
        assert_eq!(world.apply(&fork("a", None, Some(0))).unwrap_err(), Refusal::Invalid);
        assert_eq!(world.apply(&fork("b", None, None)).unwrap_err(), Refusal::NotFound);
    }

    #[test]
    fn a_project_comes_back_only_under_a_name_that_is_free() {
        let mut world = World::new(3);
        let slug = || "a".to_owned();
        done(&mut world, Command::New { slug: slug(), from: None });
        done(&mut world, Command::RemoveProject { slug: slug() });
        done(&mut world, Command::New { slug: slug(), from: None });
        let back = Command::UndeleteProject { slug: slug() };
        assert_eq!(world.apply(&back).unwrap_err(), Refusal::AlreadyExists);
        done(&mut world, Command::Rename { slug: slug(), to: "b".into() });
        assert_eq!(world.apply(&back).unwrap().touched, [0]);
        assert_eq!(world.trash(), Vec::<String>::new());
    }
}
