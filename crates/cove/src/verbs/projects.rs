//! Projects: made, listed, shown, forked, renamed, removed and brought back.

use std::path::Path;

use cove_client::{Breaker, ClientError, Finished, Wait};
use cove_types::wire::{self, ProjectReply, ProjectsReply};
use cove_types::{At, Durability, ErrorKind, ProjectReference, Slug};
use serde_json::{Value, json};

use super::waiting::{Followed, UNCHANGED};
use super::{Session, entry, parse};
use crate::args::WaitFlags;
use crate::copy;
use crate::environment;
use crate::failure::Failure;
use crate::output;
use crate::render;

impl Session {
    pub(super) async fn create(
        &self,
        name: &str,
        from: Option<&Path>,
        volume: Option<&str>,
        quota: Option<u64>,
        flags: WaitFlags,
    ) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let volume = match volume {
            Some(volume) => Some(self.resolve(volume).await?),
            None => None,
        };
        let volume = volume.as_ref();
        let followed = Followed {
            project: Some(&slug),
            goes_on: format!(
                "{slug} is on this node and goes on being saved: `cove wait {slug}` waits for it"
            ),
            before: format!("`cove show {slug}` says whether it was made"),
            unsent: match from {
                Some(_) => "what was copied so far is dropped, nothing was made",
                None => UNCHANGED,
            },
            stream: from.is_some().then(Breaker::default),
            waits: None,
        };
        let (client, slug_) = (&self.client, &slug);
        let breaker = followed.stream.clone().unwrap_or_default();
        let reply = self
            .follow(flags, &followed, |until, pace, bar| async move {
                let mut progress = |operation: &wire::Operation| bar.operation(operation);
                let wait = Wait { until, pace, progress: &mut progress };
                let Some(directory) = from else {
                    return Ok(client.create(slug_, volume, quota, wait).await?.reply);
                };
                // A name that is taken is better said before gigabytes are sent.
                client.health().await?;
                match client.show(slug_).await {
                    Ok(_) => {
                        let what = format!("a project named {slug_} exists already");
                        return Err(Failure::new(ErrorKind::AlreadyExists, what)
                            .hint("pick another name, or `cove rename` or `cove rm` that one"));
                    }
                    // Somebody else makes it, or what was interrupted is being cleared away.
                    Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::Conflict => {
                        return Err(Failure::from(&*problem));
                    }
                    Err(_) => {}
                }
                let leave_out = environment::identities(&environment::own_directories());
                let packing_bar = bar.clone();
                let (upload, packing) =
                    copy::pack_directory(directory, leave_out, breaker, &packing_bar)?;
                let call = client.create_from(slug_, quota, upload, wait).await;
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

    pub(super) async fn list(&self, trashed: bool) -> Result<(), Failure> {
        let reply = self.client.list(trashed).await?;
        let slugs = reply.projects.iter().map(|project| project.slug.clone());
        self.output.show(&reply, slugs, || match (reply.projects.is_empty(), trashed) {
            (true, _) => String::new(),
            (false, true) => render::trash(&reply.projects, self.env.now()),
            (false, false) => render::projects(&reply.projects, self.env.now()),
        })?;
        for remark in &reply.remarks {
            output::warn(&crate::failure::printable(remark));
        }
        match (reply.projects.is_empty(), trashed) {
            (true, _) if !reply.remarks.is_empty() => {}
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

    pub(super) async fn show(&self, name: &str) -> Result<(), Failure> {
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

    pub(super) async fn path(&self, name: &str) -> Result<(), Failure> {
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

    pub(super) async fn fork(
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
        let text = match &slugs[..] {
            [one] => self.bare(one),
            all => all.iter().map(|slug| format!("{slug}\n")).collect(),
        };
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
            let forked = match slugs.len() {
                1 => first.clone(),
                number => format!("{number} projects"),
            };
            let path = format!("  cd \"$(cove path {first})\"");
            self.output.say(&format!("forked {forked} from {from}, {state}\n{path}"));
        }
        Ok(())
    }

    pub(super) async fn rename(&self, name: &str, to: &str) -> Result<(), Failure> {
        let (slug, to): (Slug, Slug) = (parse(name)?, parse(to)?);
        let call = async { Ok(self.client.rename(&slug, &to).await?) };
        let reply = self.wait_for(&Followed::stored(&slug), call).await?;
        self.show_project(&reply, &format!("{slug} is {to} now"))
    }

    /// Moves what is named to the trash, one after the other; the first that fails ends it.
    pub(super) async fn remove(&self, names: &[String]) -> Result<(), Failure> {
        let removed =
            names.iter().map(|name| Removed::read(name)).collect::<Result<Vec<_>, _>>()?;
        let mut replies = Vec::new();
        for (at, one) in removed.iter().enumerate() {
            let reply = self.remove_one(one, removed.len() > 1 && self.output.is_json()).await;
            match reply {
                Ok(reply) => replies.push(reply),
                Err(failure) => {
                    if let left @ [_, ..] = &names[at + 1..] {
                        output::warn(&format!("not removed either: {}", left.join(", ")));
                    }
                    if names.len() > 1 {
                        self.output.show_json(&json!({ "removed": replies }))?;
                    }
                    return Err(failure);
                }
            }
        }
        match names.len() {
            1 => Ok(()),
            _ => self.output.show_json(&json!({ "removed": replies })),
        }
    }

    /// Moves one to the trash, and shows that unless it is one result `of_many`.
    async fn remove_one(&self, removed: &Removed, of_many: bool) -> Result<Value, Failure> {
        let unreadable =
            |error: serde_json::Error| Failure::new(ErrorKind::Internal, error.to_string());
        match removed {
            Removed::Entry(reference) => {
                let reply = self.remove_entry(reference, of_many).await?;
                serde_json::to_value(reply).map_err(unreadable)
            }
            Removed::Project(slug) => {
                let call = async { Ok(self.client.trash(slug).await?) };
                let reply = self.wait_for(&Followed::stored(slug), call).await?;
                if !of_many {
                    self.show_project(
                        &reply,
                        &format!(
                            "{slug} is in the trash for 7 days: `cove undelete {slug}` brings it back"
                        ),
                    )?;
                }
                serde_json::to_value(reply).map_err(unreadable)
            }
        }
    }

    pub(super) async fn undelete(&self, name: &str) -> Result<(), Failure> {
        let reference: ProjectReference = parse(name)?;
        let at = Some(&reference.at).filter(|at| **at != At::Now);
        let project = &reference.project;
        let call = async { Ok(self.client.undelete(project, at).await?) };
        let reply = self.wait_for(&Followed::stored(project), call).await?;
        let line = match &reply.entry {
            Some(entry) if entry.pinned => {
                format!("entry {} is back, pinned so that it stays", entry.id)
            }
            Some(entry) => format!("entry {} is back", entry.id),
            None => format!("{} is back", reply.project.slug),
        };
        // Whoever asks for an entry is given that.
        let back = reply.entry.as_ref().map_or(&reply.project.slug, |entry| &entry.id);
        self.show_project_as(&reply, back, &line)
    }

    pub(super) async fn wait(&self, name: &str) -> Result<(), Failure> {
        let slug: Slug = parse(name)?;
        let (client, slug_) = (&self.client, &slug);
        let unsent = "saving goes on";
        let followed = Followed { unsent, ..Followed::of(&slug, unsent.into(), unsent.into()) };
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
}

/// What is moved to the trash.
enum Removed {
    Project(Slug),
    Entry(ProjectReference),
}

impl Removed {
    fn read(written: &str) -> Result<Self, Failure> {
        match written.contains('@') {
            true => entry(written).map(Self::Entry),
            false => parse(written).map(Self::Project),
        }
    }
}
