//! The verbs: what each asks of Cove and what it shows.

mod entries;
mod files;
mod projects;
mod store;
mod volumes;
mod waiting;

use std::process::ExitCode;
use std::str::FromStr;

use cove_client::Client;
use cove_env::Env;
use cove_types::wire::{EntryReply, ProjectReply};
use cove_types::{At, ErrorKind, ParseError, ProjectReference, Slug};

use crate::args::{Verb, VolumeVerb};
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
            Verb::New { name, from, volume, quota, wait } => {
                self.create(&name, from.as_deref(), volume.as_deref(), quota, wait).await?;
            }
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
            Verb::Diff { moments, stat, name_status, paths } => {
                self.diff(&moments, &paths, stat, name_status).await?;
            }
            Verb::Fork { source, name, count, wait } => {
                self.fork(&source, name.as_deref(), count, wait).await?;
            }
            Verb::Restore { name, entry, force, wait, paths } => {
                self.restore(&name, entry.as_deref(), &paths, force, wait).await?;
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
            Verb::Rm { names } => self.remove(&names).await?,
            Verb::Undelete { name } => self.undelete(&name).await?,
            Verb::Wait { name } => self.wait(&name).await?,
            Verb::Recover { take } => return self.recover(take).await,
            Verb::Verify { name, level, read } => {
                return self.verify(name.as_deref(), level, read).await;
            }
            Verb::Volume { verb: VolumeVerb::Ls } => self.volumes().await?,
            Verb::Volume { verb: VolumeVerb::Status { volume } } => self.volume(&volume).await?,
            Verb::Doctor => return self.doctor().await,
            // They need no Cove that runs, and the program does them itself.
            Verb::Up(_)
            | Verb::Hub(_)
            | Verb::Node(_)
            | Verb::Completions { .. }
            | Verb::Man { .. } => {
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
        self.show_project_as(reply, &reply.project.slug, line)
    }

    /// Shows what became of a project, with what of it was asked for as the result.
    fn show_project_as(
        &self,
        reply: &ProjectReply,
        result: &str,
        line: &str,
    ) -> Result<(), Failure> {
        self.output.show(reply, [result.to_owned()], || self.bare(result))?;
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
            output::warn(&line);
        }
        Ok(())
    }
}
