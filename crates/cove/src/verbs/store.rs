//! The store and Cove itself: stopped, recovered, checked.

use std::process::ExitCode;
use std::time::Duration;

use cove_client::{ClientError, VerifyRequest, Wait};
use cove_types::wire;
use cove_types::{Classify, ErrorKind};
use rustix::io::Errno;
use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::waiting::{Followed, SAY_AFTER};
use super::{Session, parse};
use crate::args::WaitFlags;
use crate::environment::{self, LOCK, NODE_LOCK};
use crate::failure::Failure;
use crate::output;
use crate::render;

/// How often, every 50 ms, it is looked whether Cove has ended.
const STOP_LOOKS: u32 = 600;
/// After how many of these looks one that does not answer is sent a signal.
const SIGNAL_AFTER: u32 = 40;

/// Sends the signal TERM to those who hold one lock of this user's home and not another.
fn end_holders(lock: &str, but_of: Option<&str>) -> Result<(), Failure> {
    let home = environment::home()?;
    let others = but_of.map(|lock| environment::holders(&home, lock)).unwrap_or_default();
    let mut holders = environment::holders(&home, lock);
    holders.retain(|process| !others.contains(process));
    for process in holders {
        match kill_process(process, Signal::TERM) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                let what =
                    format!("process {} of Cove cannot be asked to end", process.as_raw_nonzero());
                return Err(Failure::io(what, &error.into()).hint("ask as the user who started it"));
            }
        }
    }
    Ok(())
}

impl Session {
    pub(super) async fn down(&self) -> Result<(), Failure> {
        if !self.ask_to_end().await? {
            let home = environment::home()?;
            self.output.show(&json!({ "stopped": null }), [], String::new)?;
            self.output.say(&format!("no Cove is running in {}", home.display()));
            return Ok(());
        }
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

    /// Asks the Cove that runs to end, and the node of this home, where that is another process; `false` when nothing
    /// runs here. One that begins or ends just now does not answer, and is asked until it does or is gone; one that
    /// goes on not answering, as a Hub does that waits for a node, is sent a signal.
    async fn ask_to_end(&self) -> Result<bool, Failure> {
        let is_local = environment::is_local();
        for look in 0..STOP_LOOKS {
            match self.client.down().await {
                Ok(()) if is_local => {
                    return end_holders(NODE_LOCK, Some(LOCK)).map(|()| true);
                }
                Ok(()) => return Ok(true),
                Err(ClientError::Unreachable { .. }) if is_local => {}
                Err(error) => return Err(error.into()),
            }
            if !environment::is_running() {
                return Ok(look > SIGNAL_AFTER);
            }
            if look == SIGNAL_AFTER {
                end_holders(LOCK, None)?;
                end_holders(NODE_LOCK, Some(LOCK))?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let what = "Cove is starting or ending, and has not answered within 30 s";
        Err(Failure::new(ErrorKind::TimedOut, what).hint("see the end of cove.log in its home"))
    }

    pub(super) async fn recover(&self, take: bool) -> Result<ExitCode, Failure> {
        let client = &self.client;
        // What is here and this Cove's is left alone, and not what was recovered.
        let before = client.list(false).await?.projects;
        let volumes_before = client.volumes().await.map(|reply| reply.volumes).unwrap_or_default();
        let reply = self
            .follow(
                WaitFlags::default(),
                &Followed::work("recovering goes on"),
                |until, pace, bar| async move {
                    let mut looking = Looking::default();
                    let mut progress = |operation: &wire::Operation| {
                        bar.show(&recovering(&operation.progress));
                        let is_long = looking.is_long(&operation.progress, self.env.since_boot());
                        if is_long && !self.output.is_quiet() {
                            bar.say(MEANWHILE);
                        }
                    };
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
        let here = reply.projects.iter().filter(|one| is_left_alone(&before, one, &reply.rebuilt));
        let here = here.count();
        if !reply.projects.is_empty() || reply.volumes > 0 || reply.lost.is_empty() {
            let is_here = |was: &&wire::Volume| was.project.is_none() && was.path.is_some();
            let volumes_here = volumes_before.iter().filter(is_here).count() as u64;
            let here =
                render::Number { projects: here as u64, volumes: volumes_here.min(reply.volumes) };
            let back = render::Number {
                projects: reply.projects.len() as u64 - here.projects,
                volumes: reply.volumes - here.volumes,
            };
            self.output.say(&render::recovered(back, here));
        }
        for rebuilt in &reply.rebuilt {
            let line = render::rebuilt(rebuilt, self.env.now());
            self.output.say(&crate::failure::printable(&line));
        }
        for lost in &reply.lost {
            let line = format!("not recovered: {}: {}", lost.what, lost.why);
            output::warn(&crate::failure::printable(&line));
        }
        Ok(found(reply.lost.is_empty(), ErrorKind::Corrupt))
    }

    pub(super) async fn verify(
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
        let level = level.unwrap_or(VERIFY_LEVEL);
        self.output.show(&reply, ids, || render::verify(&reply, level))?;
        if let Some(left) = render::not_verified(level) {
            self.output.say(left);
        }
        Ok(found(reply.problems.is_empty(), ErrorKind::Corrupt))
    }

    pub(super) async fn doctor(&self) -> Result<ExitCode, Failure> {
        let reply = self.client.doctor().await?;
        let failed = reply.checks.iter().filter(|check| !check.ok).map(|check| check.name.clone());
        self.output.show(&reply, failed, || render::checks(&reply.checks))?;
        Ok(found(reply.checks.iter().all(|check| check.ok), ErrorKind::Precondition))
    }
}

/// How deep the server looks when it is told nothing.
const VERIFY_LEVEL: u8 = 1;

/// Whether a recovery left a project alone: its files were here, the store was this Cove's, and its
/// head was there.
fn is_left_alone(
    before: &[wire::Project],
    after: &wire::Project,
    rebuilt: &[wire::Rebuilt],
) -> bool {
    let is_here = |was: &wire::Project| {
        was.id == after.id && was.path.is_some() && was.health.store != "held_by_another"
    };
    before.iter().any(is_here) && rebuilt.iter().all(|anew| anew.volume != after.volume)
}

/// What is said when the look for lost projects takes long.
const MEANWHILE: &str = "looking for lost projects; those that came back can be used meanwhile";

/// The look for lost projects, as its progress tells.
#[derive(Default)]
struct Looking {
    since: Option<Duration>,
    is_told: bool,
}

impl Looking {
    /// Whether it takes long by now; once.
    fn is_long(&mut self, progress: &wire::Progress, now: Duration) -> bool {
        if self.is_told || progress.step != wire::LOOKING_FOR_LOST {
            return false;
        }
        self.is_told = now.saturating_sub(*self.since.get_or_insert(now)) >= SAY_AFTER;
        self.is_told
    }
}

/// How far a recovery is, as the bar shows a step.
fn recovering(progress: &wire::Progress) -> wire::Progress {
    wire::Progress { step: progress.of_recovery(), ..wire::Progress::default() }
}

/// The exit status of a check: success only when all is well.
fn found(is_well: bool, kind: ErrorKind) -> ExitCode {
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Failure::new(kind, "").exit_code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_whose_head_was_put_again_was_not_left_alone() {
        let project = |volume: &str, path: Option<&str>, store: &str| -> wire::Project {
            let health = json!({
                "state": "ok", "node": "node-a", "saved_at": null, "unsaved_bytes": 0,
                "store": store, "last_verify": null, "not_captured": [],
                "not_captured_count": 0, "problems": [],
            });
            let project = json!({
                "name": "shop", "slug": "shop", "id": "prj-a", "volume": volume, "path": path,
                "forked_from": null, "durability": "saved", "saved_at": null,
                "saved_to": "this_disk", "unsaved_bytes": 0,
                "bytes": { "logical": 0, "unique": 0, "shared": 0 }, "health": health,
                "state": "live", "created_at": "", "trashed_at": null, "seq": 1, "entries": 1,
            });
            serde_json::from_value(project).unwrap()
        };
        let rebuilt = |volume: &str| wire::Rebuilt {
            project: "shop".into(),
            volume: volume.into(),
            lost_volume: "vol-a".into(),
            recorded_at: String::new(),
        };
        let here = project("vol-a", Some("/pool/volumes/vol-a"), "reachable");
        let is_left = |before: &wire::Project, rebuilt: &[wire::Rebuilt]| {
            is_left_alone(std::slice::from_ref(before), &here, rebuilt)
        };
        assert!(is_left(&here, &[]));
        assert!(is_left(&here, &[rebuilt("vol-b")]), "it was another's head");
        assert!(!is_left(&here, &[rebuilt("vol-a")]));
        assert!(!is_left(&project("vol-a", None, "unknown"), &[]));
        assert!(!is_left(&project("vol-a", Some("/p"), "held_by_another"), &[]));
        assert!(!is_left_alone(&[], &here, &[]));
    }
}
