//! The verbs: what each asks of Cove and what it shows.

mod files;
mod waiting;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use cove_client::{Client, Finished, VerifyRequest, Wait};
use cove_env::Env;
use cove_types::wire::{self, EntryReply, ProjectReply, ProjectsReply};
use cove_types::{
    At, Classify, Durability, EntryState, ErrorKind, Label, ParseError, ProjectReference, Slug,
    TreePath,
};
use serde_json::json;

use self::waiting::Followed;
use crate::args::{Verb, WaitFlags};
use crate::copy;
use crate::environment;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::progress::Bar;
use crate::render;

/// One call of the program.
pub struct Session {
    client: Client,
    output: Output,
    bar: Bar,
    env: Env,
}

/// How often, every 50 ms, it is looked whether Cove has ended.
const STOP_LOOKS: u32 = 600;

/// Reads a value that a person wrote.
fn parse<T: FromStr<Err = ParseError>>(written: &str) -> Result<T, Failure> {
    written.parse().map_err(Failure::from)
}

/// Reads NAME@x where x must be an entry.
fn entry(written: &str) -> Result<ProjectReference, Failure> {
    let reference: ProjectReference = parse(written)?;
    if reference.at == At::Now {
        let project = reference.project;
        let what = format!("{project}@now is the present state, not an entry");
        return Err(Failure::new(ErrorKind::Invalid, what).hint(format!(
            "an entry is written {project}@x; `cove timeline {project}` lists them"
        )));
    }
    Ok(reference)
}

/// The two sides of a difference: `A..B`, `A B`, or `A` against its present state.
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
            let before: ProjectReference = parse(one)?;
            if before.at == At::Now {
                return Err(Failure::new(ErrorKind::Invalid, "a difference has two sides")
                    .hint(format!("such as `cove diff {one}@~1..{one}`")));
            }
            let after = ProjectReference { project: before.project.clone(), at: At::Now };
            Ok((before, after))
        }
        _ => Err(Failure::new(ErrorKind::Invalid, "a difference has two sides")),
    }
}

impl Session {
    /// A session with the Cove that the environment names.
    pub fn new(output: Output) -> Result<Self, Failure> {
        let client = environment::client()?;
        Ok(Self { client, output, bar: Bar::new(output), env: Env::system() })
    }

    /// Does what a verb asks for.
    pub async fn run(&self, verb: Verb) -> Result<ExitCode, Failure> {
        let result = self.dispatch(verb).await;
        self.bar.end();
        result
    }

    async fn dispatch(&self, verb: Verb) -> Result<ExitCode, Failure> {
        match verb {
            Verb::Down => self.down().await?,
            Verb::New { name, from, wait } => self.create(&name, from.as_deref(), wait).await?,
            Verb::Ls => self.list(false).await?,
            Verb::Trash => self.list(true).await?,
            Verb::Show { name } => self.show(&name).await?,
            Verb::Path { name } => self.path(&name).await?,
            Verb::Files(verb) => self.files(verb).await?,
            Verb::Cp { follow_link, archive, source, target } => {
                if archive {
                    let what = "owners are not kept: all of a project belongs to 1000:1000";
                    return Err(Failure::new(ErrorKind::Invalid, what).hint(
                        "leave out -a: modes, times, links and attributes are kept without it",
                    ));
                }
                self.copy(&source, &target, follow_link).await?;
            }
            Verb::Snapshot { name, message, label, wait } => {
                self.snapshot(&name, message.as_deref(), label.as_deref(), wait).await?;
            }
            Verb::Timeline { name, all } => self.timeline(&name, all).await?,
            Verb::Diff { moments, stat, name_status } => {
                self.diff(&moments, stat, name_status).await?;
            }
            Verb::Fork { source, name, count, wait } => {
                self.fork(&source, name.as_deref(), count, wait).await?;
            }
            Verb::Restore { name, entry, force, wait, paths } => {
                self.restore(&name, &entry, &paths, force, wait).await?;
            }
            Verb::Pin { entry } => self.pin(&entry, true).await?,
            Verb::Unpin { entry } => self.pin(&entry, false).await?,
            Verb::Label { entry, label, remove } => {
                if label.is_none() && !remove {
                    let what = "a label is missing";
                    return Err(Failure::new(ErrorKind::Invalid, what).hint(format!(
                        "`cove label {entry} LABEL` names it, `--remove` takes its name away"
                    )));
                }
                self.label(&entry, label.as_deref()).await?;
            }
            Verb::Rename { name, to } => self.rename(&name, &to).await?,
            Verb::Rm { name } => self.remove(&name).await?,
            Verb::Undelete { name } => self.undelete(&name).await?,
            Verb::Wait { name } => self.wait(&name).await?,
            Verb::Recover { take } => return self.recover(take).await,
            Verb::Verify { name, level, read } => {
                return self.verify(name.as_deref(), level, read).await;
            }
            Verb::Doctor => return self.doctor().await,
            // Both need no Cove that runs, and the program does them itself.
            Verb::Up(_) | Verb::Completions { .. } => {
                return Err(Failure::new(ErrorKind::Internal, "this verb asks nothing of Cove"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A name as a result of its own, where the prose beside it does not say it.
    fn bare(&self, name: &str) -> String {
        if self.output.is_one_terminal() { String::new() } else { format!("{name}\n") }
    }

    fn show_project(&self, reply: &ProjectReply, line: &str) -> Result<(), Failure> {
        let slug = reply.project.slug.clone();
        self.output.show(reply, [slug.clone()], || self.bare(&slug))?;
        for remark in &reply.remarks {
            output::warn(&crate::failure::printable(remark));
        }
        self.output.say(line);
        Ok(())
    }

    fn show_entry(&self, project: &Slug, reply: &EntryReply, line: &str) -> Result<(), Failure> {
        let id = reply.entry.id.clone();
        self.output.show(reply, [id.clone()], || self.bare(&id))?;
        self.output.say(line);
        for line in render::rolled_off(project.as_str(), &reply.rolled_off) {
            self.output.say(&line);
        }
        Ok(())
    }

    async fn down(&self) -> Result<(), Failure> {
        self.client.down().await?;
        // Of one by URL no more is known than that nobody answers.
        while !environment::is_local() && self.client.health().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // It lets go of its pool; who starts it again at once must find that done.
        let mut looks = 0;
        while environment::is_local() && environment::is_running() && looks < STOP_LOOKS {
            tokio::time::sleep(Duration::from_millis(50)).await;
            looks += 1;
        }
        if looks == STOP_LOOKS {
            let what = "Cove does not answer any more and has not ended within 30 s";
            return Err(
                Failure::new(ErrorKind::TimedOut, what).hint("see the end of cove.log in its home")
            );
        }
        let address = self.client.address();
        self.output.show(&json!({ "stopped": address }), [], String::new)?;
        self.output
            .say("stopped; everything captured is on this disk, `cove up --detach` starts again");
        Ok(())
    }

    async fn create(
        &self,
        name: &str,
        from: Option<&Path>,
        flags: WaitFlags,
    ) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let followed = Followed {
            project: Some(&slug),
            goes_on: format!(
                "{slug} is on this node and goes on being saved: `cove wait {slug}` waits for it"
            ),
            before: match from {
                Some(_) => "what was copied so far is dropped, nothing was made".to_owned(),
                None => format!("`cove show {slug}` says whether it was made"),
            },
            makes_it: true,
        };
        let (client, slug_) = (&self.client, &slug);
        let reply = self
            .follow(flags, &followed, |until, pace, bar| async move {
                let mut progress = |operation: &wire::Operation| bar.operation(operation);
                let wait = Wait { until, pace, progress: &mut progress };
                let Some(directory) = from else {
                    return Ok(client.create(slug_, wait).await?.reply);
                };
                // A name that is taken is better said before gigabytes are sent.
                client.health().await?;
                if client.show(slug_).await.is_ok() {
                    let what = format!("a project named {slug_} exists already");
                    return Err(Failure::new(ErrorKind::AlreadyExists, what)
                        .hint("pick another name, or `cove rename` or `cove rm` that one"));
                }
                let leave_out = environment::identities(&environment::own_directories());
                let packing_bar = bar.clone();
                let (upload, packing) = copy::pack_directory(directory, leave_out, &packing_bar)?;
                let call = client.create_from(slug_, upload, wait).await;
                let (finished, remarks) = copy::outcome(call, packing).await?;
                let Finished { mut reply, .. } = finished;
                reply.remarks.splice(0..0, remarks);
                Ok(reply)
            })
            .await?;
        let project = &reply.project;
        // How large its tree is comes with saving; what was copied is known before.
        let (_, copied) = self.bar.copied_so_far();
        let size = match project.durability {
            Durability::OnThisNode if project.bytes.logical == 0 => render::size(copied),
            _ => render::size(project.bytes.logical),
        };
        let state = render::state(project);
        let path = project.path.as_deref().map(crate::failure::printable).unwrap_or_default();
        let line = format!(
            "made {slug} ({size}), {state}\nedit its files from now on in {path}\n  \
             cd \"$(cove path {slug})\"\nkeep a state with `cove snapshot {slug} -m \"…\"`"
        );
        self.show_project(&reply, &line)
    }

    async fn list(&self, trashed: bool) -> Result<(), Failure> {
        let reply = self.client.list(trashed).await?;
        let slugs = reply.projects.iter().map(|project| project.slug.clone());
        self.output.show(&reply, slugs, || match (reply.projects.is_empty(), trashed) {
            (true, _) => String::new(),
            (false, true) => render::trash(&reply.projects, self.env.now()),
            (false, false) => render::projects(&reply.projects, self.env.now()),
        })?;
        match (reply.projects.is_empty(), trashed) {
            (true, true) => self.output.say("the trash is empty"),
            (true, false) => {
                self.output.say("no projects yet; make one with `cove new NAME --from DIR`");
            }
            (false, true) => {
                let first = &reply.projects[0].slug;
                self.output.say(&format!("`cove undelete {first}` brings {first} back"));
            }
            (false, false) => {}
        }
        Ok(())
    }

    async fn show(&self, name: &str) -> Result<(), Failure> {
        let reply = self.client.show(&parse(name)?).await?;
        let mut shown = reply.project.clone();
        if let Some(from) = &mut shown.forked_from {
            // People know the source by its name, as long as it is there.
            let projects = self.client.list(false).await?.projects;
            if let Some(source) = projects.into_iter().find(|one| one.id == from.project) {
                from.project = source.slug;
            }
        }
        self.output
            .show(&reply, [reply.project.slug.clone()], || render::project(&shown, self.env.now()))
    }

    async fn path(&self, name: &str) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let reply = self.client.show(&slug).await?;
        let Some(path) = reply.project.path else {
            let what = format!("project {slug} has no copy on this machine");
            return Err(Failure::new(ErrorKind::Precondition, what)
                .hint("`cove doctor` tells why, `cove recover` brings it here"));
        };
        let line = format!("{path}\n");
        self.output.show(&json!({ "path": path }), [path], || line)
    }

    async fn snapshot(
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

    async fn timeline(&self, name: &str, all: bool) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let reply = self.client.timeline(&slug, all).await?;
        let ids = reply.entries.iter().map(|entry| entry.id.clone());
        self.output.show(&reply, ids, || match reply.entries.is_empty() {
            true => String::new(),
            false => render::timeline(&reply.entries, self.env.now()),
        })?;
        if reply.entries.is_empty() {
            self.output.say(&format!(
                "no entries yet; keep the present state with `cove snapshot {slug} -m \"…\"`"
            ));
        }
        Ok(())
    }

    async fn diff(&self, written: &[String], stat: bool, name_status: bool) -> Result<(), Failure> {
        let (before, after) = moments(written)?;
        let reply =
            self.client.diff((&before.project, &before.at), (&after.project, &after.at)).await?;
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

    async fn fork(
        &self,
        source: &str,
        name: Option<&str>,
        count: Option<u32>,
        flags: WaitFlags,
    ) -> Result<(), Failure> {
        let source: ProjectReference = parse(source)?;
        let name: Option<Slug> = name.map(parse).transpose()?;
        let (client, source_, name_) = (&self.client, &source, name.as_ref());
        let wait = name.as_ref().filter(|_| count.is_none());
        let wait = wait.map_or("NAME".to_owned(), ToString::to_string);
        let followed = Followed::of(
            &source.project,
            format!("what was forked is being saved, `cove wait {wait}` goes on waiting"),
            format!("`cove ls` shows what is made, `cove wait {wait}` waits until it is saved"),
        );
        let reply = self
            .follow(flags, &followed, |until, pace, bar| async move {
                let mut progress = |operation: &wire::Operation| bar.operation(operation);
                let wait = Wait { until, pace, progress: &mut progress };
                let call = client.fork(&source_.project, &source_.at, name_, count, wait);
                Ok(call.await?.reply)
            })
            .await?;
        self.show_forks(&source, reply, count)
    }

    fn show_forks(
        &self,
        source: &ProjectReference,
        mut reply: ProjectsReply,
        count: Option<u32>,
    ) -> Result<(), Failure> {
        let slugs: Vec<String> = reply.projects.iter().map(|one| one.slug.clone()).collect();
        let text = slugs.iter().map(|slug| format!("{slug}\n")).collect::<String>();
        let ids = slugs.clone();
        let unsaved = reply.projects.iter().find(|one| one.durability != Durability::Saved);
        let state = unsaved.or(reply.projects.first()).map(render::state).unwrap_or_default();
        match (count, reply.projects.len()) {
            (None, 1) => {
                let project = reply.projects.remove(0);
                let one = ProjectReply { project, entry: None, remarks: Vec::new() };
                self.output.show(&one, ids, || text)?;
            }
            _ => self.output.show(&reply, ids, || text)?,
        }
        let (project, at) = (&source.project, &source.at);
        let from = match at {
            At::Now => project.to_string(),
            at => format!("{project}@{at}"),
        };
        if let Some(first) = slugs.first() {
            let number = render::count(slugs.len() as u64, "project", "projects");
            let path = format!("  cd \"$(cove path {first})\"");
            self.output.say(&format!("forked {number} from {from}, {state}\n{path}"));
        }
        Ok(())
    }

    async fn restore(
        &self,
        name: &str,
        entry: &str,
        paths: &[OsString],
        force: bool,
        flags: WaitFlags,
    ) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let at: At = parse(entry.strip_prefix('@').unwrap_or(entry))?;
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
                "\nthe state before is entry {}: `cove restore {slug} {}` goes back to it",
                before.id, before.id
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

    async fn pin(&self, written: &str, pinned: bool) -> Result<(), Failure> {
        let reference = entry(written)?;
        let reply = self.client.pin(&reference.project, &reference.at, pinned).await?;
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

    async fn label(&self, written: &str, label: Option<&str>) -> Result<(), Failure> {
        let reference = entry(written)?;
        let label: Option<Label> = label.map(parse).transpose()?;
        let project = &reference.project;
        let labels = |entry: &wire::Entry| (entry.id.clone(), entry.label.clone());
        let before = self.client.timeline(project, true).await?.entries;
        let before: Vec<_> = before.iter().map(labels).collect();
        let reply = self.client.label(project, &reference.at, label.as_ref()).await?;
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

    async fn rename(&self, name: &str, to: &str) -> Result<(), Failure> {
        let (slug, to): (Slug, Slug) = (parse(name)?, parse(to)?);
        let reply = self.client.rename(&slug, &to).await?;
        self.show_project(&reply, &format!("{slug} is {to} now"))
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        if name.contains('@') {
            return self.remove_entry(&entry(name)?).await;
        }
        let slug: Slug = parse(name)?;
        let reply = self.client.trash(&slug).await?;
        let line =
            format!("{slug} is in the trash for 7 days: `cove undelete {slug}` brings it back");
        self.show_project(&reply, &line)
    }

    async fn remove_entry(&self, reference: &ProjectReference) -> Result<(), Failure> {
        let project = &reference.project;
        let reply = self.client.trash_entry(project, &reference.at).await?;
        let id = &reply.entry.id;
        let line = format!(
            "entry {id} is in the trash for 7 days: `cove undelete {project}@{id}` brings it back"
        );
        self.show_entry(project, &reply, &line)
    }

    async fn undelete(&self, name: &str) -> Result<(), Failure> {
        let reference: ProjectReference = parse(name)?;
        let at = Some(&reference.at).filter(|at| **at != At::Now);
        let reply = self.client.undelete(&reference.project, at).await?;
        let line = match &reply.entry {
            Some(entry) if entry.pinned => {
                format!("entry {} is back, pinned so that it stays", entry.id)
            }
            Some(entry) => format!("entry {} is back", entry.id),
            None => format!("{} is back", reply.project.slug),
        };
        self.show_project(&reply, &line)
    }

    async fn wait(&self, name: &str) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let (client, slug_) = (&self.client, &slug);
        let followed = Followed::of(&slug, "saving goes on".into(), "saving goes on".into());
        let reply = self
            .follow(WaitFlags::default(), &followed, |_, pace, bar| async move {
                bar.captured();
                let mut progress = |project: &wire::Project| {
                    bar.show(&wire::Progress {
                        step: match project.unsaved_bytes {
                            Some(bytes) => format!("saving, {} to go", render::size(bytes)),
                            None => "saving".to_owned(),
                        },
                        ..wire::Progress::default()
                    });
                };
                Ok(client.wait(slug_, pace, &mut progress).await?)
            })
            .await?;
        let state = render::state(&reply.project);
        let line = match reply.project.durability {
            Durability::Saved => format!("everything captured is {state}"),
            // Something was written since.
            Durability::OnThisNode => "everything captured is saved".to_owned(),
        };
        self.show_project(&reply, &line)
    }

    async fn recover(&self, take: bool) -> Result<ExitCode, Failure> {
        let client = &self.client;
        let reply = self
            .follow(
                WaitFlags::default(),
                &Followed::work("recovering goes on"),
                |until, pace, bar| async move {
                    let mut progress = |operation: &wire::Operation| bar.operation(operation);
                    let wait = Wait { until, pace, progress: &mut progress };
                    let recovered = client.recover(take, wait).await.map_err(|error| {
                        let failure = Failure::from(error);
                        match failure.kind() {
                            ErrorKind::Precondition if !take => failure.hint(
                                "when that Cove is gone for good: `cove recover --take`; one that \
                             still runs stops saving there",
                            ),
                            _ => failure,
                        }
                    })?;
                    Ok(recovered.reply)
                },
            )
            .await?;
        let slugs = reply.projects.iter().map(|project| project.slug.clone());
        self.output.show(&reply, slugs, || match reply.projects.is_empty() {
            true => String::new(),
            false => render::projects(&reply.projects, self.env.now()),
        })?;
        let number = render::count(reply.projects.len() as u64, "project", "projects");
        self.output.say(&format!("{number} recovered"));
        for lost in &reply.lost {
            let line = format!("not recovered: {}: {}", lost.what, lost.why);
            output::warn(&crate::failure::printable(&line));
        }
        Ok(found(reply.lost.is_empty(), ErrorKind::Corrupt))
    }

    async fn verify(
        &self,
        name: Option<&str>,
        level: Option<u8>,
        read: Option<(u32, u32)>,
    ) -> Result<ExitCode, Failure> {
        // A share of the packs is read only where packs are read.
        let level = match (level, read) {
            (None, Some(_)) => Some(2),
            (Some(0 | 1), Some(_)) => {
                return Err(Failure::new(ErrorKind::Invalid, "--read is for --level 2"));
            }
            (level, _) => level,
        };
        let request = VerifyRequest { project: name.map(parse).transpose()?, level, read };
        let (client, request_) = (&self.client, &request);
        let reply = self
            .follow(
                WaitFlags::default(),
                &Followed::work("checking goes on"),
                |until, pace, bar| async move {
                    let mut progress = |operation: &wire::Operation| bar.operation(operation);
                    let wait = Wait { until, pace, progress: &mut progress };
                    Ok(client.verify(request_, wait).await?.reply)
                },
            )
            .await?;
        let ids = reply.problems.iter().map(|problem| problem.what.clone());
        self.output.show(&reply, ids, || render::verify(&reply))?;
        Ok(found(reply.problems.is_empty(), ErrorKind::Corrupt))
    }

    async fn doctor(&self) -> Result<ExitCode, Failure> {
        let reply = self.client.doctor().await?;
        let failed = reply.checks.iter().filter(|check| !check.ok).map(|check| check.name.clone());
        self.output.show(&reply, failed, || render::checks(&reply.checks))?;
        Ok(found(reply.checks.iter().all(|check| check.ok), ErrorKind::Precondition))
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

/// The exit status of a check: success only when all is well.
fn found(is_well: bool, kind: ErrorKind) -> ExitCode {
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Failure::new(kind, "").exit_code()),
    }
}

#[cfg(test)]
mod tests;
