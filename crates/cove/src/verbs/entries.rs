//! The timeline of a project: kept, listed, compared, gone back to, named.

use std::ffi::OsString;
use std::path::Path;

use cove_client::Wait;
use cove_types::wire;
use cove_types::{At, EntryState, ErrorKind, Label, ProjectReference, Slug, TreePath};

use super::waiting::Followed;
use super::{Session, entry, parse};
use crate::args::WaitFlags;
use crate::copy;
use crate::environment;
use crate::failure::Failure;
use crate::render;

impl Session {
    pub(super) async fn snapshot(
        &self,
        name: &str,
        message: Option<&str>,
        label: Option<&str>,
        flags: WaitFlags,
    ) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let label: Option<Label> = label.map(parse).transpose()?;
        let saved_to = self.client.show(&slug).await?.project.saved_to;
        let (client, slug_, label_) = (&self.client, &slug, label.as_ref());
        let followed = Followed::of(
            &slug,
            format!("the entry is being saved, `cove wait {slug}` goes on waiting"),
            format!("once the entry is captured, `cove wait {slug}` waits until it is saved"),
        );
        let reply = self
            .follow(flags, &followed, |until, pace, bar| async move {
                let mut progress = |operation: &wire::Operation| bar.operation(operation);
                let wait = Wait { until, pace, progress: &mut progress };
                Ok(client.snapshot(slug_, message, label_, wait).await?.reply)
            })
            .await?;
        let line = render::entry(&reply.entry, &saved_to);
        self.show_entry(&slug, &reply, &line)
    }

    pub(super) async fn timeline(&self, name: &str, all: bool) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let reply = self.client.timeline(&slug, all).await?;
        let ids = reply.entries.iter().map(|entry| entry.id.clone());
        self.output.show(&reply, ids, || match reply.entries.is_empty() {
            true => String::new(),
            false => render::timeline(&reply.entries, self.env.now(), render::terminal_width()),
        })?;
        if reply.entries.is_empty() {
            self.output.say(&format!(
                "no entries yet; keep the present state with `cove snapshot {slug} -m \"…\"`"
            ));
        }
        Ok(())
    }

    pub(super) async fn diff(
        &self,
        written: &[String],
        paths: &[OsString],
        stat: bool,
        name_status: bool,
    ) -> Result<(), Failure> {
        if !paths.is_empty() {
            let what = "a difference is of whole projects, paths are not supported";
            return Err(Failure::new(ErrorKind::Invalid, what).hint(
                "leave out what stands behind `--`; `cove diff … | grep PATH` looks for one",
            ));
        }
        let (before, after) = moments(written)?;
        let call = async {
            let sides = ((&before.project, &before.at), (&after.project, &after.at));
            Ok(self.client.diff(sides.0, sides.1).await?)
        };
        let reply = self.wait_for(&Followed::asked(&after.project), call).await?;
        let paths = reply.changes.iter().map(|change| change.path.clone());
        self.output.show(&reply, paths, || {
            match (reply.changes.is_empty(), stat, name_status) {
                (true, ..) => String::new(),
                (_, true, _) => render::stat(&reply.changes),
                (_, _, true) => render::name_status(&reply.changes),
                _ => render::changes(&reply.changes),
            }
        })?;
        if reply.changes.is_empty() {
            self.output.say("no difference");
        }
        Ok(())
    }

    pub(super) async fn restore(
        &self,
        name: &str,
        behind: Option<&str>,
        paths: &[OsString],
        force: bool,
        flags: WaitFlags,
    ) -> Result<(), Failure> {
        let ProjectReference { project: slug, at } = entry_to_restore(name, behind)?;
        let paths = paths
            .iter()
            .map(|path| TreePath::parse(&copy::text(path)))
            .collect::<Result<Vec<_>, _>>()?;
        let (client, slug_, at_, paths_) = (&self.client, &slug, &at, &paths);
        let followed = Followed::of(
            &slug,
            format!("{slug} is restored and being saved, `cove wait {slug}` goes on waiting"),
            format!("the restore goes on, `cove wait {slug}` waits for it"),
        );
        let here = std::env::current_dir().ok();
        let reply = self
            .follow(flags, &followed, |until, pace, bar| async move {
                let mut progress = |operation: &wire::Operation| bar.operation(operation);
                let wait = Wait { until, pace, progress: &mut progress };
                Ok(client.restore(slug_, at_, paths_, force, wait).await?.reply)
            })
            .await?;
        let what = match paths.len() {
            0 => slug.to_string(),
            number => format!("{} of {slug}", render::count(number as u64, "path", "paths")),
        };
        let before = match &reply.entry {
            Some(before) => format!(
                "\nthe state before is entry {0}: `cove restore {slug}@{0}` goes back to it",
                before.id
            ),
            None => String::new(),
        };
        let state = render::state(&reply.project);
        self.show_project(&reply, &format!("restored {what} from {at}, {state}{before}"))?;
        let root = reply.project.path.as_deref().filter(|_| environment::is_local());
        if let (Some(here), Some(root)) = (here, root)
            && is_left_behind(&here, Path::new(root))
        {
            let enter = match here.exists() && here.starts_with(root) {
                true => "cd .".to_owned(),
                false => format!("cd \"$(cove path {slug})\""),
            };
            self.output.say(&format!(
                "you are still among the files from before: `{enter}` enters those of now"
            ));
        }
        Ok(())
    }

    pub(super) async fn pin(&self, written: &str, pinned: bool) -> Result<(), Failure> {
        let reference = entry(written)?;
        let project = &reference.project;
        let call = async { Ok(self.client.pin(project, &reference.at, pinned).await?) };
        let reply = self.wait_for(&Followed::stored(project), call).await?;
        let id = &reply.entry.id;
        let line = match pinned {
            true => format!("entry {id} is pinned: retention leaves it alone"),
            false if reply.entry.state == EntryState::Trashed => {
                format!("entry {id} is not pinned any more, and was one over the number")
            }
            false => format!("entry {id} is not pinned any more: retention counts it again"),
        };
        self.show_entry(&reference.project, &reply, &line)
    }

    pub(super) async fn label(&self, written: &str, label: Option<&str>) -> Result<(), Failure> {
        let reference = entry(written)?;
        let label: Option<Label> = label.map(parse).transpose()?;
        let project = &reference.project;
        let labels = |entry: &wire::Entry| (entry.id.clone(), entry.label.clone());
        let call = async {
            let before = self.client.timeline(project, true).await?.entries;
            let before: Vec<_> = before.iter().map(labels).collect();
            Ok((before, self.client.label(project, &reference.at, label.as_ref()).await?))
        };
        let (before, reply) = self.wait_for(&Followed::stored(project), call).await?;
        let old = before.into_iter().find(|(id, _)| *id == reply.entry.id);
        let old =
            old.and_then(|(_, old)| old).filter(|old| Some(old) != reply.entry.label.as_ref());
        let was = old.map(|old| format!(", was {project}@{old}")).unwrap_or_default();
        let line = match &label {
            Some(label) => format!("entry {} is {project}@{label} now{was}", reply.entry.id),
            None => format!("entry {} has no label any more{was}", reply.entry.id),
        };
        self.show_entry(project, &reply, &line)
    }

    /// Moves an entry to the trash, and shows that unless it is one result `of_many`.
    pub(super) async fn remove_entry(
        &self,
        reference: &ProjectReference,
        of_many: bool,
    ) -> Result<wire::EntryReply, Failure> {
        let project = &reference.project;
        let call = async { Ok(self.client.trash_entry(project, &reference.at).await?) };
        let reply = self.wait_for(&Followed::stored(project), call).await?;
        let id = &reply.entry.id;
        let line = format!(
            "entry {id} is in the trash for 7 days: `cove undelete {project}@{id}` brings it back"
        );
        if !of_many {
            self.show_entry(project, &reply, &line)?;
        }
        Ok(reply)
    }
}

/// The entry to go back to: NAME@x, or NAME and the entry in a word of its own.
fn entry_to_restore(name: &str, behind: Option<&str>) -> Result<ProjectReference, Failure> {
    match (name.split_once('@'), behind) {
        (Some(_), None) => entry(name),
        (None, Some(behind)) => {
            let at = behind.strip_prefix('@').unwrap_or(behind);
            Ok(ProjectReference { project: parse(name)?, at: parse(at)? })
        }
        (Some((project, at)), Some(behind)) => {
            let what = format!("two entries are named, {at} and {behind}");
            Err(Failure::new(ErrorKind::Invalid, what).hint(format!(
                "one is restored: `cove restore {project}@{at}`; paths stand behind `--`"
            )))
        }
        (None, None) => {
            let slug: Slug = parse(name)?;
            Err(Failure::new(ErrorKind::Invalid, "an entry is missing").hint(format!(
                "such as `cove restore {slug}@~1`; `cove timeline {slug}` lists the entries"
            )))
        }
    }
}

/// The two sides of a difference: `A..B`, `A B`, or `A` and, as git has it, `A..` against its present
/// state. Of an entry whose label ends with two dots both sides are written, in two words.
fn moments(written: &[String]) -> Result<(ProjectReference, ProjectReference), Failure> {
    match written {
        [before, after] => Ok((parse(before)?, parse(after)?)),
        [one] => {
            // A label may hold dots, a name may not, so at most one split is two references.
            let pair = one
                .match_indices("..")
                .find_map(|(at, _)| Some((one[..at].parse().ok()?, one[at + 2..].parse().ok()?)));
            if let Some(pair) = pair {
                return Ok(pair);
            }
            let before: ProjectReference = parse(one.strip_suffix("..").unwrap_or(one))?;
            if before.at == At::Now {
                let project = &before.project;
                return Err(Failure::new(ErrorKind::Invalid, "a difference has two sides")
                    .hint(format!("such as `cove diff {project}@~1..{project}`")));
            }
            let after = ProjectReference { project: before.project.clone(), at: At::Now };
            Ok((before, after))
        }
        _ => Err(Failure::new(ErrorKind::Invalid, "a difference has two sides")),
    }
}

/// Whether who was in the directory `here` before a restore is among replaced files now: in a
/// project's old directory under the name that the new one has, or where replaced ones go.
fn is_left_behind(here: &Path, root: &Path) -> bool {
    if here.starts_with(root) {
        let identity = |path: &Path| environment::identities(&[path.to_owned()]);
        return identity(Path::new(".")) != identity(here);
    }
    // <pool>/volumes/<volume>/files
    root.ancestors().nth(3).is_some_and(|pool| here.starts_with(pool.join("trash")))
}

#[cfg(test)]
mod tests;
